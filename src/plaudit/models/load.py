"""From a name to a model cut into trunk and branch. A name is "smollm2", a model or run folder, or a hub name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from plaudit.core.errors import ModelError
from plaudit.core.files import sha256_tree
from plaudit.models.attention import IMPLEMENTATION
from plaudit.models.layers import take_over
from plaudit.models.lora import LoraConfig, with_adapters
from plaudit.models.memory import keep_freed_memory
from plaudit.models.policy import Origin, Policy, ScalarModel
from plaudit.models.precision import Precision
from plaudit.models.smollm2 import smollm2_folder
from plaudit.models.split import Branch, Trunk, layers_of

TrainLayers = int | Literal["all"]

keep_freed_memory()
transformers_logging.disable_progress_bar()


def resolve_model(name: str | Path) -> str:
    """The folder (or hub name) behind ``name``.

    Raises:
        ModelError: a run folder without a finished model, or a folder that holds no model.
    """
    if str(name) == "smollm2":
        return str(smollm2_folder())
    folder = Path(name)
    if (folder / "config.json").exists():
        return str(folder)
    if (folder / "model" / "config.json").exists():
        return str(folder / "model")
    if (folder / "config.yaml").exists():
        raise ModelError(
            f"{folder} is a run folder without a model: its run has not finished; run its command again to go on"
        )
    if folder.exists():
        raise ModelError(
            f"{folder} holds no model: there is no config.json in it; name a model folder, a run folder or smollm2"
        )
    if str(name).count("/") > 1 or str(name).startswith((".", "/", "~")):
        raise ModelError(f"model folder {name} does not exist")
    return str(name)


def hash_model(name: str) -> str:
    """What a run writes down about a model it starts from: SHA-256 of the folder, or the hub name as it is."""
    resolved = resolve_model(name)
    return sha256_tree(Path(resolved)) if Path(resolved).is_dir() else resolved


def load_policy(
    name: str | Path,
    *,
    precision: Precision,
    train_layers: TrainLayers = "all",
    lora: LoraConfig | None = None,
    seed: int = 0,
) -> Policy:
    """A causal language model whose upper ``train_layers`` layers train (``all``: everything, embeddings included).

    Raises:
        ModelError: no such model, a reward model's folder, no tokenizer, or an architecture this cut does not fit.
    """
    folder = resolve_model(name)
    config = _config(folder)
    if _is_classifier(config):
        raise ModelError(
            f"{name} is a reward model ({config.architectures[0]}), not a language model; give its folder as reward=, "
            "and as policy= or model= a folder saved by sft, ppo or dpo"
        )
    model = _load(AutoModelForCausalLM, folder, config, precision.compute)
    trunk, branch, base = _cut(model.model, train_layers, lora, seed)
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    trains_head = branch.depth == 0 and lora is None
    # a tied head that trains is the branch's own embedding matrix
    head = None if tied and trains_head else model.lm_head.weight.requires_grad_(trains_head)
    origin = Origin(str(name), config, load_tokenizer(folder), model.generation_config)
    return Policy(origin, precision, trunk, branch, head, lora, base)


def load_reward(
    name: str | Path,
    *,
    precision: Precision,
    train_layers: TrainLayers = "all",
    lora: LoraConfig | None = None,
    seed: int = 0,
) -> ScalarModel:
    """A trained reward model: any Hugging Face sequence classifier with one label.

    Raises:
        ModelError: a language model's folder, several labels, or a head that is not in the files (it would be random).
    """
    folder = resolve_model(name)
    config = _config(folder)
    if not _is_classifier(config):
        kind = (config.architectures or ["a model"])[0]
        raise ModelError(
            f"{name} is {kind}, which has no trained reward head; train one with `plaudit reward model={name} …`"
        )
    if config.num_labels != 1:
        raise ModelError(f"{name} has {config.num_labels} labels; a reward model has one")
    model, info = _load(AutoModelForSequenceClassification, folder, config, precision.compute, with_info=True)
    fresh = sorted(key for key in info["missing_keys"] if "score" in key)
    if fresh:
        raise ModelError(
            f"{name} lacks {', '.join(fresh)}: its reward head would be random; save the head with the model"
        )
    trunk, branch, base = _cut(model.model, train_layers, lora, seed)
    # read again in float32: the model was loaded in the compute format, which would round the head
    head = nn.Parameter(_float32_head(folder, model))
    return ScalarModel(
        Origin(str(name), config, load_tokenizer(folder)), precision, trunk, branch, head, True, lora, base
    )


def new_reward(
    name: str | Path,
    *,
    precision: Precision,
    train_layers: TrainLayers = "all",
    lora: LoraConfig | None = None,
    seed: int = 0,
) -> ScalarModel:
    """A reward model to be trained: a language model's layers, and a fresh head drawn from N(0, 1/(H+1)).

    Source: Ziegler et al., 2019 (arXiv:1909.08593).
    """
    policy = load_policy(name, precision=precision, train_layers=train_layers, lora=lora, seed=seed)
    width = policy.head.shape[1]
    generator = torch.Generator().manual_seed(seed)
    head = nn.Parameter(torch.randn(width, generator=generator) * (width + 1) ** -0.5)
    return ScalarModel(
        policy.origin, precision, policy.trunk, policy.branch, head, is_trained=False, lora=lora, base=policy.base
    )


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a model folder or hub name."""
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder} has no usable tokenizer ({_first_line(error)}); copy tokenizer.json and tokenizer_config.json "
            "of its base model into it"
        ) from error


