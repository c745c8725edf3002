"""Calibration: R9, reliability bins and temperature, beside sklearn."""

from math import log

import numpy as np
import pytest
import torch
from oracle_checks import close, f64
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor

from plaudit.algorithms import calibration


def _logit(p: float) -> float:
    return log(p / (1 - p))


def _toy() -> tuple[Tensor, Tensor]:
    """10 pairs at .9 with 8 right, 10 at .6 with 5 right."""
    return f64([_logit(0.9)] * 10 + [_logit(0.6)] * 10), f64([1] * 8 + [0] * 2 + [1] * 5 + [0] * 5)


def _drawn(n: int = 5000, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    delta = 2 * torch.randn(n, generator=generator, dtype=torch.float64)
    return temperature * delta, torch.bernoulli(torch.sigmoid(delta), generator=generator)


def test_r9_error_and_brier_of_the_toy() -> None:
    delta, label = _toy()
    for bins in (calibration.reliability_equal_width, calibration.reliability_equal_mass):
        close(calibration.expected_calibration_error(bins(delta, label, bins=10)), 0.10)
    close(calibration.brier(delta, label), 0.215)


def test_r9_constant_and_perfect_forecasts() -> None:
    close(calibration.brier(f64([0.0] * 4), f64([1, 0, 1, 1])), 0.25)
    close(calibration.brier(f64([_logit(0.7)] * 10), f64([1] * 7 + [0] * 3)), 0.21)


def test_turning_pairs_around_changes_nothing() -> None:
    delta, label = _drawn(500)
    turn = torch.arange(500) % 3 == 0
    turned = torch.where(turn, -delta, delta), torch.where(turn, 1 - label, label)
    for measure in (calibration.brier, calibration.negative_log_likelihood):
        close(measure(*turned), measure(delta, label), atol=1e-12)
    for bins in (calibration.reliability_equal_width, calibration.reliability_equal_mass):
        for a, b in zip(bins(*turned, bins=7), bins(delta, label, bins=7), strict=True):
            close(a, b, atol=1e-12)


def test_agrees_with_sklearn() -> None:
    delta, label = _drawn(1000)
    p = torch.sigmoid(delta).numpy()
    close(calibration.brier(delta, label), brier_score_loss(label.numpy(), p), atol=1e-12)
    close(calibration.negative_log_likelihood(delta, label), log_loss(label.numpy(), p), atol=1e-9)
    confidence, agreement = torch.sigmoid(delta.abs()).numpy(), torch.where(delta > 0, label, 1 - label).numpy()
    equal_mass = calibration.reliability_equal_mass(delta, label, bins=8)
    accuracy, mean_confidence = calibration_curve(agreement, confidence, n_bins=8, strategy="quantile")
    close(equal_mass.accuracy, accuracy, atol=1e-9)
    close(equal_mass.confidence, mean_confidence, atol=1e-9)
    # sklearn's bins span 0..1; the upper half of 20 of them are the 10 of the folded form.
    equal_width = calibration.reliability_equal_width(delta, label, bins=10)
    accuracy, mean_confidence = calibration_curve(agreement, confidence, n_bins=20, strategy="uniform")
    close(equal_width.accuracy, accuracy, atol=1e-9)
    close(equal_width.confidence, mean_confidence, atol=1e-9)
    assert int(equal_width.size.sum()) == 1000


def test_no_preference_agrees_by_one_half() -> None:
    found = calibration.reliability_equal_width(f64([0.0, 0.0]), f64([1.0, 1.0]), bins=5)
    close(torch.stack(found), [[0.5], [0.5], [2.0]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_agrees_with_logistic_regression(temperature: float) -> None:
    delta, label = _drawn(temperature=temperature)
    fitted = calibration.fit_temperature(delta, label)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(delta.numpy()[:, None], label.numpy())
    close(fitted, 1 / model.coef_[0, 0], atol=1e-4)
    close(fitted, temperature, atol=0.1 * temperature)
    cooled = calibration.negative_log_likelihood(delta / fitted, label)
    assert float(cooled) <= float(calibration.negative_log_likelihood(delta, label))


@pytest.mark.parametrize(
    ("delta", "label", "reason"),
    [([1.0, -2.0], [1, 0], "every pair"), ([1.0, -2.0], [0, 1], "better than chance"), ([0.0, 0.0], [1, 0], "is 0")],
)
def test_temperature_says_why_none_fits(delta: list[float], label: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        calibration.fit_temperature(f64(delta), f64(label))
