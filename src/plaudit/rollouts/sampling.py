"""Drawing tokens from logits: temperature, top-k, top-p, and one uniform number a token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from plaudit.core.config import Config
from plaudit.models.kernels import ops as kernels

_BLOCK = 128


class Sampling(Config):
    """How answers are drawn."""

    temperature: float = Field(
        default=1.0, ge=0, description="1 samples from the model as it is; 0 takes the likeliest token"
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="keep the likeliest tokens that together have this probability"
    )
    top_k: int = Field(default=0, ge=0, description="keep only the k likeliest tokens; 0 keeps all")
    max_new_tokens: int = Field(default=128, ge=1, description="longest answer in tokens")
    n: int = Field(default=1, ge=1, description="answers per prompt")

    @property
    def is_full_distribution(self) -> bool:
        """Whether every token keeps its probability: only then are the returned log-probs those of the sampler."""
        return self.temperature > 0 and self.top_p == 1.0 and self.top_k == 0


class Drawn(NamedTuple):
    """``tokens`` (R,) ids; ``log_probs`` (R,) of the model at the sampling temperature, before top-k and top-p."""

    tokens: Tensor
    log_probs: Tensor


def draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> Drawn:
    """Draw one token a row.

    Args:
        logits: (R, V), overwritten.
        uniforms: (R,) float64 in [0, 1), one a row: the only randomness, so that a row's token depends on its own seed
            and not on its neighbours.
    """
    if sampling.is_full_distribution and kernels.serves(logits):
        return Drawn(*kernels.draw(logits, uniforms, sampling.temperature))
    logits = logits.float()
    if sampling.temperature == 0:
        tokens = logits.argmax(-1)
        return Drawn(tokens, _at(logits, tokens) - logits.logsumexp(-1))
    if sampling.temperature != 1.0:
        logits.div_(sampling.temperature)
    if not sampling.is_full_distribution:
        tokens = _draw_filtered(logits, uniforms, sampling)
        return Drawn(tokens, _at(logits, tokens) - logits.logsumexp(-1))
    highest = logits.amax(-1, keepdim=True)
    masses = logits.sub_(highest).exp_()  # in place, and summed once: these are passes over V numbers a row
    tokens, total = _inverse_cdf(masses, uniforms)
    return Drawn(tokens, (_at(masses, tokens).double() / total).log().float())


def _at(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.gather(1, tokens[:, None]).squeeze(1)


def _draw_filtered(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """Top-k, then top-p over what is left, likeliest first; the first token always stays."""
    width = logits.shape[1]
    kept = min(sampling.top_k or width, width)
    values, ids = logits.topk(kept, dim=-1)
    probs = torch.softmax(values.double(), -1)
    if sampling.top_p < 1.0:
        before = probs.cumsum(-1) - probs
        probs = torch.where(before < sampling.top_p, probs, 0.0)
    return ids.gather(1, _search(probs.cumsum(-1), uniforms)[:, None]).squeeze(1)


def _inverse_cdf(masses: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """The token whose share of [0, 1) holds the uniform number: (R, V) masses in, (R,) ids and (R,) totals out.

    In two steps, blocks then tokens, so that only V / 128 + 128 numbers a row are summed in float64.
    """
    rows, width = masses.shape
    padded = masses if width % _BLOCK == 0 else torch.nn.functional.pad(masses, (0, -width % _BLOCK))
    padded = padded.view(rows, -1, _BLOCK)
    blocks = padded.sum(-1).double().cumsum(-1)
    block = _search(blocks, uniforms)
    inside = padded[torch.arange(rows), block].double().cumsum(-1)
    below = torch.where(block > 0, blocks.gather(1, (block - 1).clamp(min=0)[:, None]).squeeze(1), 0.0)
    # as a share of the block's mass as summed above: the sum in float64 differs in the eighth digit, and a number at
    # the block's end would run over it, onto the block's last token however unlikely
    left = (uniforms * blocks[:, -1] - below) / (blocks.gather(1, block[:, None]).squeeze(1) - below)
    return block * _BLOCK + _search(inside, left.clamp(0.0, 1.0)), blocks[:, -1]


def _search(cumulative: Tensor, uniforms: Tensor) -> Tensor:
    """(R, n) cumulative masses and (R,) numbers in [0, 1] to the first index whose sum exceeds number * total."""
    total = cumulative[:, -1:].contiguous()
    index = torch.searchsorted(cumulative, uniforms[:, None] * total, right=True).squeeze(1)
    last_with_mass = torch.searchsorted(cumulative, total).squeeze(1)  # rounding must not land on a token of no mass
    return torch.minimum(index, last_with_mass)
