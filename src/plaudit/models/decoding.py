"""Keys and values of the rows that are being decoded, one new token a row and step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from plaudit.models.packed_weights import PackedWeights

Captured = dict[int, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]

_SLACK = 32  # columns beyond the longest row, so that rows move to the front once in so many steps


class DecodeCache:
    """Rows end in the same column, so that a step writes one column and reads one range: no index per row.

    A row that leaves is replaced by the last one, so that leaving copies one row. ``advance`` is called once a step,
    after all layers have run.

    Attributes:
        lengths: (R,) tokens each row has in the cache; also the position of its next token.
        weights: the model's linear layers, in the order that products of few rows want.
    """

    def __init__(self, *, rows: int, longest: int, weights: PackedWeights) -> None:
        """Room for `rows` rows of `longest` tokens."""
        self.weights = weights
        self.lengths = torch.zeros(0, dtype=torch.long)
        self._rows, self._longest = rows, longest
        self._column = 0  # where the next token of every row goes
        self._layers: dict[int, int] = {}  # a layer's number to its place in the tensors below
        self._keys: Tensor | None = None  # (layers, rows, key heads, D, columns): keys lie as the product reads them
        self._values: Tensor | None = None  # (layers, rows, key heads, columns, D)
        self._mask: Tensor | None = None

    def admit(self, captured: Captured, copies: int) -> None:
        """Add ``copies`` rows for each prefilled prompt, in the prompts' order; prompts come longest first."""
        lengths = [key.shape[0] for key in next(iter(captured.values()))[0]]
        if not len(self.lengths):
            self._column = max(lengths)
        assert max(lengths) <= self._column, "prompts are admitted longest first"
        if self._keys is None or self._values is None:
            self._layers = {layer: place for place, layer in enumerate(captured)}
            _, heads, width = next(iter(captured.values()))[0][0].shape
            shape, columns = (len(captured), self._rows, heads), self._longest + _SLACK
            some = next(iter(captured.values()))[0][0]
            # zeros: what is masked out must still be a number
            self._keys = some.new_zeros(*shape, width, columns)
            self._values = some.new_zeros(*shape, columns, width)
        for layer, place in self._layers.items():
            first = len(self.lengths)
            for key, value in zip(*captured[layer], strict=True):
                rows = slice(first, first + copies)
                columns = slice(self._column - key.shape[0], self._column)
                self._keys[place, rows, :, :, columns] = key.permute(1, 2, 0)
                self._values[place, rows, :, columns] = value.transpose(0, 1)
                first += copies
        self.lengths = torch.cat([self.lengths, torch.tensor(lengths).repeat_interleave(copies)])
        self._mask = None

    def drop(self, gone: Sequence[int]) -> list[int]:
        """Rows leave; returns the old number of each row that stays, in the new order."""
        assert self._keys is not None
        assert self._values is not None
        count = len(self.lengths) - len(gone)
        leaving = set(gone)
        movers = [row for row in range(count, len(self.lengths)) if row not in leaving]
        holes = [row for row in gone if row < count]
        order = list(range(count))
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
            self._keys[:, hole] = self._keys[:, mover]
            self._values[:, hole] = self._values[:, mover]
        self.lengths = self.lengths[order]
        self._mask = None
        return order

    def advance(self) -> None:
        """The step's column is full; at the end of the room all rows move to the front."""
        self.lengths = self.lengths + 1
        self._column += 1
        self._mask = None
        assert self._keys is not None
        assert self._values is not None
        if self._column == self._keys.shape[-1] and len(self.lengths):
            longest = int(self.lengths.max())
            kept = slice(self._column - longest, self._column)
            self._keys[..., :longest] = self._keys[..., kept].clone()
            self._values[..., :longest, :] = self._values[..., kept, :].clone()
            self._column = longest

    def linear(self, modules: tuple[nn.Module, ...], x: Tensor) -> tuple[Tensor, ...]:
        """As `Layout.linear`."""
        return self.weights.linear(modules, x)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """As `Layout.attend`: one token of each of R rows."""
        assert self._keys is not None
        assert self._values is not None
        rows, heads, width = query.shape
        kv_heads = key.shape[1]
        keys, values = self._keys[self._layers[layer], :rows], self._values[self._layers[layer], :rows]
        keys[..., self._column] = key
        values[:, :, self._column] = value
        if self._mask is None:
            self._mask = self._may_look(query.dtype, kv_heads)
        mask = self._mask if window is None else self._mask[..., -window:]
        seen = slice(self._column + 1 - mask.shape[-1], self._column + 1)
        keys, values = keys.flatten(0, 1)[..., seen], values.flatten(0, 1)[:, seen]
        # the query heads that share a key head stand as that head's "query tokens": no key is repeated
        asked = query.reshape(rows * kv_heads, heads // kv_heads, width)
        logits = torch.bmm(asked, keys)
        if softcap is None:
            logits = torch.add(mask, logits, alpha=scale)
        else:
            logits = torch.tanh(logits * (scale / softcap)) * softcap + mask
        return torch.bmm(logits.softmax(-1), values).view(rows, heads, width)

    def _may_look(self, dtype: torch.dtype, kv_heads: int) -> Tensor:
        """What is added to the logits, (R * key heads, 1, columns in use): -inf in front of a row's first token."""
        longest = int(self.lengths.max())
        before = torch.arange(longest, -1, -1)  # how many tokens before the newest a column lies
        mask = torch.zeros(len(self.lengths), longest + 1, dtype=dtype)
        mask.masked_fill_(before > self.lengths[:, None], -torch.inf)
        return mask.repeat_interleave(kv_heads, 0)[:, None]
