"""Decoder layers as Plaudit runs them: transformers' weights and arithmetic, with less work around them.

transformers' layers of the Llama, Qwen, Mistral and Gemma families have one of two shapes: a norm before attention and
before the MLP, or (Gemma) one after each as well. `take_over` gives such layers a `forward` of ours that

* computes only the rows somebody reads in the model's last layer: of a prompt that is scored, the keys and values, not
  the MLP;
* keeps less for the backward pass (see `fused`);
* leaves the linear maps to the layout, which may hold the weights in a faster order (see `packed_weights`).

What a layer tells its attention (scale, window, cap) is asked of transformers' own `forward`, and the result is
compared with it, once when the model is loaded. A layer of another shape, or one that computes something else, stays
as it is.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from plaudit.models.attention import Layout, PackedLayout
from plaudit.models.fused import add_rms_norm, gated, rms_norm

_PROBE_TOKENS = 5
_FAR = 2**18  # beyond the context of any model
_ROUNDINGS = 32
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj"}
_NORMS = {"input_layernorm", "post_attention_layernorm"}
_INNER_NORMS = {"pre_feedforward_layernorm", "post_feedforward_layernorm"}


class Terms(NamedTuple):
    """What a layer's attention is computed with, and whether its norms multiply by their weight alone."""

    layer: int
    scale: float
    window: int | None
    softcap: float | None
    plain_norms: bool
    is_last: bool


