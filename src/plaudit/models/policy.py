"""A language model cut into trunk and branch, in two roles: a policy, and a scalar model (reward or value)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.models.logprobs import TokenLogProbs, capped, token_log_probs
from plaudit.models.lora import LoraConfig, merged
from plaudit.models.packed_weights import PackedWeights
from plaudit.models.packing import Packed
from plaudit.models.precision import Precision
from plaudit.models.split import Branch, Trunk


@dataclass(frozen=True)
class Origin:
    """Where a model came from, and what belongs to it besides weights."""

    name: str
    config: Any
    tokenizer: Any
    generation_config: Any = None


@dataclass(frozen=True)
class Policy:
    """A causal language model.

    Attributes:
        trunk: frozen, shared with every other role.
        branch: what trains; the base of the adapters is in ``base`` under LoRA.
        untied_head: (V, H) vocabulary head, or None where it is the embedding matrix of a branch at depth 0.
        base: the branch without adapters (LoRA only).
    """

    origin: Origin
    precision: Precision
    trunk: Trunk
    branch: Branch
    untied_head: nn.Parameter | None
    lora: LoraConfig | None = None
    base: Branch | None = None

    @property
    def tokenizer(self) -> Any:
        return self.origin.tokenizer

    @property
    def head(self) -> Tensor:
        """(V, H) vocabulary head."""
        return self.branch.model.embed_tokens.weight if self.untied_head is None else self.untied_head

    @property
    def softcap(self) -> float | None:
        return getattr(self.origin.config, "final_logit_softcapping", None)

    def states(self, packed: Packed) -> Tensor:
        """What the branches start from: (N, H) of the trunk, or (N,) token ids when all layers train. No gradient."""
        return self.trunk(packed.tokens, packed.positions, packed.layout)

    def log_probs(self, packed: Packed, states: Tensor, *, temperature: float = 1.0) -> TokenLogProbs:
        """Log-probability of every response token, (M,)."""
        hidden = self.branch(states, packed.positions, packed.layout, packed.predict)
        return token_log_probs(hidden, self.head, packed.targets, temperature=temperature, softcap=self.softcap)

    def logits(self, hidden: Tensor, weights: PackedWeights | None = None) -> Tensor:
        """(R, H) final states to (R, V) logits; with `weights` without gradient."""
        product = hidden @ self.head.t() if weights is None else weights.product(hidden, self.head)
        return capped(product, self.softcap)

    def trainable(self) -> dict[str, nn.Parameter]:
        """What the optimizer moves, by name."""
        own = {name: p for name, p in self.branch.named_parameters() if p.requires_grad}
        if self.untied_head is not None and self.untied_head.requires_grad:
            own["lm_head.weight"] = self.untied_head
        return own

    def load_trainable(self, tensors: dict[str, Tensor]) -> None:
        """Put back the values of ``trainable()``, by name; every name must be there."""
        _load(self.trainable(), tensors)

    def frozen_copy(self) -> Policy:
        """A reference: same trunk, and weights that no longer move. Under LoRA it is the base, which costs nothing."""
        if self.base is not None:
            return replace(self, branch=self.base, base=None, lora=None)
        branch = self.branch.copy_of(share_weights=False).requires_grad_(False)
        head = (
            None if self.untied_head is None else nn.Parameter(self.untied_head.detach().clone(), requires_grad=False)
        )
        return replace(self, branch=branch, untied_head=head)

    def plain(self) -> Policy:
        """The same function without adapters: LoRA merged into copies of the weights."""
        return self if self.lora is None else replace(self, branch=merged(self.branch), lora=None, base=None)


@dataclass(frozen=True)
class ScalarModel:
    """A transformer with one linear output: a reward model or a value function.

    Attributes:
        head: (H,) in float32, whatever the compute format: scores differ in their third digit.
        is_trained: False while the head is as initialised; such a model can't be used as a reward.
    """

    origin: Origin
    precision: Precision
    trunk: Trunk
    branch: Branch
    head: nn.Parameter
    is_trained: bool
    lora: LoraConfig | None = None
    base: Branch | None = None

    @property
    def tokenizer(self) -> Any:
        return self.origin.tokenizer

    def states(self, packed: Packed) -> Tensor:
        """As ``Policy.states``."""
        return self.trunk(packed.tokens, packed.positions, packed.layout)

    def end_states(self, packed: Packed, states: Tensor) -> Tensor:
        """(S, H) float32 final states at each response's last token: what the head reads for a score."""
        return self.branch(states, packed.positions, packed.layout, packed.end).float()

    def scores(self, packed: Packed, states: Tensor) -> Tensor:
        """(S,) one score a response, read at its last token (the end of turn)."""
        return self.end_states(packed, states) @ self.head

    def values(self, packed: Packed, states: Tensor) -> Tensor:
        """(M,) value of the state before each response token is emitted."""
        return self.branch(states, packed.positions, packed.layout, packed.predict).float() @ self.head

    def trainable(self) -> dict[str, nn.Parameter]:
        """As ``Policy.trainable``; the head always trains."""
        return {name: p for name, p in self.branch.named_parameters() if p.requires_grad} | {"score.weight": self.head}

    def load_trainable(self, tensors: dict[str, Tensor]) -> None:
        """As ``Policy.load_trainable``."""
        _load(self.trainable(), tensors)

    def shares_trunk(self, policy: Policy | ScalarModel) -> bool:
        """Whether this model's trunk is, weight for weight, the policy's: then both start from the same states."""
        if self.trunk.depth != policy.trunk.depth or self.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
            return False
        mine, theirs = dict(self.trunk.named_parameters()), dict(policy.trunk.named_parameters())
        return mine.keys() == theirs.keys() and all(torch.equal(p, theirs[name]) for name, p in mine.items())

    def on_trunk_of(self, policy: Policy | ScalarModel) -> ScalarModel:
        """The same model on the policy's own trunk, so that one trunk lies in memory."""
        assert self.shares_trunk(policy), "check shares_trunk first"
        return replace(self, trunk=policy.trunk)

    def trainable_copy(self) -> ScalarModel:
        """A copy with weights of its own that train: a value function that starts as this reward model."""
        branch = merged(self.branch) if self.lora else self.branch.copy_of(share_weights=False)
        branch.requires_grad_(True)
        return replace(self, branch=branch, head=nn.Parameter(self.head.detach().clone()), lora=None, base=None)

    def with_head(self, head: Tensor) -> ScalarModel:
        """The same branch with another (H,) head."""
        return replace(self, head=nn.Parameter(head.detach().to(torch.float32).clone()), is_trained=True)

    def plain(self) -> ScalarModel:
        """As ``Policy.plain``."""
        return self if self.lora is None else replace(self, branch=merged(self.branch), lora=None, base=None)


def value_from_policy(policy: Policy) -> ScalarModel:
    """A value function on the policy's trunk with a zero head (Ziegler et al., 2019): where no reward model fits."""
    plain = policy.plain()
    branch = plain.branch.copy_of(share_weights=False).requires_grad_(True)
    head = nn.Parameter(torch.zeros(policy.head.shape[1], dtype=torch.float32))
    return ScalarModel(copy.copy(policy.origin), policy.precision, policy.trunk, branch, head, is_trained=False)


def _load(own: dict[str, nn.Parameter], tensors: dict[str, Tensor]) -> None:
    assert own.keys() == tensors.keys(), sorted(own.keys() ^ tensors.keys())
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
