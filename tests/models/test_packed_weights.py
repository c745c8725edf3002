"""Packed weights compute what the modules compute, and are copies of what the modules were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from plaudit.core.records import TokenGroup
from plaudit.models import packed_weights
from plaudit.models.kernels import products
from plaudit.models.load import load_policy
from plaudit.models.lora import LoraConfig
from plaudit.models.packed_weights import PackedWeights
from plaudit.models.packing import pack
from plaudit.models.policy import Policy
from plaudit.models.precision import Precision
from plaudit.rollouts.engine import sample
from plaudit.rollouts.sampling import Sampling
from tiny import make_folder

ROWS = 5
BFLOAT16 = Precision(torch.bfloat16, "asked for")
needs_kernels = pytest.mark.skipif(
    not packed_weights._has_onednn(), reason="this processor multiplies no packed bfloat16 weights"
)


@pytest.fixture(autouse=True, params=["compiled", "oneDNN"])
def _kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "oneDNN":
        monkeypatch.setattr(packed_weights, "_for_kernels", lambda _: False)
        monkeypatch.setattr(packed_weights, "_frozen", WeakTensorKeyDictionary())
    elif not products.multiplies(torch.bfloat16, torch.device("cpu")):
        pytest.skip("no products of packed weights on this processor")


def linears(*widths: int, bias: bool, dtype: torch.dtype = torch.bfloat16) -> tuple[nn.Linear, ...]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tuple(nn.Linear(48, width, bias=bias).to(dtype).requires_grad_(False) for width in widths)


def states(dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(ROWS, 48, generator=torch.Generator().manual_seed(1)).to(dtype)


def assert_rounded(got: Tensor, module: nn.Linear, x: Tensor) -> None:
    """The product in float32, rounded once: half a unit in the last place, and what the order of sums changes."""
    exact = nn.functional.linear(x.float(), module.weight.float(), None if module.bias is None else module.bias.float())
    torch.testing.assert_close(got.float(), exact, atol=1e-3, rtol=2**-7)


@needs_kernels
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("widths", [(64,), (32, 16, 16), (24, 40)])
def test_products_are_the_modules(widths: tuple[int, ...], bias: bool) -> None:
    modules, x = linears(*widths, bias=bias), states()
    weights = PackedWeights(ROWS)
    for _ in range(2):  # made, then found again
        out = weights.linear(modules, x)
        assert [one.shape for one in out] == [(ROWS, width) for width in widths]
        for one, module in zip(out, modules, strict=True):
            assert_rounded(one, module, x)
    assert len(weights._packed) == 1
    assert_rounded(weights.linear(modules, x[:1])[0], modules[0], x[:1])  # any number of rows


@needs_kernels
def test_the_head_is_packed_once_and_anew_for_another() -> None:
    weights, x = PackedWeights(ROWS), states()
    for head in linears(64, 64, bias=False):
        assert_rounded(weights.product(x, head.weight), head, x)
        assert_rounded(weights.product(x, head.weight), head, x)


@needs_kernels
def test_weights_that_change_later_need_a_new_object() -> None:
    modules, x = linears(16, bias=True), states()
    old = PackedWeights(ROWS)
    before = old.linear(modules, x)[0]
    modules[0].weight.mul_(2)
    assert torch.equal(old.linear(modules, x)[0], before)
    assert_rounded(PackedWeights(ROWS).linear(modules, x)[0], modules[0], x)


def test_float32_is_computed_by_the_modules() -> None:
    modules, x, weights = linears(16, 8, bias=False, dtype=torch.float32), states(torch.float32), PackedWeights(ROWS)
    for _ in range(2):
        assert all(torch.equal(a, m(x)) for a, m in zip(weights.linear(modules, x), modules, strict=True))
        assert torch.equal(weights.product(x, modules[0].weight), x @ modules[0].weight.t())
        modules[0].weight.mul_(2)  # seen at once, since nothing is packed


def test_bias_in_some_modules_only_is_computed_by_the_modules() -> None:
    modules = (*linears(16, bias=True), *linears(8, bias=False))
    out = PackedWeights(ROWS).linear(modules, states())
    assert all(torch.equal(a, m(states())) for a, m in zip(out, modules, strict=True))


def test_processors_without_the_instructions_compute_by_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_weights, "_for_kernels", lambda _: False)
    monkeypatch.setattr(packed_weights, "_has_onednn", lambda: False)
    monkeypatch.delattr(torch.ops.mkldnn, "_reorder_linear_weight", raising=False)
    modules, x, weights = linears(16, 8, bias=True), states(), PackedWeights(ROWS)
    assert all(torch.equal(a, m(x)) for a, m in zip(weights.linear(modules, x), modules, strict=True))
    assert torch.equal(weights.product(x, modules[0].weight), x @ modules[0].weight.t())


def test_adapters_are_computed_as_they_are(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder, precision=BFLOAT16, train_layers=1, lora=LoraConfig(rank=4))
    attention = policy.branch.model.layers[0].self_attn
    modules = (attention.q_proj, attention.k_proj)
    weights, x = PackedWeights(ROWS), states()[:, :32]
    with torch.no_grad():
        for _ in range(2):
            assert all(torch.equal(a, m(x)) for a, m in zip(weights.linear(modules, x), modules, strict=True))
            for parameter in policy.trainable().values():
                parameter.add_(0.1)
    assert not weights._packed


@pytest.mark.parametrize("family", ["llama-untied", "qwen2", "gemma2"])  # an own head, biases, capped logits
@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)])
def test_sampled_log_probs_are_the_training_paths_also_after_an_update(
    family: str, lora: LoraConfig | None, tmp_path: Path
) -> None:
    policy = load_policy(make_folder(tmp_path / "m", family), precision=BFLOAT16, train_layers=2, lora=lora)
    first = _distance(policy)
    before = policy.log_probs(*_fixed(policy)).log_prob
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    moved = (policy.log_probs(*_fixed(policy)).log_prob - before).abs().mean()
    second = _distance(policy)
    assert max(first, second) < 0.03, (first, second)  # bfloat16 has three digits, logits of these models reach 10
    assert moved > 3 * max(first, second), "the update must be larger than the tolerance, to be seen if it is missed"


def _fixed(policy: Policy) -> tuple[object, Tensor]:
    packed = pack([TokenGroup((5, 9, 17), (tuple(range(40, 60)),))])
    return packed, policy.states(packed)


def _distance(policy: Policy) -> float:
    """Mean difference of the log-probs that sampling kept and those that training would compute."""
    prompts = [(5, 9, 17, 33), (7, 11)]
    answers = sample(policy, prompts, Sampling(max_new_tokens=12, n=4), end_ids=frozenset({2}), seeds=[1, 2])
    packed = pack([TokenGroup(p, tuple(r.response for r in group)) for p, group in zip(prompts, answers, strict=True)])
    with torch.no_grad():
        trained = policy.log_probs(packed, policy.states(packed)).log_prob
    return float((torch.cat([r.log_probs for group in answers for r in group]) - trained).abs().mean())


@needs_kernels
def test_frozen_weights_are_packed_once_and_anew_after_somebody_wrote_into_one() -> None:
    modules, x = linears(16, 32, bias=True), states()

    def packed() -> Tensor:
        weights = PackedWeights(ROWS)
        for one, module in zip(weights.linear(modules, x), modules, strict=True):
            assert_rounded(one, module, x)
        return weights._packed[modules].weight

    first = packed()
    assert packed() is first
    with torch.no_grad():
        modules[1].weight.mul_(2)  # not the first, by which it is found
    packed()
    with torch.no_grad():
        modules[0].bias.add_(1)
    packed()
    modules[0].weight.data = modules[0].weight + 1  # as adapters are merged
    packed()
    assert PackedWeights(ROWS).linear(modules[:1], x)[0].shape == (ROWS, 16)  # alone, though found by the same weight


@needs_kernels
def test_weights_that_train_are_packed_for_every_call() -> None:
    """The optimizer writes where no counter sees it; a sampler of old weights would be a silent fault."""
    (module,), x = linears(16, bias=False), states()
    module.requires_grad_()
    with torch.no_grad():
        for _ in range(2):
            assert_rounded(PackedWeights(ROWS).linear((module,), x)[0], module, x)
            module.weight.untyped_storage().copy_((module.weight * 2).untyped_storage())
