"""The start of a run: checks that stop a wrong run before it costs anything, and lines that say what will be done."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from rich.text import Text
from torch import Tensor

from plaudit.core.errors import DoctorError
from plaudit.core.progress import say
from plaudit.core.records import TokenGroup
from plaudit.models.kernels.build import kernels
from plaudit.models.policy import Policy, ScalarModel

_GIB = 2**30


def check_supervised(groups: Sequence[TokenGroup], end_ids: Collection[int]) -> None:
    """Every response has tokens, and the loss reaches its end of turn: a model that never sees it never learns to stop.

    Raises:
        DoctorError: naming the first group that breaks this.
    """
    for number, group in enumerate(groups):
        for response in group.responses:
            if not response:
                raise DoctorError(f"Example {number} has no supervised token; remove it, or look at the chat template.")
            if response[-1] not in end_ids:
                raise DoctorError(
                    f"Example {number} ends with token {response[-1]}, which is no end of turn ({sorted(end_ids)}): "
                    "the model would not learn to stop. Look at the chat template."
                )


def check_finite(value: float, name: str, step: int) -> float:
    """The value, if it is a finite number.

    Raises:
        DoctorError: naming it and the step.
    """
    if not math.isfinite(value):
        raise DoctorError(
            f"{name} is {value} at step {step}; nothing was saved from this step. Lower the learning rate, or use "
            "precision=float32, and start from the last checkpoint with the same command."
        )
    return value


def announce(stage: str, run: Path, facts: Mapping[str, str], example: Text) -> None:
    """Say what is about to be done, with one training example in colour, on standard error."""
    lines = Text(f"{stage}  {run}", style="bold")
    for name, fact in {**facts, "kernels": kernels()}.items():
        lines.append(f"\n  {name:<10}{fact}", style="not bold")
    say(lines)
    say(Text("  example   ").append_text(example))


def describe_model(model: Policy | ScalarModel) -> str:
    """Name, number format and the reason for it, parameters that train and that are frozen."""
    trainable = sum(p.numel() for p in model.trainable().values())
    total = sum(p.numel() for p in _parameters(model))
    adapters = f", LoRA of rank {model.lora.rank}" if model.lora is not None else ""
    return (
        f"{model.origin.name} in {model.precision.name} ({model.precision.reason}); "
        f"{_millions(trainable)} parameters train, {_millions(total - trainable)} are frozen{adapters}"
    )


def describe_memory(model: Policy | ScalarModel, *, micro_tokens: int) -> str:
    """An estimate of the memory training takes: exact for weights and optimizer, rough for activations."""
    state = sum(_bytes(p) for p in _parameters(model)) + sum(_training_bytes(p) for p in model.trainable().values())
    activations = micro_tokens * _activation_bytes(model)
    text = (
        f"about {state / _GIB:.1f} GiB for weights, gradients and optimizer, "
        f"{activations / _GIB:.1f} GiB for activations of {micro_tokens:,} tokens"
    )
    available = _available_memory()
    if available is None:
        return text
    text += f"; {available / _GIB:.1f} GiB available"
    if state + activations > available:
        text += ": may not fit; lower micro_tokens, or train fewer layers (train_layers=8, or lora.rank=16)"
    return text


def _parameters(model: Policy | ScalarModel) -> list[Tensor]:
    """Every tensor once, whoever shares it."""
    parts = [model.trunk, model.branch] + ([] if model.base is None else [model.base])
    tensors: list[Tensor] = [p for part in parts for p in part.parameters()]
    tensors.append(model.head)
    return list({id(t): t for t in tensors}.values())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _training_bytes(parameter: Tensor) -> int:
    """The gradient in float32, two moments in the parameter's format, and what float32 has below bfloat16."""
    return parameter.numel() * (12 if parameter.dtype == torch.float32 else 10)


def _activation_bytes(model: Policy | ScalarModel) -> int:
    """Bytes a token keeps for the backward pass: about ten states and four inner widths of the MLP in each layer."""
    config = model.origin.config
    layers = config.num_hidden_layers - model.trunk.depth
    width = 10 * config.hidden_size + 4 * config.intermediate_size
    return layers * width * model.precision.compute.itemsize


def _available_memory() -> int | None:
    """Bytes the operating system could give, where it says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 100_000 else f"{count:,}"
