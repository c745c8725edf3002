"""A constant taken from scores through a head that has no bias."""

from __future__ import annotations

import torch

from plaudit.models.normalise import constant_direction, spread_within, zero_mean_head


def states(seed: int, rows: int) -> torch.Tensor:
    """Like final states after a norm: a common mean and correlated variation of lower rank."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(6, 32, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    mean = torch.linspace(-1, 1, 32, dtype=torch.float64)
    noise = 0.05 * torch.randn(rows, 32, generator=generator, dtype=torch.float64)
    return (mean + torch.randn(rows, 6, generator=generator, dtype=torch.float64) @ basis + noise).float()


def test_the_mean_over_the_chosen_texts_becomes_zero() -> None:
    head = torch.linspace(0.5, 1.5, 32)
    fit, zero_on = states(0, 500), states(1, 40)
    shifted = zero_mean_head(head, fit=fit, zero_on=zero_on)
    assert abs(float((zero_on @ shifted.head).mean())) < 1e-5
    assert abs(shifted.shift) > 0.5
    assert abs(float((fit @ head).mean() - (fit @ shifted.head).mean()) - shifted.shift) < 0.1 * abs(shifted.shift)


def test_the_direction_is_one_on_states_it_never_saw() -> None:
    unseen = states(2, 300).double() @ constant_direction(states(0, 500))
    assert abs(float(unseen.mean()) - 1) < 0.02
    assert float(unseen.std()) < 0.1
    naive = states(2, 300).double() @ states(0, 500).double().mean(dim=0)
    assert float((naive / naive.mean()).std()) > 3 * float(unseen.std())  # the mean state as direction would not do


def test_differences_within_a_prompt_hardly_move() -> None:
    head, fit, unseen = torch.linspace(0.5, 1.5, 32), states(0, 500), states(3, 200)
    shifted = zero_mean_head(head, fit=fit, zero_on=fit)
    taken = shifted.shift * (unseen.double() @ shifted.direction)
    group = torch.arange(200) // 4
    assert spread_within(taken, group) < 0.1 * spread_within((unseen @ head).double(), group)


def test_spread_within_groups_by_hand() -> None:
    values = torch.tensor([1.0, 3.0, 10.0, 10.0, 5.0])
    assert abs(spread_within(values, torch.tensor([0, 0, 1, 1, 2])) - (2 / 5) ** 0.5) < 1e-6