class FastLayer(nn.Module):
    """Mixed into a transformers decoder layer in front of its own class; children and their names stay."""

    terms: Terms

    def forward(
        self,
        hidden_states: Tensor,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        layout: Layout,
        rows: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        """(1, N, H) to (1, N, H); in the last layer with `rows` (U,), distinct places in N, to (1, U, H)."""
        layer: Any = self
        terms = self.terms
        if not terms.is_last:
            rows = None
        hidden = hidden_states[0]
        cos, sin = (part[0] for part in position_embeddings)
        whole = layout.whole_layer(self, hidden, cos, sin)
        if whole is not None:
            return whole[None]
        mixed = self._attend(self._norm(layer.input_layernorm, hidden), cos, sin, layout, rows)
        if rows is not None:
            hidden = hidden[rows]
        if hasattr(layer, "pre_feedforward_layernorm"):
            hidden = hidden + layer.post_attention_layernorm(mixed)
            inner = self._mlp(layer.pre_feedforward_layernorm(hidden), layout)
            return (hidden + layer.post_feedforward_layernorm(inner))[None]
        hidden, normed = self._add_and_norm(layer.post_attention_layernorm, hidden, mixed)
        return (hidden + self._mlp(normed, layout))[None]

    def _add_and_norm(self, norm: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.terms.plain_norms:
            return add_rms_norm(x, y, norm.weight, norm.variance_epsilon)
        total = x + y
        return total, norm(total)

    def _norm(self, norm: Any, x: Tensor) -> Tensor:
        return rms_norm(x, norm.weight, norm.variance_epsilon) if self.terms.plain_norms else norm(x)

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout, rows: Tensor | None) -> Tensor:
        """(N, H) to (N, H) or, with `rows`, to (U, H)."""
        attention: Any = self.self_attn
        terms, width = self.terms, attention.head_dim
        if rows is None:
            query, key, value = layout.linear((attention.q_proj, attention.k_proj, attention.v_proj), x)
        else:
            (asked,) = layout.linear((attention.q_proj,), x[rows])
            key, value = layout.linear((attention.k_proj, attention.v_proj), x)
            # rows that nobody reads ask nothing; what their attention gives is dropped
            query = asked.new_zeros(x.shape[0], asked.shape[1]).index_copy(0, rows, asked)
        query, key, value = (part.view(x.shape[0], -1, width) for part in (query, key, value))
        if hasattr(attention, "q_norm"):
            query, key = attention.q_norm(query), attention.k_norm(key)
        how: Any = {"scale": terms.scale, "window": terms.window, "softcap": terms.softcap}
        out = layout.rotate_and_attend(terms.layer, query, key, value, cos, sin, **how).flatten(1)
        return layout.linear((attention.o_proj,), out if rows is None else out[rows])[0]

    def _mlp(self, x: Tensor, layout: Layout) -> Tensor:
        mlp: Any = self.mlp
        gate, up = layout.linear((mlp.gate_proj, mlp.up_proj), x)
        return layout.linear((mlp.down_proj,), gated(gate, up, mlp.act_fn))[0]


@torch.no_grad()
def take_over(base: Any) -> None:
    """Give the layers of a transformers base model our `forward`, where it computes what theirs does."""
    last = len(base.layers) - 1
    for number, layer in enumerate(base.layers):
        terms = _terms(base, layer, number) if _has_known_shape(layer) else None
        if terms is not None:
            layer.__class__ = _fast_class(type(layer))
            layer.terms = terms._replace(is_last=number == last)


def computes_rows(base: Any) -> bool:
    """Whether the last layer of this base model computes chosen rows only."""
    return isinstance(base.layers[-1], FastLayer)


@cache
def _fast_class(own: type[nn.Module]) -> type[nn.Module]:
    return type(f"Fast{own.__name__}", (FastLayer, own), {})


def _has_known_shape(layer: Any) -> bool:
    names, inner = set(layer._modules), _MLP | {"act_fn"}
    return (
        names in ({"self_attn", "mlp", *_NORMS}, {"self_attn", "mlp", *_NORMS, *_INNER_NORMS})
        and set(layer.self_attn._modules) in (_ATTENTION, _ATTENTION | {"q_norm", "k_norm"})
        and set(layer.mlp._modules) == inner
        and all(hasattr(layer.self_attn, name) for name in ("head_dim", "layer_idx"))
    )


class _Asked(PackedLayout):
    """A layout that writes down what the layer asks of it."""

    def __init__(self) -> None:
        super().__init__(((_PROBE_TOKENS, ()),))
        self.terms: Terms | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        self.terms = Terms(layer, how["scale"], how["window"], how["softcap"], plain_norms=False, is_last=False)
        return super().attend(layer, query, key, value, **how)


def _terms(base: Any, layer: Any, number: int) -> Terms | None:
    """What our `forward` needs to compute the same as this layer's own; None where it computes something else."""
    # in float32: a layer adds little to its input, and a rounding of bfloat16 would hide what it adds
    probed = copy.deepcopy(layer).float()
    weight = probed.self_attn.q_proj.weight
    draw = torch.randn(1, _PROBE_TOKENS, weight.shape[1], generator=torch.Generator().manual_seed(number))
    hidden = draw.to(weight.device)
    positions = torch.arange(_PROBE_TOKENS, device=weight.device)[None]
    given = {"position_embeddings": _rotary(base, hidden, positions, number), "layout": _Asked()}
    # far apart, for layers that scale by position; not the rotary angles, whose module remembers the farthest
    out = probed(hidden, attention_mask=None, position_ids=positions * _FAR, **given)
    expected = cast(Tensor, out[0] if isinstance(out, tuple) else out)
    terms = given["layout"].terms
    assert terms is not None, "every layer calls the attention function"
    probed.__class__ = _fast_class(type(probed))
    probed.terms = terms._replace(plain_norms=_norms_are_plain(probed))
    return probed.terms if _close(probed(hidden, **given), expected) else None


def _rotary(base: Any, hidden: Tensor, positions: Tensor, number: int) -> tuple[Tensor, Tensor]:
    kinds: list[str] | None = getattr(base.config, "layer_types", None)
    if kinds is not None and hasattr(base.rotary_emb, "layer_types"):
        return base.rotary_emb(hidden, positions, kinds[number])
    return base.rotary_emb(hidden, positions)


def _norms_are_plain(layer: Any) -> bool:
    """Whether the norms are x / rms(x) times their weight; Gemma's multiply by 1 + weight."""
    norm = layer.input_layernorm
    if not hasattr(norm, "variance_epsilon"):
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBE_TOKENS, norm.weight.shape[0], generator=generator).to(norm.weight)
    return _close(rms_norm(x, norm.weight, norm.variance_epsilon), norm(x))


def _close(ours: Tensor, theirs: Tensor) -> bool:
    """Within a few roundings of the largest value: another order of operations, not another computation."""
    return torch.allclose(
        ours, theirs, atol=_ROUNDINGS * torch.finfo(theirs.dtype).eps * float(theirs.abs().max()), rtol=0
    )
