"""Decoder layers taken over: the right ones, with the right terms, computing the rows that are read and no others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Ministral3Config, OlmoConfig
from transformers.models.llama import modeling_llama

import tiny
from plaudit.core.records import TokenGroup
from plaudit.models.layers import FastLayer, computes_rows
from plaudit.models.load import load_policy, new_reward
from plaudit.models.lora import LoraConfig
from plaudit.models.packing import pack
from plaudit.models.policy import Policy
from plaudit.models.precision import FLOAT32, Precision
from plaudit.models.split import Branch
from plaudit.rollouts.engine import sample
from plaudit.rollouts.sampling import Sampling
from tiny import CONFIGS, make_folder

BFLOAT16 = Precision(torch.bfloat16, "asked for")
GROUPS = [
    TokenGroup((5, 9, 17, 33, 21, 8, 77), ((40, 41, 42, 2), (43, 44, 2), (60, 61, 62, 63, 64, 65, 2))),
    TokenGroup(tuple(range(80, 104)), ((90, 2), (91, 92, 93, 2))),
]
WINDOWS = {"mistral": [8] * 4, "gemma2": [8, None, 8, None], "gemma3": [8] * 4}
Forward = Callable[..., Tensor]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make_folder(tmp_path_factory.mktemp("family") / name, name) for name in CONFIGS}


@pytest.fixture(params=sorted(CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def layers(policy: Policy) -> list[Any]:
    trunk = policy.trunk.model
    return [*([] if trunk is None else trunk.layers), *policy.branch.model.layers]


def plain_log_probs(folder: Path, groups: list[TokenGroup]) -> Tensor:
    """One sequence at a time through transformers' own layers: (M,)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    out = []
    for group in groups:
        for response in group.responses:
            ids = torch.tensor([[*group.prompt, *response]])
            with torch.no_grad():
                every = model(input_ids=ids).logits.log_softmax(-1)[0]
            out += [every[t - 1, ids[0, t]] for t in range(len(group.prompt), ids.shape[1])]
    return torch.stack(out)


def log_probs(policy: Policy) -> Tensor:
    packed = pack(GROUPS)
    return policy.log_probs(packed, policy.states(packed)).log_prob


# --- which layers, with which terms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16], ids=lambda p: p.name)
def test_every_supported_familys_layers_are_taken_over(
    family: str, precision: Precision, folders: dict[str, Path]
) -> None:
    taken = layers(load_policy(folders[family], precision=precision, train_layers=2))
    assert all(isinstance(layer, FastLayer) for layer in taken)
    terms = [layer.terms for layer in taken]
    assert [one.layer for one in terms] == [0, 1, 2, 3]
    assert [one.window for one in terms] == WINDOWS.get(family, [None] * 4)
    assert {one.softcap for one in terms} == {50.0 if family == "gemma2" else None}
    assert {one.scale for one in terms} == {8**-0.5}
    assert {one.plain_norms for one in terms} == {not family.startswith("gemma")}
    assert [one.is_last for one in terms] == [False, False, False, True]
    assert all(p.dtype == precision.compute for layer in taken for p in layer.parameters())


def scaled(own: Forward, by: float) -> Forward:
    return lambda self, *args, **more: own(self, *args, **more) * by


