"""Packing, trunk split and LoRA change no log-prob, score or gradient (float32)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from plaudit.core.records import TokenGroup
from plaudit.models.load import load_policy, load_reward, new_reward
from plaudit.models.lora import LoraConfig
from plaudit.models.packing import batches, pack
from plaudit.models.policy import Policy, value_from_policy
from plaudit.models.precision import FLOAT32
from tiny import CONFIGS, make_folder

GROUPS = [
    TokenGroup((5, 9, 17, 33, 21, 8, 77), ((40, 41, 42, 2), (43, 44, 2), (60, 61, 62, 63, 64, 65, 2))),
    TokenGroup((7, 11), ((50, 51, 52, 53, 2),)),
    TokenGroup(tuple(range(80, 104)), ((90, 2), (91, 92, 93, 2))),
]


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("family") / request.param, request.param)


def plain_log_probs(folder: Path, groups: list[TokenGroup]) -> torch.Tensor:
    """One sequence at a time through untouched transformers: (M,)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    out = []
    for group in groups:
        for response in group.responses:
            ids = torch.tensor([[*group.prompt, *response]])
            with torch.no_grad():
                logp = model(input_ids=ids).logits.log_softmax(-1)[0]
            start = len(group.prompt)
            out += [logp[t - 1, ids[0, t]] for t in range(start, ids.shape[1])]
    return torch.stack(out)


@pytest.mark.parametrize("train_layers", ["all", 1, 2, 4])
def test_packed_and_split_log_probs_equal_plain_transformers(folder: Path, train_layers: int | str) -> None:
    policy = load_policy(folder, precision=FLOAT32, train_layers=train_layers)
    packed = pack(GROUPS)
    got = policy.log_probs(packed, policy.states(packed)).log_prob
    torch.testing.assert_close(got, plain_log_probs(folder, GROUPS), atol=2e-5, rtol=0)


@pytest.mark.parametrize("longest", [0, 25])
def test_long_groups_attend_by_themselves(folder: Path, monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    """All of them, or one of three: the same log-probs and gradients as in blocks."""
    policy = load_policy(folder, precision=FLOAT32, train_layers=2)
    weights = torch.linspace(-1, 1, sum(len(r) for g in GROUPS for r in g.responses))
    in_blocks = _gradients(policy, [GROUPS], weights)
    monkeypatch.setattr("plaudit.models.attention.LONGEST", longest)
    packed = pack(GROUPS)
    got = policy.log_probs(packed, policy.states(packed)).log_prob
    torch.testing.assert_close(got, plain_log_probs(folder, GROUPS), atol=2e-5, rtol=0)
    for name, gradient in _gradients(policy, [GROUPS], weights).items():
        torch.testing.assert_close(gradient, in_blocks[name], atol=2e-5, rtol=1e-4)


def test_split_is_exact_bit_for_bit(folder: Path) -> None:
    packed = pack(GROUPS)
    results = []
    for train_layers in ("all", 1, 3):
        policy = load_policy(folder, precision=FLOAT32, train_layers=train_layers)
        results.append(policy.log_probs(packed, policy.states(packed)).log_prob)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_neighbours_and_order_change_nothing(folder: Path) -> None:
    policy = load_policy(folder, precision=FLOAT32, train_layers=2)
    together = pack(GROUPS)
    joint = policy.log_probs(together, policy.states(together)).log_prob
    alone = []
    for group in GROUPS:
        for response in group.responses:
            packed = pack([TokenGroup(group.prompt, (response,))])
            alone.append(policy.log_probs(packed, policy.states(packed)).log_prob)
    torch.testing.assert_close(joint, torch.cat(alone), atol=1e-5, rtol=0)


def _gradients(policy: Policy, rows: list[list[TokenGroup]], weights: torch.Tensor) -> dict[str, torch.Tensor]:
    for parameter in policy.trainable().values():
        parameter.grad = None
    start = 0
    for groups in rows:
        packed = pack(groups)
        log_prob = policy.log_probs(packed, policy.states(packed), temperature=0.7).log_prob
        (log_prob * weights[start : start + len(log_prob)]).sum().backward()
        start += len(log_prob)
    return {name: p.grad.clone() for name, p in policy.trainable().items() if p.grad is not None}


@pytest.mark.parametrize("train_layers", ["all", 2])
def test_gradients_equal_separate_sequences(folder: Path, train_layers: int | str) -> None:
    policy = load_policy(folder, precision=FLOAT32, train_layers=train_layers)
    weights = torch.linspace(-1, 1, sum(len(r) for g in GROUPS for r in g.responses))
    packed = _gradients(policy, [GROUPS], weights)
    separate = _gradients(policy, [[TokenGroup(g.prompt, (r,))] for g in GROUPS for r in g.responses], weights)
    assert packed.keys() == separate.keys() == policy.trainable().keys()
    for name in packed:
        torch.testing.assert_close(
            packed[name], separate[name], atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_gradients_equal_autograd_through_full_logits(tmp_path: Path) -> None:
    """The head's hand-written backward against PyTorch's, on the whole model."""
    folder = make_folder(tmp_path / "m", "gemma2")
    policy = load_policy(folder, precision=FLOAT32, train_layers="all")
    packed = pack(GROUPS)
    weights = torch.linspace(-1, 1, len(packed.targets))
    ours = _gradients(policy, [GROUPS], weights)
    for parameter in policy.trainable().values():
        parameter.grad = None
    hidden = policy.branch(policy.states(packed), packed.positions, packed.layout)[packed.predict]
    logits = hidden @ policy.head.t()
    cap = policy.softcap
    assert cap is not None
    logp = ((logits / cap).tanh() * cap / 0.7).log_softmax(-1).gather(1, packed.targets[:, None]).squeeze(1)
    (logp * weights).sum().backward()
    for name, parameter in policy.trainable().items():
        assert parameter.grad is not None
        torch.testing.assert_close(ours[name], parameter.grad, atol=2e-5, rtol=1e-4)


def test_reference_shares_the_trunk_and_stays(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder, precision=FLOAT32, train_layers=2)
    reference = policy.frozen_copy()
    assert reference.trunk is policy.trunk
    packed = pack(GROUPS)
    states = policy.states(packed)
    before = policy.log_probs(packed, states).log_prob
    assert torch.equal(before, reference.log_probs(packed, states).log_prob)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.05)
    assert not torch.allclose(before, policy.log_probs(packed, states).log_prob)
    assert torch.equal(before, reference.log_probs(packed, states).log_prob)
    assert not reference.trainable()


@pytest.mark.parametrize("train_layers", ["all", 2])
def test_lora_starts_as_the_base_and_shares_it(folder: Path, train_layers: int | str) -> None:
    plain = load_policy(folder, precision=FLOAT32, train_layers=train_layers)
    policy = load_policy(folder, precision=FLOAT32, train_layers=train_layers, lora=LoraConfig(rank=4))
    packed = pack(GROUPS)
    states = policy.states(packed)
    before = policy.log_probs(packed, states).log_prob
    assert torch.equal(before, plain.log_probs(packed, plain.states(packed)).log_prob)
    assert all("lora_" in name for name in policy.trainable())
    reference = policy.frozen_copy()
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.05)
    moved = policy.log_probs(packed, states).log_prob
    assert not torch.allclose(moved, before, atol=1e-3)
    assert torch.equal(reference.log_probs(packed, states).log_prob, before)
    base = next(iter(reference.branch.model.layers[0].parameters()))
    assert base.data_ptr() in {p.data_ptr() for p in policy.branch.parameters()}, "the base must lie in memory once"
    merged = policy.plain()
    # (W + BA) x against Wx + B(Ax): another order of float32 sums
    torch.testing.assert_close(merged.log_probs(packed, states).log_prob, moved, atol=2e-4, rtol=1e-4)
    assert torch.equal(reference.log_probs(packed, states).log_prob, before), "merging must not touch the base"


