"""Short groups of a packed row as a few padded blocks, where attention is two batched matrix products.

On processors the fused kernel is slow for short sequences, its backward above all: for 32 groups of 97 tokens, forward
and backward took 95 ms in it and 26 ms here, for 4 groups of 512 tokens 86 ms and 53 ms. What limits it is memory: the
probabilities that wait for the backward pass are as wide as the group. Only attention sees the padding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

LONGEST = 512
_FILL = 0.8  # a group joins a block if it fills at least this share of its width


class Blocks(NamedTuple):
    """Where each token of a packed row lies in padded blocks, P cells in all.

    Attributes:
        token: (P,) the token in each cell; padding repeats a token of its group, which nothing may look at.
        inverse: (N,) the cell of each token.
        members: for each block the groups in it, longest first.
        widths: for each block the length of its longest group.
    """

    token: Tensor
    inverse: Tensor
    members: list[list[int]]
    widths: list[int]

    @property
    def cells(self) -> list[int]:
        """Cells of each block."""
        return [len(m) * w for m, w in zip(self.members, self.widths, strict=True)]


def plan_blocks(lengths: list[int]) -> Blocks:
    """Blocks for groups of these lengths."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    members: list[list[int]] = []
    widths: list[int] = []
    for group in sorted(range(len(lengths)), key=lambda g: -lengths[g]):
        if not members or lengths[group] < _FILL * widths[-1]:
            members.append([])
            widths.append(lengths[group])
        members[-1].append(group)
    index: list[int] = []
    inverse = torch.empty(starts[-1], dtype=torch.long)
    for block, width in zip(members, widths, strict=True):
        for group in block:
            start, length = starts[group], lengths[group]
            inverse[start : start + length] = torch.arange(len(index), len(index) + length)
            index += [*range(start, start + length), *[start] * (width - length)]
    return Blocks(torch.tensor(index), inverse, members, widths)


def block_masks(blocks: Blocks, looks: list[Tensor], *, kv_heads: int, repeat: int, dtype: torch.dtype) -> list[Tensor]:
    """What is added to each block's logits: 0 where a query may look, -inf elsewhere.

    Args:
        looks: for each group an (L, L) mask, True where it may look.
        repeat: query heads for each key head.

    Returns:
        (groups * kv_heads, repeat * width, width) a block.
    """
    masks = []
    for groups, width in zip(blocks.members, blocks.widths, strict=True):
        may_look = torch.eye(width, dtype=torch.bool).repeat(len(groups), 1, 1)  # padding sees itself: no row is empty
        for row, group in enumerate(groups):
            length = looks[group].shape[0]
            may_look[row, :length, :length] = looks[group]
        added = torch.zeros(may_look.shape, dtype=dtype).masked_fill_(~may_look, -torch.inf)
        every = added[:, None, None].expand(-1, kv_heads, repeat, -1, -1)
        masks.append(every.reshape(len(groups) * kv_heads, repeat * width, width))
    return masks


def attend_in_blocks(
    blocks: Blocks, masks: list[Tensor], query: Tensor, key: Tensor, value: Tensor, *, scale: float
) -> Tensor:
    """Attention of (N, Hq, D) over (N, Hkv, D), Hq a multiple of Hkv; (N, Hq, D) out."""
    heads, kv_heads, width = query.shape[1], key.shape[1], query.shape[2]
    repeat = heads // kv_heads
    padded = [_gather(x, blocks.token, blocks.inverse) for x in (query, key, value)]
    out = []
    for groups, length, mask, q, k, v in zip(
        map(len, blocks.members), blocks.widths, masks, *(x.split(blocks.cells) for x in padded), strict=True
    ):
        batch = groups * kv_heads
        # the query heads that share a key head stand below each other as its rows: no key is repeated
        q = (
            q.reshape(groups, length, kv_heads, repeat, width)
            .permute(0, 2, 3, 1, 4)
            .reshape(batch, repeat * length, width)
        )
        k = k.reshape(groups, length, kv_heads, width).permute(0, 2, 3, 1).reshape(batch, width, length)
        v = v.reshape(groups, length, kv_heads, width).permute(0, 2, 1, 3).reshape(batch, length, width)
        mixed = torch.bmm(torch.baddbmm(mask, q, k, alpha=scale).softmax(-1), v)
        mixed = mixed.view(groups, kv_heads, repeat, length, width).permute(0, 3, 1, 2, 4)
        out.append(mixed.reshape(groups * length, heads, width))
    return _scatter(torch.cat(out), blocks.token, blocks.inverse)


class _Gather(torch.autograd.Function):
    """Rows of a packed tensor into cells. Each row has one cell that counts, so the backward is a lookup, not a sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # type: ignore[override]
        ctx.inverse = inverse
        return rows[index]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0][ctx.inverse], None, None


class _Scatter(torch.autograd.Function):
    """Cells back into rows; padding is dropped and gets no gradient."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # type: ignore[override]
        ctx.inverse, ctx.cells = inverse, len(index)
        return cells[inverse]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        out = grads[0].new_zeros(ctx.cells, *grads[0].shape[1:])
        out[ctx.inverse] = grads[0]
        return out, None, None


def _gather(rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    result: Tensor = _Gather.apply(rows, index, inverse)  # type: ignore[assignment]
    return result


def _scatter(cells: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    result: Tensor = _Scatter.apply(cells, index, inverse)  # type: ignore[assignment]
    return result
