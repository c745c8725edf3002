"""The one attention function behind training, scoring, prefill and decoding, for every Hugging Face decoder.

transformers calls it in place of its own kernels (attention implementation ``"plaudit"``) and hands it a ``layout``
that knows who may attend to whom:

* ``PackedLayout``: groups of one prompt and K answers in one row of tokens (see ``packing``), no padding;
* ``DecodeCache`` (see ``decoding``): one new token for each of R rows, against the keys and values kept from before.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from plaudit.core.errors import ModelError
from plaudit.models.blocks import LONGEST, attend_in_blocks, block_masks, plan_blocks
from plaudit.models.fused import rotate
from plaudit.models.packed_attention import Shape, attend_in_groups, plan_groups, serves

IMPLEMENTATION = "plaudit"


class Layout(Protocol):
    """Knows who may attend to whom, and in which order weights lie."""

    def linear(self, modules: tuple[nn.Module, ...], x: Tensor) -> tuple[Tensor, ...]:
        """What each linear module makes of the same states (N, in)."""
        ...

    def whole_layer(self, layer: nn.Module, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor | None:
        """(N, H) through a `FastLayer` and its (N, D) angles in one piece; None where the layer must do it in parts."""
        ...

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
        """One layer's attention: (N, heads, D) and twice (N, key heads, D) in, rotated; (N, heads, D) out."""
        ...

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
        """As `attend`, with query and key still to be rotated by (N, D) angles."""
        ...


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
    """Entry point of transformers' own attention modules: (1, heads, N, D) in, (1, N, heads, D) out.

    Raises:
        ModelError: the architecture asks for attention sinks, which no layout computes.
    """
    if s_aux is not None:
        raise ModelError(f"{type(module).__name__} uses attention sinks; Llama, Qwen, Gemma and Mistral styles do not")
    layer: int = module.layer_idx  # type: ignore[assignment]
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    out = layout.attend(layer, query, key, value, scale=scaling, window=sliding_window, softcap=softcap)
    return out[None], None


def _no_mask(*_: object, **__: object) -> None:
    """The layout masks; transformers must not build its own (N, N) mask for the packed row."""


AttentionInterface.register(IMPLEMENTATION, attention)
AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)


class PackedLayout:
    """Attention within groups of a packed row: by one kernel where it serves, else the short ones in padded blocks, and
    each long one by itself.

    Args:
        shapes: for each group the prompt's length and the length of each response.
    """

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        self.shapes = shapes
        self.lengths = [prompt + sum(responses) for prompt, responses in shapes]
        self.captured: dict[int, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] | None = None
        self._short = [group for group, length in enumerate(self.lengths) if length <= LONGEST]
        self._groups = plan_groups(shapes)
        self._blocks = plan_blocks([self.lengths[group] for group in self._short]) if self._short else None
        self._looks: dict[int | None, list[Tensor]] = {}
        self._block_masks: dict[tuple[int | None, int, int, torch.dtype], list[Tensor]] = {}

    def capture(self) -> None:
        """Keep every layer's keys and values, split by group, (L, key heads, D): what a prefill leaves for decoding."""
        self.captured = {}

    def linear(self, modules: tuple[nn.Module, ...], x: Tensor) -> tuple[Tensor, ...]:
        return tuple(module(x) for module in modules)

    def whole_layer(self, layer: nn.Module, hidden: Tensor, cos: Tensor, sin: Tensor) -> None:  # noqa: ARG002
        """In parts: gradients pass through them."""
        return

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
            self.captured[layer] = (key.split(self.lengths), value.split(self.lengths))
        if serves(query, window=window, softcap=softcap, longest=self._groups.longest):
            return attend_in_groups(self._groups, query, key, value, scale=scale)
        if window not in self._looks:  # the same for every layer, so made once
            known = {shape: _may_look(shape, window) for shape in set(self.shapes)}
            self._looks[window] = [known[shape] for shape in self.shapes]
        looks = self._looks[window]
        short = self._short if softcap is None else []  # Gemma 2 caps logits, between the two products of a block
        if len(short) == len(looks):
            return self._in_blocks(query, key, value, window=window, scale=scale)
        # split, not slices: the backward of one split is one concatenation, that of G slices is G full-size additions
        parts = [x.split(self.lengths) for x in (query, key, value)]
        out: dict[int, Tensor] = {}
        if short:
            rows = (torch.cat([part[group] for group in short]) for part in parts)
            together = self._in_blocks(*rows, window=window, scale=scale)
            out.update(zip(short, together.split([self.lengths[group] for group in short]), strict=True))
        for group, mask in enumerate(looks):
            if group not in out:
                qkv = (part[group].transpose(0, 1)[None] for part in parts)
                out[group] = _attend(*qkv, mask=mask, scale=scale, softcap=softcap)[0].transpose(0, 1)
        return torch.cat([out[group] for group in range(len(looks))])

    def rotate_and_attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, **how: Any
    ) -> Tensor:
        return self.attend(layer, rotate(query, cos, sin), rotate(key, cos, sin), value, **how)

    def _in_blocks(self, query: Tensor, key: Tensor, value: Tensor, *, window: int | None, scale: float) -> Tensor:
        """Attention of the short groups' rows."""
        assert self._blocks is not None, "there are short groups"
        kv_heads, repeat = key.shape[1], query.shape[1] // key.shape[1]
        kind = (window, kv_heads, repeat, query.dtype)
        if kind not in self._block_masks:
            looks = [self._looks[window][group] for group in self._short]
            self._block_masks[kind] = block_masks(
                self._blocks, looks, kv_heads=kv_heads, repeat=repeat, dtype=query.dtype
            )
        return attend_in_blocks(self._blocks, self._block_masks[kind], query, key, value, scale=scale)


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
