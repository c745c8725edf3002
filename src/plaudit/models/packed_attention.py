"""Attention within the groups of a packed row by one kernel: nothing is padded, and no probabilities are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from plaudit.models.kernels import products
from plaudit.models.kernels.products import Groups

Shape = tuple[int, tuple[int, ...]]


def plan_groups(shapes: Sequence[Shape]) -> Groups:
    """Groups of a prompt and its answers, each (tokens of the prompt, tokens of each answer)."""
    lengths = torch.tensor([prompt + sum(answers) for prompt, answers in shapes])
    prompt_ends, own_starts = [], []
    for prompt, answers in shapes:
        prompt_ends += [0] * prompt + [prompt] * sum(answers)
        own_starts += [0] * prompt
        start = prompt
        for answer in answers:
            own_starts += [start] * answer
            start += answer
    return Groups(
        starts=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        order=lengths.argsort(descending=True, stable=True),
        prompt_ends=torch.tensor(prompt_ends),
        own_starts=torch.tensor(own_starts),
        longest=int(lengths.max()),
    )


def serves(query: Tensor, *, window: int | None, softcap: float | None, longest: int) -> bool:
    """Whether `attend_in_groups` computes this attention: uncapped, and no window shorter than the longest group."""
    return (
        products.multiplies(query.dtype, query.device)
        and query.shape[-1] % 2 == 0
        and softcap is None
        and (window is None or window >= longest)
    )


def attend_in_groups(groups: Groups, query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
    """Attention of (N, heads, D) over (N, key heads, D); (N, heads, D) out."""
    if not torch.is_grad_enabled():
        return products.attend_packed(query, key, value, groups, scale)[0]
    return _AttendInGroups.apply(query, key, value, groups, scale)  # type: ignore[return-value]


class _AttendInGroups(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float) -> Tensor:  # type: ignore[override]
        out, log_sums = products.attend_packed(query, key, value, groups, scale)
        ctx.save_for_backward(query, key, value, out, log_sums)
        ctx.groups, ctx.scale = groups, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, log_sums = ctx.saved_tensors
        return (
            *products.attend_packed_backward(query, key, value, ctx.groups, ctx.scale, out, log_sums, grads[0]),
            None,
            None,
        )
