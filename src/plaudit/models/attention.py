"""The one attention function behind training, scoring, prefill and decoding, for every Hugging Face decoder.

transformers calls it in place of its own kernels (attention implementation ``"plaudit"``) and hands it a ``layout``
that knows who may attend to whom:

* ``PackedLayout``: groups of one prompt and K answers in one row of tokens (see ``packing``), no padding;
* ``DecodeCache``: one new token for each of R rows, against the keys and values kept from before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from plaudit.core.errors import ModelError
from plaudit.models.blocks import attend_in_blocks, block_masks, plan_blocks

IMPLEMENTATION = "plaudit"

Shape = tuple[int, tuple[int, ...]]


class Layout(Protocol):
    """Computes one layer's attention. Tensors are (1, heads, N, D), rotary positions already applied."""

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
    ) -> Tensor: ...


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  (part of transformers' interface; the layout replaces it)
    *,
    scaling: float,
    layout: Layout,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Entry point called by transformers' attention modules: (1, heads, N, D) in, (1, N, heads, D) out.

    Raises:
        ModelError: the architecture asks for attention sinks, which no layout computes.
    """
    if s_aux is not None:
        raise ModelError(f"{type(module).__name__} uses attention sinks; Llama, Qwen, Gemma and Mistral styles do not")
    layer: int = module.layer_idx  # type: ignore[assignment]
    out = layout.attend(layer, query, key, value, scale=scaling, window=sliding_window, softcap=softcap)
    return out.transpose(1, 2), None


def _no_mask(*_: object, **__: object) -> None:
    """The layout masks; transformers must not build its own (N, N) mask for the packed row."""


AttentionInterface.register(IMPLEMENTATION, attention)
AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)


class PackedLayout:
    """Attention within groups of a packed row: in padded blocks where all groups are short, else group by group.

    Args:
        shapes: for each group the prompt's length and the length of each response.
    """

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        self.shapes = shapes
        self.lengths = [prompt + sum(responses) for prompt, responses in shapes]
        self.captured: dict[int, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] | None = None
        self._blocks = plan_blocks(self.lengths)
        self._looks: dict[int | None, list[Tensor]] = {}
        self._block_masks: dict[tuple[int | None, int, int, torch.dtype], list[Tensor]] = {}

    def capture(self) -> None:
        """Keep every layer's keys and values, split by group: what a prefill leaves for decoding."""
        self.captured = {}

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
        if self.captured is not None:
            self.captured[layer] = (key.split(self.lengths, dim=2), value.split(self.lengths, dim=2))
        if window not in self._looks:  # the same for every layer, so made once
            known = {shape: _may_look(shape, window) for shape in set(self.shapes)}
            self._looks[window] = [known[shape] for shape in self.shapes]
        looks = self._looks[window]
        if self._blocks is not None and softcap is None:
            kv_heads, repeat = key.shape[1], query.shape[1] // key.shape[1]
            kind = (window, kv_heads, repeat, query.dtype)
            if kind not in self._block_masks:
                self._block_masks[kind] = block_masks(
                    self._blocks, looks, kv_heads=kv_heads, repeat=repeat, dtype=query.dtype
                )
            return attend_in_blocks(self._blocks, self._block_masks[kind], query, key, value, scale=scale)
        # split, not slices: the backward of one split is one concatenation, that of G slices is G full-size additions.
        queries, keys, values = (x.split(self.lengths, dim=2) for x in (query, key, value))
        out = [
            _attend(q, k, v, mask=mask, scale=scale, softcap=softcap)
            for q, k, v, mask in zip(queries, keys, values, looks, strict=True)
        ]
        return torch.cat(out, dim=2)


def _may_look(shape: Shape, window: int | None) -> Tensor:
    """(L, L), True where a token of the group may look: back, at the prompt and at its own response."""
    prompt, responses = shape
    owner = torch.cat([torch.zeros(prompt), *(torch.full((n,), i + 1) for i, n in enumerate(responses))])
    position = torch.cat([torch.arange(prompt), *(torch.arange(prompt, prompt + n) for n in responses)])
    order = torch.arange(len(owner))
    mask = (order[:, None] >= order[None, :]) & ((owner[:, None] == owner[None, :]) | (owner[None, :] == 0))
    if window is not None:
        # by position in the sequence, not in the row: another answer's tokens between do not push the prompt away
        mask &= position[:, None] - position[None, :] < window
    return mask


def _attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Scaled dot-product attention of (B, Hq, Tq, D) over (B, Hkv, Tk, D), Hq a multiple of Hkv."""
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    repeat = q.shape[1] // k.shape[1]  # Gemma 2 caps the logits, which the fused kernel cannot do
    k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    logits = torch.tanh(q @ k.transpose(-1, -2) * scale / softcap) * softcap
    return logits.masked_fill(~mask, -torch.inf).float().softmax(-1).to(v.dtype) @ v


class DecodeCache:
    """Keys and values of R rows while they are decoded, one token a row and step.

    Rows lie left-aligned with their own lengths. ``advance`` is called once a step, after all layers have run.

    Attributes:
        lengths: (R,) tokens each row has in the cache; also the position of its next token.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.lengths = torch.zeros(0, dtype=torch.long)
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._masks: dict[int | None, Tensor] = {}

    def admit(self, captured: dict[int, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]], copies: int) -> None:
        """Append ``copies`` rows for each prefilled prompt, in the prompts' order."""
        lengths = torch.tensor([k.shape[2] for k in next(iter(captured.values()))[0]], dtype=torch.long)
        self.lengths = torch.cat([self.lengths, lengths.repeat_interleave(copies)])
        for layer, (keys, values) in captured.items():
            self._keys[layer] = self._grow(self._keys.get(layer), keys, copies)
            self._values[layer] = self._grow(self._values.get(layer), values, copies)
        self._masks.clear()

    def _grow(self, old: Tensor | None, prompts: Sequence[Tensor], copies: int) -> Tensor:
        heads, width = prompts[0].shape[1], prompts[0].shape[3]
        kept = 0 if old is None else old.shape[0]
        new = prompts[0].new_zeros(kept + len(prompts) * copies, heads, self.capacity, width)
        if old is not None:
            new[:kept] = old
        for i, prompt in enumerate(prompts):
            new[kept + i * copies : kept + (i + 1) * copies, :, : prompt.shape[2]] = prompt
        return new

    def keep(self, rows: Tensor) -> None:
        """Only these rows stay, in this order: finished rows leave the batch."""
        self.lengths = self.lengths[rows]
        self._keys = {layer: k[rows] for layer, k in self._keys.items()}
        self._values = {layer: v[rows] for layer, v in self._values.items()}
        self._masks.clear()

    def advance(self) -> None:
        self.lengths = self.lengths + 1
        self._masks.clear()

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
        rows = self.lengths.shape[0]
        keys, values = self._keys[layer], self._values[layer]
        index = torch.arange(rows)
        keys[index, :, self.lengths] = key[0].transpose(0, 1)
        values[index, :, self.lengths] = value[0].transpose(0, 1)
        longest = int(self.lengths.max()) + 1
        heads, kv_heads, width = query.shape[1], keys.shape[1], query.shape[3]
        # The query heads that share a key head stand as that head's "query tokens": no key is repeated.
        q = query[0].transpose(0, 1).reshape(rows, kv_heads, heads // kv_heads, width)
        out = _attend(
            q,
            keys[:, :, :longest],
            values[:, :, :longest],
            mask=self._mask(longest, window),
            scale=scale,
            softcap=softcap,
        )
        return out.reshape(rows, heads, width).transpose(0, 1)[None]

    def _mask(self, longest: int, window: int | None) -> Tensor:
        if window not in self._masks:
            at = torch.arange(longest)[None, :]
            mask = at <= self.lengths[:, None]
            if window is not None:
                mask &= self.lengths[:, None] - at < window
            self._masks[window] = mask[:, None, None, :]
        return self._masks[window]
