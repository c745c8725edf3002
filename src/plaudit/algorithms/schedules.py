"""Learning-rate multipliers as functions of the step.

`step` counts from 0. Warm-up is linear and its first step is 1 / warmup, not 0: a step at rate 0 would be wasted.
Every schedule is defined up to and at `total`; training takes the steps 0 .. total - 1.
"""

import math


def warmup_constant(step: int, *, warmup: int) -> float:
    """1 after warm-up."""
    return min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0


def warmup_linear(step: int, *, warmup: int, total: int) -> float:
    """From 1 at the end of warm-up down to 0 at `total`."""
    return (step + 1) / warmup if step < warmup else 1 - _progress(step, warmup, total)


def warmup_cosine(step: int, *, warmup: int, total: int, floor: float) -> float:
    """Half a cosine from 1 at the end of warm-up down to `floor` at `total` (InstructGPT: floor 0.1)."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * _progress(step, warmup, total)))


def _progress(step: int, warmup: int, total: int) -> float:
    if not 0 <= step <= total:
        raise ValueError(f"step {step} is outside 0..{total}")
    if warmup >= total:
        raise ValueError(f"warm-up of {warmup} steps leaves nothing of {total} steps; make it shorter")
    return (step - warmup) / (total - warmup)
