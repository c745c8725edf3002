"""Reward-model losses: R1 to R7, R10, R13 (swap), R14."""

from math import log

import pytest
import torch
from oracle_checks import check_ranking_loss, check_very_wrong_pair, close, f64, gradient, one_pair
from scipy.optimize import minimize_scalar
from torch import Tensor

from plaudit.algorithms import pairs, rewards


def _scores(delta: float) -> Tensor:
    return f64([delta, 0.0]).requires_grad_()


def _losses(delta: float, judged: pairs.Pairs) -> float:
    return float(rewards.bradley_terry(f64([delta, 0.0]), judged).sum())


def _ranking(ranks: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    size = len(ranks)
    return torch.arange(size).unsqueeze(0), torch.tensor([ranks]), torch.ones(1, size).bool()


@pytest.mark.parametrize(("delta", "loss", "slope"), [(0.8, 0.37110, 0.31003), (0.0, log(2), 0.5)])
def test_r1_bradley_terry(delta: float, loss: float, slope: float) -> None:
    scores = _scores(delta)
    found = rewards.bradley_terry(scores, one_pair()).sum()
    close(found, loss)
    close(gradient(found, scores), [-slope, slope])


def test_r2_all_pairs_of_a_ranking() -> None:
    check_ranking_loss(rewards.bradley_terry)


def test_very_wrong_pairs_keep_their_gradient() -> None:
    check_very_wrong_pair(rewards.bradley_terry)


def test_r3_plackett_luce() -> None:
    scores = f64([2.0, 1.0, 0.0]).requires_grad_()
    found = rewards.plackett_luce(scores, *_ranking([1, 2, 3])).sum()
    close(found, 0.72087)
    close(gradient(found, scores), [-0.3348, -0.0242, 0.3590])
    for size, loss in ((3, 1.7918), (4, 3.1781)):
        close(rewards.plackett_luce(torch.zeros(size).double(), *_ranking(list(range(size)))), [loss])
    pair = rewards.plackett_luce(_scores(0.8), *_ranking([1, 2]))
    close(pair, rewards.bradley_terry(_scores(0.8), one_pair()), atol=1e-12)


def test_r4_rao_kupper_and_davidson() -> None:
    zero = f64(0.0)  # theta = 2, nu = 1
    cases = {
        rewards.rao_kupper: ("log_excess", {0.0: (1 / 3,) * 3, 1.0: (0.5761, 0.2685, 0.1554)}),
        rewards.davidson: ("log_nu", {0.0: (1 / 3,) * 3, 1.0: (0.5065, 0.3072, 0.1863)}),
    }
    for loss, (parameter, rows) in cases.items():
        for delta, expected in rows.items():
            found = [
                float((-loss(f64([delta, 0.0]), one_pair(label=q), **{parameter: zero})).exp()) for q in (1.0, 0.5, 0.0)
            ]
            close(f64(found), expected)
            close(sum(found), 1.0, atol=1e-12)


@pytest.mark.parametrize(("loss", "parameter"), [(rewards.rao_kupper, "log_excess"), (rewards.davidson, "log_nu")])
def test_tie_models_without_ties_are_bradley_terry(loss: object, parameter: str) -> None:
    never = {parameter: f64(-60.0)}
    found = loss(f64([0.8, 0.0]), one_pair(), **never)  # type: ignore[operator]
    close(found, rewards.bradley_terry(f64([0.8, 0.0]), one_pair()), atol=1e-12)


@pytest.mark.parametrize(("loss", "parameter"), [(rewards.rao_kupper, "log_excess"), (rewards.davidson, "log_nu")])
def test_tie_models_learn_their_parameter_from_the_share_of_ties(loss: object, parameter: str) -> None:
    """Equal scores, 60 % ties: the fitted parameter reproduces 60 %."""
    judged = [one_pair(label=q, weight=w) for q, w in ((1.0, 0.2), (0.5, 0.6), (0.0, 0.2))]
    together = pairs.concatenate(judged)

    def total(value: float) -> float:
        losses = loss(f64([0.0, 0.0]), together, **{parameter: f64(value)})  # type: ignore[operator]
        return float(pairs.weighted_mean(losses, together, denominator=1))

    best = minimize_scalar(total, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9}).x
    tie = (-loss(f64([0.0, 0.0]), one_pair(label=0.5), **{parameter: f64(best)})).exp()  # type: ignore[operator]
    close(tie, [0.6])