def _config(folder: str) -> Any:
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot load the model {folder} ({_first_line(error)}); give a local folder, a run folder, smollm2, "
            "or a hub name with the hub in reach"
        ) from error


def _load(auto: Any, folder: str, config: Any, dtype: torch.dtype, *, with_info: bool = False) -> Any:
    for field, neutral in (("logits_scaling", 1.0), ("logit_scale", 1.0), ("residual_multiplier", 1.0)):
        if getattr(config, field, neutral) not in (neutral, None):
            raise ModelError(
                f"{folder}: {type(config).__name__} scales its states ({field}), which is not computed here; "
                "Llama, Qwen, Gemma and Mistral styles are"
            )
    try:
        loaded = auto.from_pretrained(
            folder, dtype=dtype, attn_implementation=IMPLEMENTATION, use_safetensors=True, output_loading_info=with_info
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"cannot load the weights of {folder}: {_first_line(error)}; only safetensors files are read"
        ) from error
    model = loaded[0] if with_info else loaded
    model.eval().requires_grad_(False)
    # With a padding index PyTorch drops that token's gradient: an end of turn used as padding would never train.
    model.model.embed_tokens.padding_idx = None
    layers_of(model.model)  # refuses what is no decoder
    take_over(model.model)
    return loaded


def _cut(
    base: nn.Module, train_layers: TrainLayers, lora: LoraConfig | None, seed: int
) -> tuple[Trunk, Branch, Branch | None]:
    total = len(layers_of(base))
    if train_layers != "all" and not 1 <= train_layers <= total:
        raise ModelError(f"train_layers={train_layers}, but the model has {total} layers; use 1 to {total}, or all")
    depth = 0 if train_layers == "all" else total - train_layers
    trunk, branch = Trunk(base, depth).eval(), Branch(base, depth).eval()
    if lora is None:
        branch.requires_grad_(True)
        return trunk, branch, None
    return trunk, with_adapters(branch, lora, seed=seed), branch


def _float32_head(folder: str, model: Any) -> torch.Tensor:
    from safetensors import safe_open

    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as tensors:
            if "score.weight" in tensors.keys():  # noqa: SIM118  (not a dict)
                # a copy: the file's bytes lie where they may, and products of unaligned numbers differ in the last bit
                return tensors.get_tensor("score.weight").to(torch.float32).squeeze(0).clone()
    return model.score.weight.detach().to(torch.float32).squeeze(0).clone()  # a hub name: the files are elsewhere


def _is_classifier(config: Any) -> bool:
    return any("ForSequenceClassification" in name for name in config.architectures or [])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
