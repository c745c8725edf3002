"""LoRA adapters on a branch (Hu et al., 2021, arXiv:2106.09685), through peft: one base, one adapter a role."""

from __future__ import annotations

from typing import Any, Literal

import torch
from peft import LoraConfig as PeftConfig
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from pydantic import Field
from torch import nn

from plaudit.core.config import Config
from plaudit.models.split import Branch


class LoraConfig(Config):
    """Low-rank adapters on the trained layers instead of the layers themselves."""

    rank: int = Field(16, ge=1, description="rank of each adapter")
    alpha: float = Field(32.0, gt=0, description="scale: an adapter adds alpha / rank * B A")
    targets: Literal["all", "attention"] = Field("all", description="which linear layers get adapters")


def with_adapters(base: Branch, config: LoraConfig, *, seed: int) -> Branch:
    """A branch that shares ``base``'s frozen weights and adds trainable adapters, zero at the start (B = 0)."""
    base.requires_grad_(False)
    branch = base.copy_of(share_weights=True)
    linear = {
        name.rsplit(".", 1)[-1] for name, module in branch.model.layers.named_modules() if isinstance(module, nn.Linear)
    }
    targets = (
        linear if config.targets == "all" else {name for name in linear if name.startswith(("q_", "k_", "v_", "o_"))}
    )
    # peft declares lora_alpha an int, and computes with any number
    wanted: dict[str, Any] = {"r": config.rank, "lora_alpha": config.alpha, "target_modules": sorted(targets)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # peft draws A from the global generator
        inject_adapter_in_model(PeftConfig(lora_dropout=0.0, **wanted), branch.model)
    for module in _adapters(branch):
        dtype = module.get_base_layer().weight.dtype
        for adapter in (*module.lora_A.values(), *module.lora_B.values()):
            adapter.to(dtype)
            adapter.requires_grad_(True)
    return branch.eval()


def merged(branch: Branch) -> Branch:
    """A branch of plain layers with the adapters added into copies of the weights; the base is left as it is."""
    plain = branch.copy_of(share_weights=False)
    for parent in list(plain.model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                adapted: Any = child
                linear, delta = adapted.get_base_layer(), adapted.get_delta_weight("default")
                linear.weight.data = (linear.weight.float() + delta.float()).to(linear.weight.dtype)
                setattr(parent, name, linear)
    return plain


def _adapters(branch: Branch) -> list[Any]:
    return [module for module in branch.modules() if isinstance(module, LoraLayer)]
