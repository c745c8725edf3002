"""The doctor of PPO: each invariant is broken once, and the message says what to do."""

from typing import Any

import pytest
import torch

from plaudit.core.errors import DoctorError
from plaudit.training.doctor import all_findings, check_first_step, check_sampler, check_start, watch

MASK = torch.tensor([[True, True, False]])


def row(step: int = 1, **changes: Any) -> dict[str, Any]:
    healthy = {
        "step": step,
        "reward": 1.0,
        "reward_std": 0.5,
        "clipped_length": 0.1,
        "kl": 3.0,
        "entropy": 2.0,
        "explained_variance": 0.3,
    }
    return healthy | changes


def test_healthy_rows_have_no_findings() -> None:
    assert watch([row(step) for step in range(1, 9)]) == []


@pytest.mark.parametrize(
    ("change", "check", "remedy"),
    [
        ({"clipped_length": 0.6}, "clipped_length", "max_new_tokens"),
        ({"kl": 80.0}, "kl", "raise kl.coef"),
        ({"entropy": 0.01}, "entropy", "earlier checkpoint"),
    ],
)
def test_signs_are_found(change: dict[str, Any], check: str, remedy: str) -> None:
    (finding,) = watch([row(1), row(2, **change)])
    assert (finding.check, finding.step) == (check, 2)
    assert remedy in finding.message


def test_critic_is_given_time() -> None:
    bad = [row(step, explained_variance=-2.0) for step in range(1, 6)]
    assert watch(bad[:4]) == []
    assert [finding.check for finding in watch(bad)] == ["explained_variance"]


def test_findings_of_a_run_are_merged() -> None:
    rows = [row(1), row(2, kl=60.0), row(3), row(4, kl=70.0, entropy=0.0)]
    found = all_findings(rows)
    assert [(f["check"], f["first_step"], f["steps"]) for f in found] == [("kl", 2, 2), ("entropy", 4, 1)]


def test_equal_rewards_stop_the_run_after_three_iterations() -> None:
    flat = [row(step, reward_std=0.0) for step in range(1, 4)]
    assert watch(flat[:2]) == []
    with pytest.raises(DoctorError, match="nothing to learn from"):
        watch(flat)


def test_sampler_and_trainer_must_agree() -> None:
    ours = torch.tensor([[-1.0, -2.0, 99.0]])
    assert check_sampler(ours + torch.tensor([[0.0, 1e-5, -1e9]]), ours, MASK, compute=torch.float32).largest < 2e-5
    with pytest.raises(DoctorError, match="same weights or the same temperature"):
        check_sampler(ours + 0.1, ours, MASK, compute=torch.float32)
    with pytest.raises(DoctorError, match="disagree"):
        check_sampler(ours * torch.nan, ours, MASK, compute=torch.float32)


def test_reference_must_equal_the_policy_at_the_start() -> None:
    log_probs = torch.tensor([[-1.0, -2.0, 0.0]])
    check_start(log_probs, log_probs + torch.tensor([[0.0, 0.0, 5.0]]), MASK)
    with pytest.raises(DoctorError, match="wrong model"):
        check_start(log_probs, log_probs + 1e-6, MASK)


def test_first_step_must_not_have_moved() -> None:
    check_first_step(0.0)
    with pytest.raises(DoctorError, match="dropout"):
        check_first_step(1e-9)