def test_scores_do_not_depend_on_the_batch(folder: Path) -> None:
    scalar = new_reward(folder, precision=FLOAT32, train_layers=2)
    packed = pack(GROUPS)
    together = scalar.scores(packed, scalar.states(packed))
    alone = []
    for group in GROUPS:
        for response in group.responses:
            one = pack([TokenGroup(group.prompt, (response,))])
            alone.append(scalar.scores(one, scalar.states(one)))
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def test_value_branch_starts_as_the_reward_model_and_at_zero_without_one(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder, precision=FLOAT32, train_layers=2)
    reward = new_reward(tiny_policy_folder, precision=FLOAT32, train_layers=2, seed=3)
    assert reward.shares_trunk(policy)
    shared = reward.on_trunk_of(policy)
    packed = pack(GROUPS)
    states = policy.states(packed)
    value = shared.trainable_copy()
    assert torch.equal(value.scores(packed, states), shared.scores(packed, states))
    assert not value_from_policy(policy).values(packed, states).any()
    assert not new_reward(tiny_policy_folder, precision=FLOAT32, train_layers=3).shares_trunk(policy)


def test_batches_hold_every_group_once_within_the_limit() -> None:
    rows = batches(GROUPS, max_tokens=40)
    assert sorted(i for row in rows for i in row) == [0, 1, 2]
    assert rows == batches(GROUPS, max_tokens=40)


def test_unpack_and_flatten_are_inverse() -> None:
    packed = pack(GROUPS)
    flat = torch.arange(len(packed.targets), dtype=torch.float32)
    padded = packed.unpack(flat, fill=-1.0)
    assert padded.shape == packed.mask.shape
    assert torch.equal(packed.flatten(padded), flat)
    assert bool((padded[~packed.mask] == -1).all())


def test_fresh_head_is_no_reward_model(tiny_policy_folder: Path) -> None:
    from plaudit.core.errors import ModelError

    with pytest.raises(ModelError, match="no trained reward head"):
        load_reward(tiny_policy_folder, precision=FLOAT32)
