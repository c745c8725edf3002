"""AdamW with float32 master weights and float32 gradient accumulation."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from plaudit.core.errors import DoctorError, RunError
from plaudit.core.seeding import derive
from plaudit.models.kernels.ops import adamw

_LONGEST_MEMORY = 0.98  # of a moment in bfloat16: a step must change it by more than half a unit of its last place


class ParameterGroup(NamedTuple):
    """Named parameters that share a peak learning rate."""

    parameters: Mapping[str, Parameter]
    lr: float


class _State(NamedTuple):
    """What is kept for one parameter: see `ops.adamw`."""

    peak_lr: float
    decay: float
    below: Tensor | None
    first: Tensor
    second: Tensor


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019) over named parameters of one or several groups.

    A bfloat16 parameter keeps 8 bits of precision: an update below 1/256 of a weight rounds away, and so does a small
    gradient added to a large sum. Such a parameter is the upper half of a float32 number, whose lower half lies beside
    it: the update is made in float32, and nothing is held twice. Its gradient is summed over micro-batches in float32
    while it arrives. Its moments are bfloat16: they forget within some twenty steps, and so they forget their
    roundings (DeepSeek-V3, arXiv 2412.19437, section 3.3.3, does the same).

    A model that was saved in bfloat16 has every weight exactly on a bfloat16 number. Masters that started there would
    have to move half a step of the format before any parameter changed at all: a dead zone as wide as everything PPO
    moves in an hour. So each lower half starts at random. The parameters are untouched, and a move of a tenth of a
    step changes one parameter in ten.

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
        in_float32 = all(p.dtype is torch.float32 for p in self._parameters.values())
        assert in_float32 or max(betas) <= _LONGEST_MEMORY, "a moment in bfloat16 that remembers longer stands still"
        self._clip, self._betas, self._eps = clip, betas, eps
        self._step = torch.zeros((), dtype=torch.int64)
        self._sums: dict[str, Tensor] = {}  # gradients of bfloat16 parameters
        self._states = {
            name: _State(
                peak_lr=group.lr,
                decay=weight_decay if decayed(parameter) else 0.0,
                below=self._split(name, parameter),
                first=torch.zeros_like(parameter),
                second=torch.zeros_like(parameter),
            )
            for group in groups
            for name, parameter in group.parameters.items()
        }

    @torch.no_grad()
    def step(self, lr_multiplier: float = 1.0) -> float:
        """One update with the peak learning rates times `lr_multiplier`. Returns the gradient norm before clipping.

        Raises:
            DoctorError: a gradient is missing or not finite; weights and moments are as before the call.
        """
        gradients = self._gradients()
        norm = self._norm(gradients)
        self._step += 1
        for name, state in self._states.items():
            adamw(
                self._parameters[name],
                state.below,
                gradients[name],
                state.first,
                state.second,
                clip=min(1.0, self._clip / norm) if norm else 1.0,
                lr=state.peak_lr * lr_multiplier,
                decay=state.decay,
                betas=self._betas,
                eps=self._eps,
                step=int(self._step),
            )
        self.discard_gradients()
        return norm

    def discard_gradients(self) -> None:
        """Forget what has been accumulated since the last step."""
        self._sums.clear()
        for parameter in self._parameters.values():
            parameter.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and moments as flat named tensors. They are the live ones: save, don't change."""
        tensors = {f"weight.{name}": parameter.detach() for name, parameter in self._parameters.items()}
        for name, state in self._states.items():
            tensors |= {f"exp_avg.{name}": state.first, f"exp_avg_sq.{name}": state.second}
            tensors |= {} if state.below is None else {f"below.{name}": state.below}
        return tensors | {"step": self._step}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore weights and moments exactly.

        Raises:
            RunError: `tensors` are not those of these parameters.
        """
        own = self.state_dict()
        if differing := sorted(key for key in own.keys() | tensors.keys() if _form(own, key) != _form(tensors, key)):
            key = next((one for one in differing if one.startswith("weight.")), differing[0])
            raise RunError(
                f"The checkpoint does not fit the model: {len(differing)} tensors differ, first {key}: here "
                f"{_form(own, key)}, in the checkpoint {_form(tensors, key)}. Continue with the model and settings the "
                "run was started with, or start a new run folder."
            )
        for key, tensor in own.items():
            tensor.copy_(tensors[key])

    def _split(self, name: str, parameter: Parameter) -> Tensor | None:
        """The lower half of a bfloat16 parameter, whose gradients are summed in float32 from now on."""
        if parameter.dtype == torch.float32:
            return None

        def accumulate(parameter: Tensor) -> None:
            assert parameter.grad is not None
            if name in self._sums:
                self._sums[name].add_(parameter.grad)
            else:
                self._sums[name] = parameter.grad.to(torch.float32)
            parameter.grad = None  # frees it while backward is still under way

        parameter.register_post_accumulate_grad_hook(accumulate)
        return _anywhere_below(parameter.detach(), derive(0, "master", name))

    def _gradients(self) -> dict[str, Tensor]:
        own = {name: parameter.grad for name, parameter in self._parameters.items() if parameter.grad is not None}
        found = own | self._sums
        for name in self._parameters:
            if name not in found:
                raise DoctorError(
                    f"No gradient reached {name}: the loss does not depend on it. Freeze it or put it into the loss."
                )
        return {name: gradient.contiguous() for name, gradient in found.items()}

    def _norm(self, gradients: Mapping[str, Tensor]) -> float:
        """Of all gradients together."""
        norms = {name: torch.linalg.vector_norm(gradient) for name, gradient in gradients.items()}
        # float64: squares of large but finite norms must not pass for an overflow
        norm = float(torch.linalg.vector_norm(torch.stack(list(norms.values())).double()))
        if not math.isfinite(norm):
            name, own_norm = next((n, float(v)) for n, v in norms.items() if not torch.isfinite(v))
            self.discard_gradients()
            raise DoctorError(
                f"The gradient is not finite: {name} has norm {own_norm}. The weights are unchanged. Lower the "
                "learning rate, or use precision=float32; if it happens at the first step, look at the data."
            )
        return norm


def decayed(tensor: Tensor) -> bool:
    """Whether weight decay applies: to matrices, not to norms and biases."""
    return tensor.ndim >= 2


def _anywhere_below(rounded: Tensor, seed: int) -> Tensor:
    """A random lower half for each bfloat16 number: together they are float32 numbers that round to it.

    Any lower half within 2^15 - 1 of zero rounds back, since rounding looks at nothing else.
    """
    assert rounded.dtype == torch.bfloat16, f"no lower half is known between float32 and {rounded.dtype}"
    generator = torch.Generator(rounded.device).manual_seed(seed)
    four_each = torch.empty(-(-rounded.numel() // 4), dtype=torch.int64, device=rounded.device)
    four_each.random_(-(2**63), None, generator=generator)
    lower = four_each.view(torch.int16)[: rounded.numel()].view(rounded.shape)
    lower.clamp_(min=1 - 2**15)  # the halfway point itself rounds to the neighbour
    return lower.masked_fill_(rounded == 0, 0)  # below zero's bits there is no number


def _form(tensors: Mapping[str, Tensor], key: str) -> str:
    return f"{tuple(tensors[key].shape)} {tensors[key].dtype}" if key in tensors else "absent"
