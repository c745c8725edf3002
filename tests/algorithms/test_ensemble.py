"""Reward ensembles: R8."""

from oracle_checks import check_uncertainty_weighting, close, f64

from plaudit.algorithms import ensemble


def test_r8_uncertainty_weighted() -> None:
    check_uncertainty_weighting(ensemble.uncertainty_weighted)


def test_r8_mean_worst_case_and_spread() -> None:
    scores = f64([[1.0, 0.0], [1.2, 0.0], [2.6, 0.0]])
    close(ensemble.mean(scores), [1.6, 0.0])
    close(ensemble.worst_case(scores), [1.0, 0.0])
    close(ensemble.spread(scores) ** 2, [0.50667, 0.0])