@pytest.mark.parametrize("name", ["LlamaMLP", "LlamaDecoderLayer"])
@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16], ids=lambda p: p.name)
def test_layers_that_compute_something_else_keep_their_own_forward(
    name: str, precision: Precision, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousandths, less than bfloat16 can tell of the layer's output: the comparison is in float32."""
    owner = getattr(modeling_llama, name)
    monkeypatch.setattr(owner, "forward", scaled(owner.forward, 1.002))
    policy = load_policy(folders["llama"], precision=precision, train_layers=2)
    assert not any(isinstance(layer, FastLayer) for layer in layers(policy))
    assert not computes_rows(policy.branch.model)


def test_layers_with_their_own_forward_give_the_right_log_probs(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = log_probs(load_policy(folders["llama"], precision=FLOAT32, train_layers=2))
    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", scaled(modeling_llama.LlamaMLP.forward, 0.5))
    policy = load_policy(folders["llama"], precision=FLOAT32, train_layers=2)
    got = log_probs(policy)
    torch.testing.assert_close(got, plain_log_probs(folders["llama"], GROUPS), atol=2e-5, rtol=0)
    assert not torch.allclose(got, untouched, atol=1e-2)
    packed = pack(GROUPS)
    whole = policy.branch(policy.states(packed), packed.positions, packed.layout)
    at = torch.tensor([9, 3, 9, 0])
    chosen = policy.branch(policy.states(packed), packed.positions, packed.layout, at)
    assert torch.equal(chosen, whole[at])


def test_a_layer_of_another_shape_keeps_its_own_forward_and_the_others_do_not(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last layer has one module more, which computes: the other three are taken over all the same."""
    init, forward = modeling_llama.LlamaMLP.__init__, modeling_llama.LlamaMLP.forward
    made: list[nn.Module] = []

    def with_tanh(self: Any, config: Any) -> None:
        init(self, config)
        made.append(self)
        if len(made) % 4 == 0:
            self.bound = nn.Tanh()

    def bounded(self: Any, x: Tensor) -> Tensor:
        return self.bound(forward(self, x)) if hasattr(self, "bound") else forward(self, x)

    monkeypatch.setattr(modeling_llama.LlamaMLP, "__init__", with_tanh)
    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", bounded)
    policy = load_policy(folders["llama"], precision=FLOAT32, train_layers=2)
    assert [isinstance(layer, FastLayer) for layer in layers(policy)] == [True, True, True, False]
    torch.testing.assert_close(log_probs(policy), plain_log_probs(folders["llama"], GROUPS), atol=2e-5, rtol=0)


OTHERS = {
    # queries are scaled by their position, beyond 8: nothing that shows at the first positions
    "ministral3": lambda n: Ministral3Config(
        vocab_size=n,
        **tiny._SHAPE,
        head_dim=8,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "original_max_position_embeddings": 8,
            "llama_4_scaling_beta": 0.5,
        },
    ),
    # norms without weights
    "olmo": lambda n: OlmoConfig(vocab_size=n, **tiny._SHAPE),
}


@pytest.mark.parametrize("name", OTHERS)
def test_relatives_of_the_families_load_and_are_computed_right(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIGS, name, OTHERS[name])
    folder = make_folder(tmp_path / name, name)
    policy = load_policy(folder, precision=FLOAT32, train_layers=2)
    assert [isinstance(layer, FastLayer) for layer in layers(policy)] == [name == "olmo"] * 4
    torch.testing.assert_close(log_probs(policy), plain_log_probs(folder, GROUPS), atol=2e-5, rtol=0)


# --- rows -----------------------------------------------------------------------------------------------------------


@contextmanager
def rows_seen(taken: list[Any]) -> Iterator[list[list[int]]]:
    """How many rows each layer's down projection is given, call after call."""
    seen: list[list[int]] = [[] for _ in taken]
    handles = [
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, x, at=at: at.append(x[0].shape[-2]))
        for layer, at in zip(taken, seen, strict=True)
    ]
    yield seen
    for handle in handles:
        handle.remove()


def test_only_the_last_layer_computes_chosen_rows(family: str, folders: dict[str, Path]) -> None:
    policy = load_policy(folders[family], precision=FLOAT32, train_layers=2)
    packed = pack(GROUPS)
    tokens = len(packed.tokens)
    read = len(set(packed.predict.tolist()))
    assert read == 20 - 5 + 2  # a token less an answer, and one row for the end of each prompt
    states = policy.states(packed)
    with rows_seen(layers(policy)) as seen:
        policy.log_probs(packed, states)
    assert seen == [[], [], [tokens], [read]]
    with rows_seen(layers(policy)) as seen:
        policy.branch(policy.states(packed), packed.positions, packed.layout)
    assert seen == [[tokens]] * 4


def test_scores_compute_one_row_an_answer_and_values_one_a_token(family: str, folders: dict[str, Path]) -> None:
    reward = new_reward(folders[family], precision=FLOAT32, train_layers=2)
    packed = pack(GROUPS)
    states = reward.states(packed)
    with rows_seen(list(reward.branch.model.layers)) as seen:
        reward.scores(packed, states)
        reward.values(packed, states)
    assert seen == [[len(packed.tokens)] * 2, [5, 17]]


def test_prefill_computes_one_row_a_prompt(family: str, folders: dict[str, Path]) -> None:
    policy = load_policy(folders[family], precision=FLOAT32, train_layers=2)
    prompts = [(5, 9, 17), tuple(range(40, 60)), (7,)]
    with rows_seen(layers(policy)) as seen:
        sample(policy, prompts, Sampling(max_new_tokens=1, n=4), end_ids=frozenset({2}), seeds=[1, 2, 3])
    assert seen == [[24], [24], [24], [3]]


AT = {
    "in order": [2, 5, 6, 30],
    "in no order, some twice": [30, 2, 2, 44, 0, 30],
    "one": [7],
    "none": [],
    "all": list(range(51)),
}


@pytest.mark.parametrize("which", AT)
def test_chosen_rows_and_their_gradients_are_those_of_the_whole(
    family: str, which: str, folders: dict[str, Path]
) -> None:
    policy = load_policy(folders[family], precision=FLOAT32, train_layers=2)
    packed, at = pack(GROUPS), torch.tensor(AT[which], dtype=torch.long)
    assert len(packed.tokens) == 51
    states = policy.states(packed)
    branch = policy.branch
    upstream = torch.randn(len(at), states.shape[1], generator=torch.Generator().manual_seed(0))
    leaf = states.clone().requires_grad_()
    wanted = {"states": leaf, **policy.trainable()}
    wanted.pop("lm_head.weight", None)

    def run(hidden: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        grads = torch.autograd.grad((hidden * upstream).sum(), list(wanted.values()), materialize_grads=True)
        return hidden.detach(), dict(zip(wanted, grads, strict=True))

    chosen, grads = run(branch(leaf, packed.positions, packed.layout, at))
    whole, whole_grads = run(branch(leaf, packed.positions, packed.layout)[at])
    assert chosen.shape == (len(at), 32)
    torch.testing.assert_close(chosen, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(grads, whole_grads, atol=2e-5, rtol=1e-4)


# --- copies and adapters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [lambda branch: branch.copy_of(share_weights=False), copy.deepcopy], ids=["copy_of", "deepcopy"]
)
def test_a_copy_computes_with_its_own_weights(
    family: str, copied: Callable[[Branch], Branch], folders: dict[str, Path]
) -> None:
    policy = load_policy(folders[family], precision=FLOAT32, train_layers=2)
    packed = pack(GROUPS)
    how = policy.states(packed), packed.positions, packed.layout, packed.predict
    with torch.no_grad():
        before = policy.branch(*how)
        other = copied(policy.branch)
        assert all(isinstance(layer, FastLayer) for layer in other.model.layers)
        assert [layer.terms for layer in other.model.layers] == [layer.terms for layer in policy.branch.model.layers]
        assert torch.equal(other(*how), before)
        for name, _ in list(other.named_parameters()):
            changed = copied(policy.branch)
            parameter = changed.get_parameter(name)
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
            assert not torch.allclose(changed(*how), before, atol=1e-4), f"{name} is not used"
            assert torch.equal(policy.branch(*how), before), f"{name} is shared"


def test_adapters_are_computed_and_trained_in_chosen_rows(family: str, folders: dict[str, Path]) -> None:
    policy = load_policy(folders[family], precision=FLOAT32, train_layers=2, lora=LoraConfig(rank=2))
    assert all(isinstance(layer, FastLayer) for layer in layers(policy))
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    packed = pack(GROUPS)
    states, wanted = policy.states(packed), policy.trainable()

    def run(hidden: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        grads = torch.autograd.grad(hidden.square().sum(), list(wanted.values()))
        return hidden.detach(), dict(zip(wanted, grads, strict=True))

    chosen, grads = run(policy.branch(states, packed.positions, packed.layout, packed.predict))
    whole, whole_grads = run(policy.branch(states, packed.positions, packed.layout)[packed.predict])
    torch.testing.assert_close(chosen, whole, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(grads, whole_grads, atol=2e-5, rtol=1e-4)
    assert all(bool(grad.any()) for grad in grads.values())
    merged = policy.plain().branch(states, packed.positions, packed.layout, packed.predict)
    torch.testing.assert_close(merged.detach(), chosen, atol=1e-4, rtol=1e-4)