def test_tie_models_refuse_soft_labels_and_margins() -> None:
    with pytest.raises(ValueError, match="not an outcome"):
        rewards.davidson(f64([1.0, 0.0]), one_pair(label=2 / 3), log_nu=f64(0.0))
    with pytest.raises(ValueError, match="no margin"):
        rewards.rao_kupper(f64([1.0, 0.0]), one_pair(margin=1.0), log_excess=f64(0.0))


@pytest.mark.parametrize(
    ("judged", "best", "least"),
    [
        (pairs.smooth(one_pair(), rate=0.1), 2.1972, 0.32508),
        (pairs.smooth(one_pair(), rate=0.25), 1.0986, 0.56234),
        (one_pair(label=0.7), 0.8473, 0.61086),
    ],
)
def test_r5_minimiser_of_smoothed_and_soft_labels(judged: pairs.Pairs, best: float, least: float) -> None:
    scores = _scores(best)
    found = rewards.bradley_terry(scores, judged).sum()
    close(found, least)
    close(gradient(found, scores), [0.0, 0.0])


@pytest.mark.parametrize(("margin", "loss"), [(1, 1.31326), (2 / 3, 1.08104), (1 / 3, 0.87364), (0, log(2))])
def test_r6_margin(margin: float, loss: float) -> None:
    close(_losses(0.0, one_pair(margin=margin)), loss)
    close(_losses(margin, one_pair(margin=margin)), log(2))


@pytest.mark.parametrize("delta", [-2.0, 0.0, 1.5])
def test_debiased_labels_are_right_on_average_over_flips(delta: float) -> None:
    kept, flipped = (pairs.debias(one_pair(label=q), rate=0.2) for q in (1.0, 0.0))
    close(0.8 * _losses(delta, kept) + 0.2 * _losses(delta, flipped), _losses(delta, one_pair()), atol=1e-12)


@pytest.mark.parametrize("rate", [0.5, -0.1])
def test_debias_refuses_labels_without_information(rate: float) -> None:
    with pytest.raises(ValueError, match="flip rates"):
        pairs.debias(one_pair(), rate=rate)


def test_r7_normalisation() -> None:
    scores = f64([1.0, 5.0, 1.0, 5.0])  # mean 3, population standard deviation 2
    gain, bias = rewards.standardise(scores)
    close(torch.stack([gain, bias, gain * 5 + bias]), [0.5, -1.5, 1.0])
    judged = pairs.strict_pairs(torch.tensor([1, 0, 2]), torch.tensor([0, 3, 1]), dtype=torch.float64)
    before, after = pairs.accuracy(scores, judged), pairs.accuracy(gain * scores + bias, judged)
    assert before.correct == after.correct
    gain, bias = rewards.centre(scores)
    close((gain * scores + bias).mean(), 0.0)
    close(gain, 1.0)


def test_equal_scores_have_no_scale() -> None:
    with pytest.raises(ValueError, match="no scale"):
        rewards.standardise(f64([2.0, 2.0]))


@pytest.mark.parametrize(("spread", "ceiling"), [(1, 0.675), (2, 0.778), (3, 0.836)])
def test_r10_bayes_accuracy_on_noisy_labels(spread: float, ceiling: float) -> None:
    """The true scores themselves reach only this accuracy on labels drawn from them. 400,000 pairs: s.e. 0.0008."""
    generator = torch.Generator().manual_seed(0)
    n = 400_000
    scores = torch.zeros(2 * n, dtype=torch.float64)
    scores[:n] = spread * torch.randn(n, generator=generator, dtype=torch.float64)
    label = torch.bernoulli(torch.sigmoid(scores[:n]), generator=generator)
    judged = pairs.strict_pairs(torch.arange(n), torch.arange(n, 2 * n), dtype=torch.float64)._replace(label=label)
    found = pairs.accuracy(scores, judged)
    close(found.correct / found.weight, ceiling, atol=3e-3)


def test_r13_swapping_the_sides() -> None:
    scores = f64([0.3, -1.0, 2.0])
    judged = pairs.strict_pairs(torch.tensor([0, 1]), torch.tensor([1, 2]), dtype=torch.float64)
    swapped = judged._replace(first=judged.second, second=judged.first)
    close(pairs.margins(scores, swapped), -pairs.margins(scores, judged))
    close(pairs.accuracy(scores, judged).correct, 2 - pairs.accuracy(scores, swapped).correct)


