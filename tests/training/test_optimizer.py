"""AdamW with float32 masters: the same updates as torch, exact restoring, and no silent faults."""

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from plaudit.core.errors import DoctorError, RunError
from plaudit.models.kernels import eager
from plaudit.training.optimizer import Optimizer, ParameterGroup


def parameters(dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"proj.weight": (4, 3), "norm.weight": (4,), "head.weight": (2, 4)}
    return {name: Parameter(torch.randn(shape, generator=generator).to(dtype)) for name, shape in shapes.items()}


def loss_of(params: dict[str, Parameter], x: Tensor) -> Tensor:
    hidden = torch.tanh(x.to(params["proj.weight"].dtype) @ params["proj.weight"].T) * params["norm.weight"]
    return (hidden @ params["head.weight"].T).float().square().sum()


def masters(optimizer: Optimizer, name: str) -> Tensor:
    """The float32 numbers of a bfloat16 parameter."""
    state = optimizer.state_dict()
    return eager.joined(state[f"weight.{name}"], state[f"below.{name}"])


def data(step: int) -> Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(100 + step))


def test_updates_are_those_of_torch_adamw_with_clipping_and_decay_on_matrices_only() -> None:
    ours, theirs = parameters(), parameters()
    optimizer = Optimizer([ParameterGroup(ours, 1e-2)], clip=0.5, weight_decay=0.1)
    reference = torch.optim.AdamW(
        [
            {"params": [theirs["proj.weight"], theirs["head.weight"]], "weight_decay": 0.1},
            {"params": [theirs["norm.weight"]], "weight_decay": 0.0},
        ],
        lr=1e-2,
        betas=(0.9, 0.95),
        foreach=False,
        fused=False,
    )
    for step in range(4):
        loss_of(ours, data(step)).backward()
        loss_of(theirs, data(step)).backward()
        expected = torch.nn.utils.clip_grad_norm_(list(theirs.values()), 0.5)
        reference.step()
        reference.zero_grad()
        assert optimizer.step() == pytest.approx(float(expected), rel=1e-5)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=1e-5)


def test_each_group_has_its_learning_rate_and_the_multiplier_scales_both() -> None:
    params = parameters()
    before = {name: p.detach().clone() for name, p in params.items()}
    slow = {"norm.weight": params["norm.weight"]}
    fast = {name: p for name, p in params.items() if name != "norm.weight"}
    optimizer = Optimizer([ParameterGroup(fast, 1e-2), ParameterGroup(slow, 1e-3)], clip=1e9)
    loss_of(params, data(0)).backward()
    optimizer.step(0.5)
    # Adam's first update has the size of the learning rate, whatever the gradient.
    for name, lr in {"proj.weight": 1e-2, "head.weight": 1e-2, "norm.weight": 1e-3}.items():
        moved = (params[name] - before[name]).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, 0.5 * lr), rtol=1e-3, atol=1e-7)


def test_bfloat16_gradients_are_summed_in_float32() -> None:
    params = {"w": Parameter(torch.ones(1, 1, dtype=torch.bfloat16))}
    optimizer = Optimizer([ParameterGroup(params, 1e-4)], clip=1e9)
    for _ in range(1000):  # in bfloat16 the sum sticks at 256
        params["w"].sum().backward()
        assert params["w"].grad is None
    assert optimizer.step() == 1000.0


def test_bfloat16_weights_keep_updates_below_their_own_precision() -> None:
    params = {"w": Parameter(torch.ones(1, 1, dtype=torch.bfloat16))}
    optimizer = Optimizer([ParameterGroup(params, 1e-4)])
    start = float(masters(optimizer, "w"))
    for _ in range(40):  # each update is a fortieth of the spacing of bfloat16 below 1
        params["w"].sum().backward()
        optimizer.step()
    assert float(masters(optimizer, "w")) == pytest.approx(start - 40e-4, rel=1e-5)
    assert params["w"].item() == pytest.approx(start - 40e-4, abs=1 / 256)


def test_bfloat16_weights_have_no_dead_zone() -> None:
    """Moves far below the format's precision change few of many weights, but all of them together by the right sum."""
    weights = torch.linspace(-3, 3, 40_000).to(torch.bfloat16)
    params = {"w": Parameter(weights.clone())}
    optimizer = Optimizer([ParameterGroup(params, 1e-4)])
    assert torch.equal(params["w"], weights)  # the masters' places among the rounding are not seen from outside
    assert float((masters(optimizer, "w") - weights.float()).abs().max()) <= 2**-7  # half a step
    for _ in range(5):
        params["w"].sum().backward()
        optimizer.step()
    moved = params["w"].detach().float() - weights.float()
    assert float(moved.mean()) == pytest.approx(-5e-4, rel=0.05)
    assert float((moved == 0).float().mean()) > 0.5


