"""The doctor of PPO: silent faults become errors, and warning signs are said once. Each with fact, value and remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from plaudit.algorithms.masked import masked_mean, zero_outside
from plaudit.core.errors import DoctorError

Row = Mapping[str, Any]

# Sampler and trainer run the same weights through other shapes: one token a row against a packed row. Largest mean and
# single difference in nats. float32 differs by rounding; bfloat16 keeps 8 bits: SmolLM2-135M measures 0.031 and 0.23.
SAMPLER_TOLERANCE = {torch.float32: (1e-4, 1e-2), torch.bfloat16: (0.1, 3.0)}
FLAT_ITERATIONS = 3
MAX_CLIPPED_LENGTH = 0.5
MAX_KL = 50.0
MIN_ENTROPY = 0.02
MIN_EXPLAINED_VARIANCE = -1.0
CRITIC_ITERATIONS = 5


class Agreement(NamedTuple):
    """How far the sampler's log-probs are from the trainer's, in nats."""

    mean: float
    largest: float


class Finding(NamedTuple):
    """A warning sign in the metrics of a step."""

    check: str
    step: int
    message: str


def check_sampler(sampler: Tensor, trainer: Tensor, mask: Tensor, *, compute: torch.dtype) -> Agreement:
    """Sampler and trainer must be the same policy. Shapes: (S, T) three times.

    Raises:
        DoctorError: they differ by more than `SAMPLER_TOLERANCE` of the compute format.
    """
    difference = zero_outside((sampler - trainer).abs(), mask)
    found = Agreement(float(masked_mean(difference, mask)), float(difference.max()))
    mean, largest = SAMPLER_TOLERANCE[compute]
    if not (found.mean <= mean and found.largest <= largest):
        raise DoctorError(
            f"Sampler and trainer disagree: log-probs of the same tokens differ by {found.mean:.2g} nats on average "
            f"and {found.largest:.2g} at most; {mean:g} and {largest:g} are allowed for {compute}. They do not run the "
            "same weights or the same temperature. Use precision=float32; if that does not help, the model's "
            "architecture is not computed alike in both."
        )
    return found


def check_start(log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor) -> None:
    """Before the first update the policy is the reference, so every KL is exactly 0. Shapes: (S, T) three times.

    Raises:
        DoctorError: it is not; the reference is another model.
    """
    worst = float(zero_outside((log_probs - ref_log_probs).abs(), mask).max())
    if worst != 0:
        raise DoctorError(
            f"Policy and reference differ by {worst:.2g} nats before the first update, where they must be equal bit "
            "for bit: the KL would be measured against the wrong model. Start from an unchanged policy= folder."
        )


def check_first_step(approx_kl: float) -> None:
    """In the first step of an iteration no weight has moved, so every probability ratio is exactly 1.

    Raises:
        DoctorError: approx_kl is not 0: something random (dropout) or stale lies between sampling and training.
    """
    if approx_kl != 0:
        raise DoctorError(
            f"approx_kl is {approx_kl:.2g} in the first step of the iteration, where the ratio must be exactly 1: the "
            "same weights give other log-probs the second time. Look for dropout in the model's configuration and set "
            "it to 0."
        )


def watch(rows: Sequence[Row]) -> list[Finding]:
    """Warning signs in the newest of `rows` (the iterations so far, oldest first).

    Raises:
        DoctorError: all rewards of the last `FLAT_ITERATIONS` iterations were equal: there is nothing to learn from.
    """
    step = int(rows[-1]["step"])
    _check_flat(rows)
    return [Finding(name, step, message) for name, rule in _RULES.items() if (message := rule(rows)) is not None]


def all_findings(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every warning sign of a run: what it was, in how many iterations, the first of them and what was said there."""
    found = [finding for end in range(1, len(rows) + 1) for finding in watch(rows[:end])]
    checks = dict.fromkeys(finding.check for finding in found)
    return [_merged([finding for finding in found if finding.check == check]) for check in checks]


def _merged(findings: Sequence[Finding]) -> dict[str, Any]:
    first = findings[0]
    return {"check": first.check, "first_step": first.step, "steps": len(findings), "message": first.message}


def _check_flat(rows: Sequence[Row]) -> None:
    last = rows[-FLAT_ITERATIONS:]
    if len(last) == FLAT_ITERATIONS and all(row["reward_std"] == 0 for row in last):
        raise DoctorError(
            f"All answers of the last {FLAT_ITERATIONS} iterations have the same reward ({last[-1]['reward']:g}): "
            "there is nothing to learn from. Check the reward on a few texts with `plaudit score`, raise reward_clip, "
            "or use prompts on which answers differ."
        )


def _clipped_length(rows: Sequence[Row]) -> str | None:
    share = rows[-1]["clipped_length"]
    if share <= MAX_CLIPPED_LENGTH:
        return None
    return (
        f"{share:.0%} of the answers were cut off at sampling.max_new_tokens, so their scores are of unfinished texts; "
        "raise it, or check that the SFT model learnt to end its turn."
    )


def _far(rows: Sequence[Row]) -> str | None:
    value = rows[-1]["kl"]
    if value <= MAX_KL:
        return None
    return (
        f"The sequence KL from the reference is {value:.1f} nats (above {MAX_KL:g} policies usually exploit the "
        "reward); raise kl.coef, set kl.adaptive=true, or lower lr."
    )


def _collapsed(rows: Sequence[Row]) -> str | None:
    value = rows[-1]["entropy"]
    if value >= MIN_ENTROPY:
        return None
    return (
        f"The policy's entropy is {value:.3g} nats a token: it says nearly the same every time and cannot explore; "
        "raise kl.coef or lower lr, and go back to an earlier checkpoint."
    )


def _misled(rows: Sequence[Row]) -> str | None:
    last = rows[-CRITIC_ITERATIONS:]
    if len(last) < CRITIC_ITERATIONS or any(row["explained_variance"] >= MIN_EXPLAINED_VARIANCE for row in last):
        return None
    return (
        f"The value branch explains {last[-1]['explained_variance']:.2f} of the returns' variance (1 is perfect, 0 "
        f"knows nothing) and stayed below {MIN_EXPLAINED_VARIANCE:g} for {CRITIC_ITERATIONS} iterations: it adds noise "
        "to the advantages. Use value_head=zero, raise value_lr or vf_coef, or normalise the reward."
    )


_RULES: dict[str, Callable[[Sequence[Row]], str | None]] = {
    "clipped_length": _clipped_length,
    "kl": _far,
    "entropy": _collapsed,
    "explained_variance": _misled,
}
