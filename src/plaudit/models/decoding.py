"""Keys and values of the rows that are being decoded, one new token a row and step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.models.decode_layer import DecodeLayer, decode_layer
from plaudit.models.fused import rotate
from plaudit.models.kernels import ops as kernels
from plaudit.models.packed_weights import PackedWeights

Captured = dict[int, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]

_SPARE = 64  # columns made at once, at most: where no kernel serves, products take all columns of the cache


class DecodeCache:
    """Rows end in the same column, so that a step writes one column and reads one range: no index per row.

    A row that leaves is replaced by the last one, so that leaving copies one row. ``advance`` is called once a step,
    after all layers have run.

    Attributes:
        lengths: (R,) tokens each row has in the cache; also the position of its next token.
        weights: the model's linear layers, in the order that products of few rows want.
    """

    def __init__(self, *, rows: int, steps: int, weights: PackedWeights) -> None:
        """Room for `rows` rows that take at most `steps` steps each."""
        self.weights = weights
        self.lengths = torch.zeros(0, dtype=torch.long)
        self._rows = rows
        self._spare = min(steps, _SPARE) + 1  # the last step must not make room for another
        self._column = 0  # where the next token of every row goes
        self._layers: dict[int, int] = {}  # a layer's number to its place in the tensors below
        self._keys = torch.empty(0)  # (layers, rows, key heads, D, columns): keys lie as the product reads them
        self._values = torch.empty(0)  # (layers, rows, key heads, columns, D)
        self._by_layer: dict[int, tuple[Tensor, Tensor]] = {}  # the same tensors, one layer's part of each
        self._whole: dict[nn.Module, DecodeLayer | None] = {}  # a layer as the kernel decodes it, or that it does not
        self._mask: Tensor | None = None

    def admit(self, captured: Captured, copies: int) -> None:
        """Add ``copies`` rows for each prefilled prompt, in the prompts' order; prompts come longest first."""
        some = next(iter(captured.values()))[0]
        lengths = [key.shape[0] for key in some]
        if not len(self.lengths):
            self._layers = {layer: place for place, layer in enumerate(captured)}
            self._column = max(lengths)
            self._make_room(some[0])
        assert max(lengths) <= self._column, "prompts are admitted longest first"
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

    def _make_room(self, like: Tensor) -> None:
        """Empty columns for the longest row and some more; (…, key heads, D) of `like` tells the shape."""
        _, heads, width = like.shape
        shape, columns = (len(self._layers), self._rows, heads), self._column + self._spare
        # zeros: what is masked out must still be a number
        self._keys = like.new_zeros(*shape, width, columns)
        self._values = like.new_zeros(*shape, columns, width)
        self._whole = {}
        self._by_layer = {layer: (self._keys[place], self._values[place]) for layer, place in self._layers.items()}

    def drop(self, gone: Sequence[int]) -> list[int]:
        """Rows leave; returns the old number of each row that stays, in the new order."""
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
        """The step's column is full. At the end of the room there is more, without columns that no row uses now."""
        self.lengths = self.lengths + 1
        self._column += 1
        self._mask = None
        if self._column == self._keys.shape[-1] and len(self.lengths):
            keys, values, longest = self._keys, self._values, int(self.lengths.max())
            kept = slice(self._column - longest, self._column)
            self._column = longest
            self._make_room(values[0, :1, :, 0])
            self._keys[..., :longest] = keys[..., kept]
            self._values[..., :longest, :] = values[..., kept, :]

    def linear(self, modules: tuple[nn.Module, ...], x: Tensor) -> tuple[Tensor, ...]:
        """As `Layout.linear`."""
        return self.weights.linear(modules, x)

    def whole_layer(self, layer: nn.Module, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor | None:
        """As `Layout.whole_layer`: one kernel where it serves."""
        if layer not in self._whole:
            terms: Any = layer.terms
            self._whole[layer] = decode_layer(layer, self.weights, *self._by_layer[terms.layer])
        whole = self._whole[layer]
        if whole is None or cos.dtype != hidden.dtype:
            return None
        return whole(hidden, cos, sin, self.lengths, self._column)

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
        rows, heads, width = query.shape
        kv_heads = key.shape[1]
        keys, values = self._keys[self._layers[layer], :rows], self._values[self._layers[layer], :rows]
        keys[..., self._column] = key
        values[:, :, self._column] = value
        if self._mask is None:
            self._mask = self._may_look(query.dtype, kv_heads)
        mask = self._mask
        if window is not None and self._column >= window:
            mask = mask.clone()
            mask[..., : self._column + 1 - window] = -torch.inf
        # the query heads that share a key head stand as that head's "query tokens": no key is repeated
        logits = torch.bmm(query.reshape(rows * kv_heads, heads // kv_heads, width), keys.flatten(0, 1))
        if softcap is None:
            logits = torch.add(mask, logits, alpha=scale)
        else:
            logits = torch.tanh(logits * (scale / softcap)) * softcap + mask
        return torch.bmm(logits.softmax(-1), values.flatten(0, 1)).view(rows, heads, width)

    def rotate_and_attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cos: Tensor,
        sin: Tensor,
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """As `Layout.rotate_and_attend`; one kernel where it serves."""
        if softcap is not None or not kernels.serves(query) or cos.dtype != query.dtype:
            turned = rotate(query, cos, sin), rotate(key, cos, sin)
            return self.attend(layer, *turned, value, scale=scale, window=window, softcap=softcap)
        keys, values = self._by_layer[layer]
        return kernels.attend_step(
            query,
            key,
            value,
            cos,
            sin,
            keys,
            values,
            self.lengths,
            column=self._column,
            scale=scale,
            window=window,
        )

    def _may_look(self, dtype: torch.dtype, kv_heads: int) -> Tensor:
        """What is added to the logits, (R * key heads, 1, columns): -inf outside the row's own tokens."""
        column = torch.arange(self._keys.shape[-1])
        outside = (column > self._column) | (column < self._column - self.lengths[:, None])
        mask = torch.zeros(outside.shape, dtype=dtype).masked_fill_(outside, -torch.inf)
        return mask.repeat_interleave(kv_heads, 0)[:, None]