def test_moments_in_bfloat16_move_weights_as_float32_ones_do() -> None:
    """Noisy gradients of every size, for 200 steps: each weight ends where float32 takes it, within a hundredth."""
    start = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    ours, theirs = Parameter(start.clone()), Parameter(start.float())
    optimizer = Optimizer([ParameterGroup({"w": ours}, 1e-3)], clip=1e9)
    with torch.no_grad():
        theirs.copy_(masters(optimizer, "w"))
    begun = theirs.detach().clone()
    reference = torch.optim.AdamW([theirs], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    scale = torch.logspace(-6, 3, 64)
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        gradient = ((torch.randn(64, 64, generator=generator) + 0.3) * scale).to(torch.bfloat16)
        ours.backward(gradient)
        theirs.grad = gradient.float()
        optimizer.step()
        reference.step()
    moved, expected = masters(optimizer, "w") - begun, theirs.detach() - begun
    assert float(expected.abs().mean()) > 0.01
    assert float((moved - expected).norm() / expected.norm()) < 0.01
    assert float((moved - expected).mean().abs() / expected.abs().mean()) < 0.002  # no drift to one side


def test_a_long_memory_in_bfloat16_is_refused() -> None:
    params = {"w": Parameter(torch.ones(1, 1, dtype=torch.bfloat16))}
    with pytest.raises(AssertionError, match="stands still"):
        Optimizer([ParameterGroup(params, 1e-4)], betas=(0.9, 0.999))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restored_state_continues_bit_for_bit(dtype: torch.dtype) -> None:
    def train(optimizer: Optimizer, params: dict[str, Parameter], steps: range) -> None:
        for step in steps:
            loss_of(params, data(step)).backward()
            optimizer.step(1 - step / 10)

    def fresh(seed: int) -> tuple[Optimizer, dict[str, Parameter]]:
        params = parameters(dtype, seed)
        return Optimizer([ParameterGroup(params, 1e-2)], weight_decay=0.1), params

    straight, straight_params = fresh(0)
    train(straight, straight_params, range(3))
    saved = {name: tensor.clone() for name, tensor in straight.state_dict().items()}
    train(straight, straight_params, range(3, 6))

    resumed, resumed_params = fresh(1)
    resumed.load_state_dict(saved)
    train(resumed, resumed_params, range(3, 6))
    for name in straight_params:
        assert torch.equal(straight_params[name], resumed_params[name])
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_state_of_another_model_is_refused() -> None:
    optimizer = Optimizer([ParameterGroup(parameters(), 1e-2)])
    other = {"proj.weight": Parameter(torch.zeros(5, 3))}
    saved = Optimizer([ParameterGroup(other, 1e-2)]).state_dict()
    with pytest.raises(RunError, match=r"weight\.head\.weight: here \(2, 4\) torch\.float32, in the checkpoint absent"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_names_the_parameter_and_moves_nothing(bad: float) -> None:
    params = parameters()
    optimizer = Optimizer([ParameterGroup(params, 1e-2)])
    before = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    loss_of(params, data(0)).backward()
    assert params["norm.weight"].grad is not None
    params["norm.weight"].grad[1] = bad
    with pytest.raises(DoctorError, match=r"norm\.weight"):
        optimizer.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in optimizer.state_dict().items())


def test_huge_but_finite_gradients_are_clipped_not_refused() -> None:
    params = {"a": Parameter(torch.zeros(1, 1)), "b": Parameter(torch.zeros(1, 1))}
    optimizer = Optimizer([ParameterGroup(params, 1e-2)])
    (3e38 * params["a"] + 3e38 * params["b"]).sum().backward()
    assert optimizer.step() == pytest.approx(3e38 * 2**0.5)


def test_a_parameter_outside_the_loss_is_an_error() -> None:
    params = parameters() | {"forgotten": Parameter(torch.zeros(2))}
    optimizer = Optimizer([ParameterGroup(params, 1e-2)])
    loss_of(params, data(0)).backward()
    with pytest.raises(DoctorError, match="No gradient reached forgotten"):
        optimizer.step()


def test_nothing_is_left_of_a_gradient_after_a_step() -> None:
    params = parameters()
    optimizer = Optimizer([ParameterGroup(params, 1e-2)])
    loss_of(params, data(0)).backward()
    optimizer.step()
    assert all(p.grad is None for p in params.values())
