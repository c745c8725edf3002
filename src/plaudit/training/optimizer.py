"""AdamW with float32 master weights and float32 gradient accumulation."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from plaudit.core.errors import DoctorError, RunError
from plaudit.core.seeding import derive

_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


class ParameterGroup(NamedTuple):
    """Named parameters that share a peak learning rate."""

    parameters: Mapping[str, Parameter]
    lr: float


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019) over named parameters of one or several groups.

    A bfloat16 parameter keeps 8 bits of precision: an update below 1/256 of a weight rounds away, and so does a small
    gradient added to a large sum. Such a parameter gets a float32 master, which takes the update and is then rounded
    into the parameter, and its gradient is summed over micro-batches in float32 while it arrives. A float32 parameter
    is its own master and its own sum: nothing is copied.

    A model that was saved in bfloat16 has every weight exactly on a bfloat16 number. Masters that started there would
    have to move half a step of the format before any parameter changed at all: a dead zone as wide as everything PPO
    moves in an hour. So each master starts at a random place among the numbers that round to its parameter. The
    parameters are untouched, and a move of a tenth of a step changes one parameter in ten.

    Weight decay is decoupled and leaves vectors (norms, biases) alone. Use it as: backward of every micro-batch, then
    `step`; there is no `zero_grad`, because `step` leaves no gradient behind.
    """

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        *,
        clip: float = 1.0,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        """`clip` bounds the norm of the gradient of all groups together; give apart what must be clipped apart."""
        self._parameters = {name: parameter for group in groups for name, parameter in group.parameters.items()}
        assert len(self._parameters) == sum(len(group.parameters) for group in groups), "a name is in two groups"
        assert len({id(p) for p in self._parameters.values()}) == len(self._parameters), "a parameter has two names"
        assert self._parameters, "nothing to train"
        self._clip = clip
        self._masters = {name: _master(name, parameter) for name, parameter in self._parameters.items()}
        self._adamw = torch.optim.AdamW(
            [
                {
                    "params": [
                        self._masters[name] for name in group.parameters if decayed(self._masters[name]) is decay
                    ],
                    "lr": group.lr,
                    "peak_lr": group.lr,
                    "weight_decay": weight_decay if decay else 0.0,
                }
                for group in groups
                for decay in (True, False)
            ],
            betas=betas,
            eps=eps,
            fused=all(p.device.type in _FUSED_DEVICES for p in self._parameters.values()),
        )

    def step(self, lr_multiplier: float = 1.0) -> float:
        """One update with the peak learning rates times `lr_multiplier`. Returns the gradient norm before clipping.

        Raises:
            DoctorError: a gradient is missing or not finite; weights and moments are as before the call.
        """
        norm = self._clip_gradients()
        for group in self._adamw.param_groups:
            group["lr"] = group["peak_lr"] * lr_multiplier
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        self._publish()
        return norm

    def discard_gradients(self) -> None:
        """Forget what has been accumulated since the last step."""
        self._adamw.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Tensor]:
        """Master weights and moments, float32, as flat named tensors. They are the live ones: save, don't change."""
        tensors = {f"weight.{name}": master.detach() for name, master in self._masters.items()}
        for name, state in self._states():
            tensors |= {f"{key}.{name}": value for key, value in state.items()}
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore weights and moments exactly.

        Raises:
            RunError: `tensors` are not those of these parameters.
        """
        has_moments = any(not key.startswith("weight.") for key in tensors)
        for master in self._masters.values():
            if has_moments:
                # What AdamW creates at its first step; it takes state it finds as its own.
                self._adamw.state[master] = {
                    "step": torch.zeros((), dtype=torch.float32, device=master.device),
                    "exp_avg": torch.zeros_like(master, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(master, memory_format=torch.preserve_format),
                }
            else:
                self._adamw.state.pop(master, None)
        own = self.state_dict()
        if differing := sorted(key for key in own.keys() | tensors.keys() if _form(own, key) != _form(tensors, key)):
            key = differing[0]
            raise RunError(
                f"The checkpoint does not fit the model: {len(differing)} tensors differ, first {key}: here "
                f"{_form(own, key)}, in the checkpoint {_form(tensors, key)}. Continue with the model and settings the "
                "run was started with, or start a new run folder."
            )
        for key, tensor in own.items():
            tensor.copy_(tensors[key])
        self._publish()

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, master in self._masters.items():
            if state := self._adamw.state.get(master):
                yield name, state

    def _clip_gradients(self) -> float:
        gradients: list[Tensor] = []
        for name, master in self._masters.items():
            if master.grad is None:
                raise DoctorError(
                    f"No gradient reached {name}: the loss does not depend on it. Freeze it or put it into the loss."
                )
            gradients.append(master.grad)
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        # float64: squares of large but finite norms must not pass for an overflow
        norm = float(torch.linalg.vector_norm(torch.stack(norms).double()))
        if not math.isfinite(norm):
            name, own_norm = next(
                (n, float(v)) for n, v in zip(self._masters, norms, strict=True) if not torch.isfinite(v)
            )
            self.discard_gradients()
            raise DoctorError(
                f"The gradient is not finite: {name} has norm {own_norm}. The weights are unchanged. Lower the "
                "learning rate, or use precision=float32; if it happens at the first step, look at the data."
            )
        if norm > self._clip:
            for gradient in gradients:
                gradient.mul_(self._clip / norm)
        return norm

    def _publish(self) -> None:
        """Round the masters into the parameters that have one of their own."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                if self._masters[name] is not parameter:
                    parameter.copy_(self._masters[name])


def decayed(tensor: Tensor) -> bool:
    """Whether weight decay applies: to matrices, not to norms and biases."""
    return tensor.ndim >= 2


def _master(name: str, parameter: Parameter) -> Tensor:
    if parameter.dtype == torch.float32:
        return parameter
    master = _among_those_that_round_to(parameter.detach(), derive(0, "master", name))

    def accumulate(parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.to(torch.float32)
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        parameter.grad = None  # frees it while backward is still under way

    parameter.register_post_accumulate_grad_hook(accumulate)
    return master


def _among_those_that_round_to(rounded: Tensor, seed: int) -> Tensor:
    """Random float32 numbers between the halfway points to the neighbours of each bfloat16 number in `rounded`.

    A bfloat16 number is the upper half of a float32 one, and rounding looks at the lower half: any lower half within
    2^15 - 1 of zero rounds back. One integer addition does it, in a sixth of the time of interpolation between
    neighbours.
    """
    assert rounded.dtype == torch.bfloat16, f"no rounding is known from float32 to {rounded.dtype}"
    generator = torch.Generator(rounded.device).manual_seed(seed)
    four_each = torch.empty(-(-rounded.numel() // 4), dtype=torch.int64, device=rounded.device)
    four_each.random_(-(2**63), None, generator=generator)
    lower = four_each.view(torch.int16)[: rounded.numel()].view(rounded.shape)
    lower.clamp_(min=1 - 2**15)  # the halfway point itself may round to the neighbour
    lower.masked_fill_(rounded == 0, 0)  # below zero's bits there is no number
    return rounded.to(torch.float32).view(torch.int32).add_(lower).view(torch.float32)


def _form(tensors: Mapping[str, Tensor], key: str) -> str:
    return f"{tuple(tensors[key].shape)} {tensors[key].dtype}" if key in tensors else "absent"
