"""One causal language model cut in two: a frozen trunk that many roles share, and a branch for each role.

The bottom layers of a fine-tuned model hardly move, so they are computed once a sequence; policy, reference, value
and reward each keep only their own upper layers. The cut is made through Hugging Face's own modules, with no code for
any architecture: the trunk is the model with ``layers[:k]`` and no final norm, the branch the model with ``layers[k:]``
fed with ``inputs_embeds``. Trunk then branch runs the same operations in the same order as the whole model.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.models.attention import Layout
from plaudit.models.layers import computes_rows


class Trunk(nn.Module):
    """Embeddings and the bottom ``depth`` layers, frozen. With depth 0 its states are the token ids themselves."""

    def __init__(self, base: nn.Module, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.model = _part(base, 0, depth) if depth else None
        if self.model is not None:
            self.model.norm = nn.Identity()
            self.model.requires_grad_(False)

    @torch.no_grad()
    def forward(self, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """(N,) tokens to the (N, H) states that enter layer ``depth``; (N,) token ids when depth is 0."""
        if self.model is None:
            return tokens
        out = self.model(input_ids=tokens[None], position_ids=positions[None], layout=layout, use_cache=False)
        return out.last_hidden_state[0]


class Branch(nn.Module):
    """The layers from ``depth`` up and the final norm; with depth 0 the embeddings too, so that everything trains."""

    def __init__(self, base: nn.Module, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.model: Any = _part(base, depth, len(layers_of(base)))
        if depth:
            self.model.embed_tokens = None

    def forward(self, states: Tensor, positions: Tensor, layout: Layout, at: Tensor | None = None) -> Tensor:
        """States of the trunk (N, H), or token ids (N,) at depth 0, to final hidden states (N, H).

        With `at` (M,), places in the row, only to those states: (M, H), and the last layer computes no others.
        """
        rows = place = None
        if at is not None:
            rows, place = torch.unique(at, return_inverse=True)
        given = {"inputs_embeds": states[None]} if self.depth else {"input_ids": states[None]}
        out = self.model(**given, position_ids=positions[None], layout=layout, rows=rows, use_cache=False)
        final = out.last_hidden_state[0]
        if at is None:
            return final
        return final[place] if computes_rows(self.model) else final[at]

    def copy_of(self, *, share_weights: bool) -> Branch:
        """A second branch: with weights of its own, or (the base under LoRA adapters) with the very same ones."""
        memo: dict[int, Any] = {id(p): p for p in self.parameters()} if share_weights else {}
        return copy.deepcopy(self, memo)


def layers_of(base: nn.Module) -> nn.ModuleList:
    """The decoder layers of a Hugging Face base model."""
    layers = getattr(base, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not hasattr(base, "norm") or not hasattr(base, "embed_tokens"):
        from plaudit.core.errors import ModelError

        raise ModelError(
            f"{type(base).__name__} is not a decoder with embed_tokens, layers and norm; "
            "Llama, Qwen, Gemma and Mistral style models are"
        )
    return layers


def _part(base: nn.Module, start: int, stop: int) -> Any:
    """The base model with layers start..stop only, weights shared. Layers keep their index: it names their cache."""
    part = copy.copy(base)
    part._modules = dict(base._modules)
    part._parameters = dict(base._parameters)
    part._buffers = dict(base._buffers)
    config: Any = copy.deepcopy(base.config)
    config.num_hidden_layers = stop - start
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[start:stop]
    config._attn_implementation = base.config._attn_implementation  # type: ignore[union-attr]
    part.config = config  # type: ignore[assignment]
    part.layers = nn.ModuleList(layers_of(base)[start:stop])
    return part