def test_r14_equal_scores_count_one_half_and_tied_labels_not_at_all() -> None:
    scores = f64([1.0, 1.0, 0.0])
    judged = pairs.Pairs(
        first=torch.tensor([0, 0, 2, 0, 2]),
        second=torch.tensor([1, 2, 0, 2, 0]),
        label=f64([1.0, 1.0, 1.0, 0.5, 0.3]),
        margin=torch.zeros(5, dtype=torch.float64),
        weight=f64([1.0, 1.0, 1.0, 5.0, 2.0]),
    )
    found = pairs.accuracy(scores, judged)  # tie 1/2, right, wrong, no answer, right (weight 2)
    close(torch.stack(found), [3.5, 5.0])
    close(torch.stack(pairs.strict_accuracy(scores, judged)), [3.0, 5.0])


def test_ties_in_a_ranking_are_soft_labels_and_can_be_dropped() -> None:
    judged = pairs.ranking_pairs(*_ranking([2, 1, 2]), dtype=torch.float64)
    found = {(int(a), int(b)): float(q) for a, b, q in zip(judged.first, judged.second, judged.label, strict=True)}
    assert found == {(1, 0): 1.0, (0, 2): 0.5, (1, 2): 1.0}
    close(judged.weight, [1 / 3] * 3)
    close(pairs.drop_ties(judged).label, [1.0, 1.0])


def test_rankings_of_several_labelers_and_sizes_share_a_batch() -> None:
    """Two labelers rank the same three responses (weight 1/2 each), one ranks two others."""
    judged = pairs.ranking_pairs(
        torch.tensor([[0, 1, 2], [0, 1, 2], [3, 4, 0]]),
        torch.tensor([[1, 2, 3], [3, 2, 1], [2, 1, 0]]),
        torch.tensor([[True] * 3, [True] * 3, [True, True, False]]),
        weight=f64([0.5, 0.5, 1.0]),
        dtype=torch.float64,
    )
    assert judged.first.tolist() == [0, 0, 1, 1, 2, 2, 4]
    assert judged.second.tolist() == [1, 2, 2, 0, 0, 1, 3]
    close(judged.weight, [1 / 6] * 6 + [1.0])
    # The two labelers contradict each other: equal scores are best, and cost ln 2.
    scores = f64([1.0, 1.0, 1.0, 0.0, 0.0]).requires_grad_()
    loss = pairs.weighted_mean(rewards.bradley_terry(scores, judged), judged, denominator=2)
    close(loss, log(2))
    close(gradient(loss, scores)[:3], [0.0, 0.0, 0.0])


def test_weights_of_a_group_sum_to_one() -> None:
    judged = pairs.concatenate([one_pair(weight=w) for w in (1.0, 3.0, 2.0)])
    found = pairs.normalise_weights(judged, torch.tensor([1, 1, 0]), groups=3)
    close(found.weight, [0.25, 0.75, 1.0])
    with pytest.raises(ValueError, match="total weight 0"):
        pairs.normalise_weights(one_pair(weight=0.0), torch.tensor([0]), groups=1)


def test_a_ranking_needs_two_responses() -> None:
    with pytest.raises(ValueError, match="ranking 0 has 1 responses"):
        pairs.ranking_pairs(*_ranking([1]))


def test_tied_plackett_luce_pulls_tied_responses_together() -> None:
    scores = f64([0.7, -0.2, 0.1]).requires_grad_()
    tied = _ranking([1, 1, 2])
    slope = gradient(rewards.plackett_luce(scores, *tied).sum(), scores)
    assert slope[0] > slope[1]  # the higher of the two is pushed down more
    exchanged = rewards.plackett_luce(scores[[1, 0, 2]], *tied)
    close(exchanged, rewards.plackett_luce(scores, *tied), atol=1e-12)


def test_centring_leaves_the_lead_alone() -> None:
    scores = f64([2.0, 1.0]).requires_grad_()
    penalty = rewards.centring(scores, one_pair()).sum()
    close(penalty, 9.0)
    slope = gradient(penalty, scores)
    assert slope[0] == slope[1]
