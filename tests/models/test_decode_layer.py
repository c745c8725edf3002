"""Products of packed weights and whole layers in one kernel: exact at any size, the same in any company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plaudit.core.records import TokenGroup
from plaudit.models import decoding
from plaudit.models.decoding import DecodeCache
from plaudit.models.kernels import products
from plaudit.models.load import load_policy
from plaudit.models.lora import LoraConfig
from plaudit.models.packed_weights import PackedWeights
from plaudit.models.packing import pack
from plaudit.models.policy import Policy
from plaudit.models.precision import FLOAT32, Precision
from plaudit.rollouts.engine import sample
from plaudit.rollouts.sampling import Sampling
from tiny import CONFIGS, make_folder

BFLOAT16 = Precision(torch.bfloat16, "asked for")
needs_products = pytest.mark.skipif(
    not products.multiplies(torch.bfloat16, torch.device("cpu")),
    reason="no products of packed weights on this processor",
)
SERVED = {"llama", "llama-untied", "mistral", "qwen2"}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


# --- products -------------------------------------------------------------------------------------------------------


@needs_products
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 33])
@pytest.mark.parametrize("outs", [1, 15, 16, 47, 48, 49, 150])
@pytest.mark.parametrize("ins", [2, 48, 576])
def test_products_at_any_size(rows: int, outs: int, ins: int) -> None:
    x, weight, bias = numbers(rows, ins), numbers(outs, ins, seed=1), numbers(outs, seed=2)
    exact = x.double() @ weight.double().t()
    packed = products.pack_weight(weight)
    for got, wanted in (
        (products.product(x, packed, None, outs), exact),
        (products.product(x, packed, bias, outs), exact + bias.double()),
    ):
        assert got.shape == (rows, outs)
        # rounded to eight bits once; sums of float32 lose what cancels
        torch.testing.assert_close(got.double(), wanted, rtol=2**-8, atol=1e-5 * ins**0.5)


@needs_products
def test_columns_of_a_wider_product_are_multiplied() -> None:
    x, weight = numbers(4, 64)[:, 8:40], numbers(50, 32, seed=1)
    got = products.product(x, products.pack_weight(weight), None, 50)
    torch.testing.assert_close(got, x @ weight.t(), rtol=2**-7, atol=1e-3)


@needs_products
def test_neither_company_nor_threads_change_a_bit_of_a_product() -> None:
    x, packed = numbers(64, 576), products.pack_weight(numbers(1000, 576, seed=1))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = torch.cat([products.product(row[None], packed, None, 1000) for row in x])
        torch.set_num_threads(2)
        for rows in (64, 13, 5):
            assert torch.equal(products.product(x[:rows], packed, None, 1000), alone[:rows])
    finally:
        torch.set_num_threads(threads)


@needs_products
def test_what_is_not_a_number_reaches_the_caller() -> None:
    x = numbers(3, 8)
    x[1, 2] = torch.nan
    assert products.product(x, products.pack_weight(numbers(20, 8)), None, 20).isnan().any(1).tolist() == [
        False,
        True,
        False,
    ]


# --- whole layers ---------------------------------------------------------------------------------------------------


def policy_of(family: str, folder: Path, **how: Any) -> Policy:
    policy = load_policy(make_folder(folder / family, family), **{"precision": BFLOAT16, "train_layers": 2} | how)
    with torch.no_grad():  # fresh biases are zero, and fresh norms one: a layer without them would look right
        for name, parameter in (*policy.trunk.named_parameters(), *policy.branch.named_parameters()):
            if "norm" in name or "bias" in name:
                parameter.add_(0.3 * numbers(*parameter.shape, seed=len(name)))
    return policy


class Decoded:
    """Some prompts and then given tokens through a cache: final states of each step, (steps, rows, H)."""

    def __init__(self, policy: Policy, prompts: list[tuple[int, ...]], steps: int, gone: dict[int, list[int]]) -> None:
        self.cache = DecodeCache(rows=len(prompts), steps=steps, weights=PackedWeights(len(prompts)))
        packed = pack([TokenGroup(prompt, ()) for prompt in prompts])
        packed.layout.capture()
        policy.branch(policy.states(packed), packed.positions, packed.layout)
        assert packed.layout.captured is not None
        self.cache.admit(packed.layout.captured, 1)
        rows, self.finals = list(range(len(prompts))), []
        for step in range(steps):
            tokens = torch.tensor([3 + (7 * step + 31 * row) % 300 for row in rows])
            states = policy.trunk(tokens, self.cache.lengths, self.cache)
            finals = policy.branch(states, self.cache.lengths, self.cache)
            self.finals.append(dict(zip(rows, finals, strict=True)))
            self.cache.advance()
            rows = [rows[i] for i in self.cache.drop(gone.get(step, []))]

    @property
    def whole(self) -> set[bool]:
        """Whether layers were decoded by the kernel."""
        return {layer is not None for layer in self.cache._whole.values()}


PROMPTS = [tuple(range(40, 62)), (90, 91, 92, 93, 94, 95, 96, 97, 98), (7, 11)]


@needs_products
@torch.no_grad()
@pytest.mark.parametrize("family", sorted(SERVED))
def test_a_whole_layer_is_its_parts(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many steps, beyond the window of one family, with rows that leave and room made again."""
    policy = policy_of(family, tmp_path)
    monkeypatch.setattr(decoding, "_SPARE", 6)
    run = Decoded(policy, PROMPTS, 20, {9: [0]})
    assert run.whole == {True}
    monkeypatch.setattr(decoding, "decode_layer", lambda *_: None)
    parts = Decoded(policy, PROMPTS, 20, {9: [0]})
    assert parts.whole == {False}
    for got, expected in zip(run.finals, parts.finals, strict=True):
        assert got.keys() == expected.keys()
        for row in got:  # four layers, each rounded some ten times to eight bits
            torch.testing.assert_close(got[row].float(), expected[row].float(), rtol=0.02, atol=0.04)
    far = [a[row] - b[row] for a, b in zip(run.finals, parts.finals, strict=True) for row in a]
    assert float(torch.stack(far).float().square().mean().sqrt()) < 0.01


