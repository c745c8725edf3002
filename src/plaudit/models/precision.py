"""Which number format the matrix products use, and why: chosen once at the start and printed."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor

from plaudit.core.errors import ConfigError


class Precision(NamedTuple):
    """``compute``: the format of weights and matrix products. What trains keeps float32 masters either way."""

    compute: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        return str(self.compute).removeprefix("torch.")


FLOAT32 = Precision(torch.float32, "asked for")


def choose_precision(wish: str = "auto") -> Precision:
    """``auto`` measures: bfloat16 where this machine multiplies it at least 1.5 times as fast as float32, else float32.

    Raises:
        ConfigError: any other word than auto, bfloat16 or float32.
    """
    if wish == "bfloat16":
        return Precision(torch.bfloat16, "asked for")
    if wish == "float32":
        return FLOAT32
    if wish != "auto":
        raise ConfigError(f"precision={wish!r} is not known; use auto, bfloat16 or float32")
    if torch.cuda.is_available():
        return Precision(torch.bfloat16, "a GPU is present")
    ratio = _seconds(torch.float32) / _seconds(torch.bfloat16)
    word = f"bfloat16 products measured {ratio:.1f} times as fast as float32 here"
    return Precision(torch.bfloat16 if ratio >= 1.5 else torch.float32, word)


def _seconds(dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(0)
    left: Tensor = torch.randn(512, 576, generator=generator).to(dtype)
    right: Tensor = torch.randn(576, 1536, generator=generator).to(dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - start)
    return best
