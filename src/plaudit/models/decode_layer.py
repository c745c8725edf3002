"""Which decoder layers the compiled kernel decodes whole, and what it needs to know of them.

Between two products of a layer lie a dozen small operations; started one by one they cost as much as a third of the
products. The kernel serves layers of the Llama, Mistral and Qwen 2 shape with plain linear maps in bfloat16; others
are computed operation by operation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from plaudit.models.fused import is_silu
from plaudit.models.kernels import products
from plaudit.models.packed_weights import Entry, PackedWeights


class DecodeLayer:
    """One layer, ready to decode: holds what the kernel reads."""

    def __init__(self, module: Any, entries: list[Entry], keys: Tensor, values: Tensor) -> None:
        """`keys` and `values`: the layer's part of the cache, as in `ops.attend_step`."""
        qkv, o, gate_up, down = entries
        norms = module.input_layernorm, module.post_attention_layernorm
        terms, (_, kv_heads, width, columns) = module.terms, keys.shape
        self._held = [norms, entries, keys, values]  # the kernel has their addresses
        self._layer = products.Layer(
            attention_norm=norms[0].weight.data_ptr(),
            mlp_norm=norms[1].weight.data_ptr(),
            attention_eps=norms[0].variance_epsilon,
            mlp_eps=norms[1].variance_epsilon,
            keys=keys.data_ptr(),
            values=values.data_ptr(),
            hidden=down.widths[0],
            heads=qkv.widths[0] // width,
            kv_heads=kv_heads,
            width=width,
            inner=gate_up.widths[0],
            columns=columns,
            window=terms.window or 0,
            scale=terms.scale,
            **_addresses(qkv=qkv, o=o, gate_up=gate_up, down=down),
        )

    def __call__(self, hidden: Tensor, cos: Tensor, sin: Tensor, lengths: Tensor, column: int) -> Tensor:
        """As `products.decode_layer`."""
        return products.decode_layer(self._layer, hidden, cos, sin, lengths, column)


def decode_layer(module: Any, weights: PackedWeights, keys: Tensor, values: Tensor) -> DecodeLayer | None:
    """`module`, a `FastLayer`, for the kernel; None where the kernel does not compute what it computes."""
    if not products.multiplies(keys.dtype, keys.device) or not _has_kernel_shape(module):
        return None
    attention, mlp = module.self_attn, module.mlp
    linears = (
        (attention.q_proj, attention.k_proj, attention.v_proj),
        (attention.o_proj,),
        (mlp.gate_proj, mlp.up_proj),
        (mlp.down_proj,),
    )
    entries = [entry for modules in linears if (entry := weights.entry(modules)) is not None]
    if len(entries) < len(linears) or any(entry.rows for entry in entries):
        return None
    return DecodeLayer(module, entries, keys, values)


def _has_kernel_shape(module: Any) -> bool:
    norms: list[nn.Parameter] = [module.input_layernorm.weight, module.post_attention_layernorm.weight]
    return (
        module.terms.plain_norms
        and module.terms.softcap is None
        and not hasattr(module, "pre_feedforward_layernorm")
        and not hasattr(module.self_attn, "q_norm")
        and is_silu(module.mlp.act_fn)
        and all(weight.dtype is torch.bfloat16 and weight.is_contiguous() for weight in norms)
    )


def _addresses(**entries: Entry) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for name, entry in entries.items():
        found[name] = entry.weight.data_ptr()
        found[f"{name}_bias"] = None if entry.bias is None else entry.bias.data_ptr()
    return found
