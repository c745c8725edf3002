"""Packing: many prompts and answers in one row of tokens, without padding and without attending across examples.

A group is a prompt and its K answers. Its prompt is stored once; every answer attends to the prompt and to itself, and
its positions go on from the prompt's end, so that each answer sees exactly what it would see alone. The linear layers,
which are nearly all of the work, then run over N real tokens and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.core.records import TokenGroup
from plaudit.models.attention import PackedLayout


@dataclass(frozen=True)
class Packed:
    """A batch of groups as one row of N tokens, with M response tokens in S responses.

    Attributes:
        tokens: (N,) token ids.
        positions: (N,) position of each token in its own sequence, from 0.
        layout: which token may attend to which; handed to the attention layers.
        response: (M,) where in the row each response token lies.
        predict: (M,) where the state lies that predicts it: one token before, the prompt's last for the first.
        sequence: (M,) the response each response token belongs to, 0..S-1.
        end: (S,) where each response's last token lies.
        lengths: (S,) tokens of each response.
        group: (S,) the group each response belongs to.
    """

    tokens: Tensor
    positions: Tensor
    layout: PackedLayout
    response: Tensor
    predict: Tensor
    sequence: Tensor
    end: Tensor
    lengths: Tensor
    group: Tensor

    @property
    def targets(self) -> Tensor:
        """(M,) ids of the response tokens."""
        return self.tokens[self.response]

    @property
    def mask(self) -> Tensor:
        """(S, T) True on response tokens, T the longest response."""
        longest = int(self.lengths.max()) if self.lengths.numel() else 0
        return torch.arange(longest)[None, :] < self.lengths[:, None]

    def unpack(self, flat: Tensor, fill: float = 0.0) -> Tensor:
        """(M, …) values of response tokens to (S, T, …), padded on the right with ``fill``."""
        mask = self.mask
        out = flat.new_full((*mask.shape, *flat.shape[1:]), fill)
        return out.masked_scatter(mask.view(*mask.shape, *[1] * (flat.dim() - 1)), flat)

    def flatten(self, padded: Tensor) -> Tensor:
        """(S, T, …) to the (M, …) values of response tokens: the inverse of ``unpack``."""
        return padded[self.mask]


def pack(groups: Sequence[TokenGroup]) -> Packed:
    """Lay groups one after the other in one row. A group without responses is a prompt alone (for prefill).

    Raises:
        ValueError: a prompt or a response has no tokens; there would be no state to predict from.
    """
    tokens: list[int] = []
    positions: list[int] = []
    response: list[int] = []
    predict: list[int] = []
    sequence: list[int] = []
    end: list[int] = []
    lengths: list[int] = []
    group_of: list[int] = []
    shapes: list[tuple[int, tuple[int, ...]]] = []
    for number, group in enumerate(groups):
        if not group.prompt:
            raise ValueError(
                f"group {number} has an empty prompt: the first response token has no state to be predicted from"
            )
        shapes.append((len(group.prompt), tuple(len(r) for r in group.responses)))
        last_of_prompt = len(tokens) + len(group.prompt) - 1
        tokens.extend(group.prompt)
        positions.extend(range(len(group.prompt)))
        for ids in group.responses:
            if not ids:
                raise ValueError(f"group {number} has an empty response: there is nothing to score")
            first = len(tokens)
            response.extend(range(first, first + len(ids)))
            predict.append(last_of_prompt)
            predict.extend(range(first, first + len(ids) - 1))
            sequence.extend([len(lengths)] * len(ids))
            tokens.extend(ids)
            positions.extend(range(len(group.prompt), len(group.prompt) + len(ids)))
            end.append(len(tokens) - 1)
            lengths.append(len(ids))
            group_of.append(number)
    row = [tokens, positions, response, predict, sequence, end, lengths, group_of]
    t, p, r, q, s, e, n, g = (torch.tensor(values, dtype=torch.long) for values in row)
    return Packed(t, p, PackedLayout(tuple(shapes)), r, q, s, e, n, g)


def packed_length(group: TokenGroup) -> int:
    """Tokens a group takes in a row: its prompt once and every response."""
    return len(group.prompt) + sum(len(r) for r in group.responses)


def batches(groups: Sequence[TokenGroup], *, max_tokens: int) -> list[list[int]]:
    """Indices of groups, longest first, in rows of at most ``max_tokens`` tokens; a longer group gets its own row.

    Deterministic: the same groups give the same rows, so that a resumed run computes the same numbers.
    """
    order = sorted(range(len(groups)), key=lambda i: (-packed_length(groups[i]), i))
    rows: list[list[int]] = []
    room = 0
    for index in order:
        length = packed_length(groups[index])
        if not rows or length > room:
            rows.append([])
            room = max_tokens
        rows[-1].append(index)
        room -= length
    return rows
