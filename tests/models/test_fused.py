"""The fused operations compute what transformers' modules compute, forward and backward, and keep no more than said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from plaudit.models.fused import add_rms_norm, gated, rms_norm, rotate
from plaudit.models.kernels import ops

N, HEADS, WIDTH = 7, 3, 8
EPS = 1e-5
Function = Callable[..., Tensor]


@pytest.fixture(autouse=True, params=["compiled", "eager"])
def _kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "eager":
        monkeypatch.setattr(ops, "library", lambda: None)
    elif ops.library() is None:
        pytest.skip("no compiled kernels on this machine")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def angles() -> tuple[Tensor, Tensor]:
    """(N, WIDTH) cosines and sines; as in transformers the two halves of a head turn by the same angles."""
    half = torch.arange(N)[:, None] * 10.0 ** -torch.arange(WIDTH // 2)
    both = torch.cat([half, half], -1)
    return both.cos(), both.sin()


def theirs_norm(x: Tensor, weight: Tensor) -> Tensor:
    module = LlamaRMSNorm(x.shape[-1], eps=EPS)
    return torch.func.functional_call(module, {"weight": weight}, (x,))


def theirs_rotated(x: Tensor) -> Tensor:
    cos, sin = (part.to(x.dtype)[None] for part in angles())
    out, _ = apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], cos, sin)
    return out[0].transpose(0, 1)


def ours_added(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return torch.cat(add_rms_norm(x, y, w, EPS))


def theirs_added(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return torch.cat([x + y, theirs_norm(x + y, w)])


# name: (ours, transformers', inputs)
CASES: dict[str, tuple[Function, Function, tuple[Tensor, ...]]] = {
    "norm": (lambda x, w: rms_norm(x, w, EPS), theirs_norm, (3 * draw(N, WIDTH), 1 + draw(WIDTH, seed=1))),
    "sum and its norm": (ours_added, theirs_added, (3 * draw(N, WIDTH), draw(N, WIDTH, seed=2), draw(WIDTH, seed=1))),
    "norm of three dimensions": (lambda x, w: rms_norm(x, w, EPS), theirs_norm, (draw(2, N, 5), draw(5, seed=1))),
    "norm of tiny states": (
        lambda x, w: rms_norm(x, w, EPS),
        theirs_norm,
        (1e-3 * draw(N, WIDTH), draw(WIDTH, seed=1)),
    ),
    "silu gate": (
        lambda gate, up: gated(gate, up, ACT2FN["silu"]),
        lambda gate, up: nn.functional.silu(gate) * up,
        (3 * draw(N, 20), draw(N, 20, seed=1)),
    ),
    "gelu gate": (
        lambda gate, up: gated(gate, up, ACT2FN["gelu_pytorch_tanh"]),
        lambda gate, up: nn.functional.gelu(gate, approximate="tanh") * up,
        (3 * draw(N, 20), draw(N, 20, seed=1)),
    ),
    "rotation": (
        lambda x: rotate(x, *(part.to(x.dtype) for part in angles())),
        theirs_rotated,
        (draw(N, HEADS, WIDTH),),
    ),
}


def run(function: Function, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """The value, and the gradients of a fixed weighted sum of it."""
    leaves = [x.to(dtype, copy=True).requires_grad_() for x in inputs]
    out = function(*leaves)
    upstream = draw(*out.shape, seed=9).to(dtype)
    return out.detach(), list(torch.autograd.grad(out, leaves, upstream))


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_transformers(case: str) -> None:
    ours, theirs, inputs = CASES[case]
    value, grads = run(ours, inputs, torch.float32)
    expected, expected_grads = run(theirs, inputs, torch.float32)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grads, expected_grads, atol=1e-5, rtol=1e-5)
    with torch.no_grad():  # sampling takes another way
        torch.testing.assert_close(ours(*inputs), expected)


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_gradients_are_as_near_to_float32s_as_transformers(case: str) -> None:
    ours, theirs, inputs = CASES[case]
    inputs = tuple(x.bfloat16().float() for x in inputs)
    value, grads = run(ours, inputs, torch.bfloat16)
    expected, expected_grads = run(theirs, inputs, torch.bfloat16)
    exact, exact_grads = run(theirs, inputs, torch.float32)
    for got, other, true in zip([value, *grads], [expected, *expected_grads], [exact, *exact_grads], strict=True):
        assert got.dtype == torch.bfloat16
        assert (got.float() - true).norm() <= max(1.2 * (other.float() - true).norm(), 2**-8 * true.norm())


def test_norm_and_rotation_by_hand() -> None:
    x, weight = torch.tensor([[3.0, -4.0]]), torch.tensor([2.0, 1.0])
    torch.testing.assert_close(rms_norm(x, weight, 0.0), torch.tensor([[6.0, -4.0]]) / 12.5**0.5)
    right_angle = torch.zeros(1, 2), torch.ones(1, 2)
    assert rotate(torch.tensor([[[1.0, 2.0]]]), *right_angle).tolist() == [[[-2.0, 1.0]]]


@contextmanager
def saved() -> Iterator[list[Tensor]]:
    """What autograd keeps for the backward pass, meanwhile."""
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        yield kept


def places(tensors: list[Tensor] | tuple[Tensor, ...]) -> list[int]:
    return sorted(x.data_ptr() for x in tensors)


def test_the_norm_keeps_its_input_and_a_number_a_row() -> None:
    x, weight = draw(N, WIDTH).requires_grad_(), draw(WIDTH).requires_grad_()
    with saved() as kept:
        rms_norm(x, weight, EPS)
    own = [one for one in kept if one.data_ptr() not in (x.data_ptr(), weight.data_ptr())]
    assert len(kept) == 3
    assert [one.shape for one in own] == [(N,)]


def test_the_gate_keeps_its_two_inputs_and_the_rotation_its_angles() -> None:
    gate, up = draw(N, 20).requires_grad_(), draw(N, 20).requires_grad_()
    with saved() as kept:
        gated(gate, up, ACT2FN["silu"])
    assert places(kept) == places((gate, up))
    cos, sin = angles()
    with saved() as kept:
        rotate(draw(N, HEADS, WIDTH).requires_grad_(), cos, sin)
    assert places(kept) == places((cos, sin))


def test_a_sum_or_its_norm_may_go_unread() -> None:
    inputs = draw(N, WIDTH), draw(N, WIDTH, seed=2), draw(WIDTH, seed=1)
    for part in (0, 1):
        _, got = run(lambda *x, part=part: add_rms_norm(*x, EPS)[part] + 0 * x[2], inputs, torch.float32)
        _, expected = run(
            lambda x, y, w, part=part: (x + y, theirs_norm(x + y, w))[part] + 0 * w, inputs, torch.float32
        )
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_inputs_stay_as_they_are() -> None:
    for ours, _, inputs in CASES.values():
        before = [x.clone() for x in inputs]
        run(ours, inputs, torch.float32)
        with torch.no_grad():
            ours(*inputs)
        assert all(torch.equal(x, b) for x, b in zip(inputs, before, strict=True))


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_is_frozen_gets_no_gradient_and_the_other_the_same(frozen: int) -> None:
    inputs = [draw(N, WIDTH), draw(WIDTH, seed=1)]
    _, both = run(lambda x, w: rms_norm(x, w, EPS), tuple(inputs), torch.float32)
    moving = 1 - frozen
    inputs[moving].requires_grad_()
    out = rms_norm(inputs[0], inputs[1], EPS)
    out.backward(draw(*out.shape, seed=9))
    assert inputs[frozen].grad is None
    assert torch.equal(inputs[moving].grad, both[moving])  # type: ignore[arg-type]