@needs_products
@torch.no_grad()
def test_a_row_decodes_bit_for_bit_the_same_alone(tmp_path: Path) -> None:
    policy = policy_of("llama", tmp_path)
    together = Decoded(policy, PROMPTS, 8, {3: [0]})
    for row, prompt in enumerate(PROMPTS):
        if row == 0:  # tokens are given by the row's number
            alone = Decoded(policy, [prompt], 4, {})
            for one, many in zip(alone.finals, together.finals, strict=False):
                assert torch.equal(one[0], many[0])
    rest = Decoded(policy, [PROMPTS[0], PROMPTS[1]], 8, {})
    for one, many in zip(rest.finals, together.finals, strict=True):
        assert torch.equal(one[1], many[1])


@torch.no_grad()
@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_which_layers_the_kernel_decodes(family: str, tmp_path: Path) -> None:
    served = family in SERVED and products.multiplies(torch.bfloat16, torch.device("cpu"))
    assert Decoded(policy_of(family, tmp_path), PROMPTS, 1, {}).whole == {served}


@torch.no_grad()
def test_float32_is_decoded_in_parts(tmp_path: Path) -> None:
    assert Decoded(policy_of("llama", tmp_path, precision=FLOAT32), PROMPTS, 1, {}).whole == {False}


@needs_products
@torch.no_grad()
def test_layers_with_adapters_are_decoded_in_parts_and_the_trunk_whole(tmp_path: Path) -> None:
    policy = policy_of("llama", tmp_path, lora=LoraConfig(rank=4))
    assert Decoded(policy, PROMPTS, 1, {}).whole == {True, False}


@needs_products
def test_an_update_of_the_policy_is_sampled_from(tmp_path: Path) -> None:
    """A sampler of old weights would be a silent fault: a kernel holds addresses."""
    policy = policy_of("qwen2", tmp_path)

    def answers() -> list[Tensor]:
        found = sample(policy, PROMPTS, Sampling(max_new_tokens=8), end_ids=frozenset(), seeds=[1, 2, 3])
        return [rollout.log_probs for rollouts in found for rollout in rollouts]

    before, again = answers(), answers()
    assert all(torch.equal(a, b) for a, b in zip(before, again, strict=True))
    layer: Any = policy.branch.model.layers[0]
    parts: list[nn.Parameter] = [layer.input_layernorm.weight, layer.mlp.down_proj.weight, layer.self_attn.k_proj.bias]
    for part in parts:
        kept = part.detach().clone()
        with torch.no_grad():
            part.mul_(-3)
        assert not all(torch.equal(a, b) for a, b in zip(before, answers(), strict=True)), part.shape
        with torch.no_grad():
            part.copy_(kept)
    assert all(torch.equal(a, b) for a, b in zip(before, answers(), strict=True))
