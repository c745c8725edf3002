"""Floating-point operations that a kind of work needs, counted from the model's shapes and the tokens that went in.

A shape is a group: the length of a prompt, and the lengths of its answers. A prompt counts once a group. What is
counted is what the work needs: no padding, no logits that nobody reads, nothing computed twice. A matrix product of a
token with a weight is 2 operations a parameter; its backward pass is two such products, for the input and the weight.
Norms, activations, rotations, softmaxes and optimizers are left out: they are no matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Group = tuple[int, Sequence[int]]


@dataclass(frozen=True)
class Model:
    """The dimensions of a Llama-like model."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Model:
        """From a `config.json`."""
        heads = config["num_attention_heads"]
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocabulary=config["vocab_size"],
        )

    @property
    def layer_weights(self) -> int:
        """Parameters of a layer's matrices: query and output, key and value, gate, up and down."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate


def tokens(groups: Sequence[Group]) -> int:
    """Tokens of all groups."""
    return sum(prompt + sum(answers) for prompt, answers in groups)


def answer_tokens(groups: Sequence[Group]) -> int:
    """Tokens of the answers alone: the positions whose log-prob or draw is wanted."""
    return sum(sum(answers) for _, answers in groups)


def attended(groups: Sequence[Group]) -> int:
    """Pairs of a token and one it attends to, itself included."""
    return sum(
        prompt * (prompt + 1) // 2 + sum(n * prompt + n * (n + 1) // 2 for n in answers) for prompt, answers in groups
    )


def layers_forward(model: Model, groups: Sequence[Group], layers: int) -> int:
    """`layers` layers, forward: their weights, and queries with keys and probabilities with values."""
    attention = 4 * model.heads * model.head_dim * attended(groups)
    return layers * (2 * model.layer_weights * tokens(groups) + attention)


def layers_trained(model: Model, groups: Sequence[Group], layers: int) -> int:
    """Forward and backward."""
    return 3 * layers_forward(model, groups, layers)


def head_forward(model: Model, groups: Sequence[Group]) -> int:
    """Logits of the answers' positions."""
    return 2 * model.hidden * model.vocabulary * answer_tokens(groups)


def head_trained(model: Model, groups: Sequence[Group], *, frozen: bool) -> int:
    """Forward and backward; a frozen head needs no gradient of its weight."""
    return (2 if frozen else 3) * head_forward(model, groups)


def sampling(model: Model, groups: Sequence[Group]) -> dict[str, int]:
    """Every token once through all layers, one row of logits a drawn token."""
    return {"sample": layers_forward(model, groups, model.layers) + head_forward(model, groups)}


def ppo(model: Model, groups: Sequence[Group], layers: int, epochs: int) -> dict[str, int]:
    """An iteration in which the upper `layers` train, by phase. The layers below run once, while sampling.

    Old log-probs come with the samples, so measuring needs the reference and the values only.
    """
    branch, head = layers_forward(model, groups, layers), head_forward(model, groups)
    policy = layers_trained(model, groups, layers) + head_trained(model, groups, frozen=layers < model.layers)
    value = layers_trained(model, groups, layers)
    return sampling(model, groups) | {
        "score": branch,
        "measure": branch + head + branch,
        "train": epochs * (policy + value),
    }


def reward(model: Model, groups: Sequence[Group], layers: int) -> dict[str, int]:
    """A reward-model step: the frozen layers forward, the rest trained; the scalar head is nothing."""
    trunk = layers_forward(model, groups, model.layers - layers)
    return {"trunk": trunk, "train": layers_trained(model, groups, layers)}


def dpo(model: Model, groups: Sequence[Group], layers: int) -> dict[str, int]:
    """A DPO step: frozen layers once, the rest as reference and as policy."""
    trunk = layers_forward(model, groups, model.layers - layers)
    reference = layers_forward(model, groups, layers) + head_forward(model, groups)
    policy = layers_trained(model, groups, layers) + head_trained(model, groups, frozen=layers < model.layers)
    return {"trunk": trunk, "reference": reference, "train": policy}


def sft(model: Model, groups: Sequence[Group], layers: int) -> dict[str, int]:
    """A supervised step."""
    trunk = layers_forward(model, groups, model.layers - layers)
    train = layers_trained(model, groups, layers) + head_trained(model, groups, frozen=layers < model.layers)
    return {"trunk": trunk, "train": train}


def needed(work: str, model: Model, groups: Sequence[Group], layers: int, epochs: int = 1) -> dict[str, int]:
    """Operations of a step of `work`, by phase."""
    match work:
        case "ppo":
            return ppo(model, groups, layers, epochs)
        case "sampling":
            return sampling(model, groups)
        case "reward":
            return reward(model, groups, layers)
        case "dpo":
            return dpo(model, groups, layers)
        case "sft":
            return sft(model, groups, layers)
        case _:
            raise ValueError(f"no count for {work!r}; known: ppo, sampling, reward, dpo, sft")
