"""What the recipes share: the order of the data, micro-batches, checkpoints in time, Ctrl-C, hooks.

Everything here is a function of (seed, step), so that a resumed run needs to know nothing but its step.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, NamedTuple, NoReturn, Self

import torch

from plaudit.core.errors import Interrupted
from plaudit.core.records import Stop, TokenGroup
from plaudit.core.run import Run
from plaudit.core.seeding import derive
from plaudit.models.packing import Packed, batches, pack


class Plan(NamedTuple):
    """Which rows each optimizer step trains on.

    Every epoch visits every row once, in an order drawn from (seed, epoch), in `steps_per_epoch` batches whose sizes
    differ by at most one: a short last batch would give its few rows a whole step of their own.
    """

    rows: int
    batch_size: int
    epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the rows."""
        return -(-self.rows // self.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def batch(self, step: int) -> list[int]:
        """Row numbers of the 0-based `step`."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first, last = (self.rows * (place + i) // self.steps_per_epoch for i in (0, 1))
        return epoch_order(self.rows, seed=self.seed, epoch=epoch)[first:last]


def epoch_order(rows: int, *, seed: int, epoch: int) -> list[int]:
    """A permutation of `range(rows)`, drawn from (seed, epoch) alone."""
    generator = torch.Generator().manual_seed(derive(seed, "epoch", epoch))
    return torch.randperm(rows, generator=generator).tolist()


def micro_batches(groups: Sequence[TokenGroup], *, max_tokens: int) -> Iterator[tuple[list[int], Packed]]:
    """Numbers of the groups and the groups packed, in rows of at most `max_tokens`.

    Sum the losses of the rows over a denominator of the whole batch and the split changes nothing; average the rows'
    means and short rows count too much.
    """
    for indices in batches(groups, max_tokens=max_tokens):
        yield indices, pack([groups[i] for i in indices])


class CheckpointClock:
    """Says when a checkpoint is due: every so many steps, or whenever so many minutes have passed.

    Time decides only when the state is written down, never what is computed next, so runs stay reproducible.
    """

    def __init__(self, *, steps: int | None = None, minutes: float = 10.0) -> None:
        self._steps = steps
        self._seconds = 60 * minutes
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to save now that `step` steps are finished. A yes starts the next period."""
        if self._steps is not None:
            return step % self._steps == 0
        if time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True


class Interrupts:
    """Turns the first Ctrl-C or SIGTERM inside the block into a flag, to be looked at once a step.

    The second one acts as it would without this block. Outside the main thread Python delivers no signals, and the
    flag stays down.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        self._restore()
        # os.write: print could be interrupted inside itself, and then raises
        os.write(2, b"\nStopping after this step, to save a checkpoint. Once more stops at once.\n")

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)


def stop_interrupted(run: Run, stage: str, step: int, steps: int) -> NoReturn:
    """End a run whose checkpoint of `step` has just been saved.

    Raises:
        Interrupted: always; says how to go on.
    """
    raise Interrupted(
        f"Stopped after step {step} of {steps}; everything up to there is saved. "
        f"Go on with: plaudit {stage} --config {run.path / 'config.yaml'}"
    )


class Moment(NamedTuple):
    """What a hook sees after each step: finished steps, the step's metrics, the model as it is now, the run."""

    step: int
    metrics: Mapping[str, Any]
    model: Any
    run: Run


Hook = Callable[[Moment], Stop | None]


def call_hooks(hooks: Sequence[Hook], moment: Moment) -> Stop | None:
    """Call every hook; the first one that wants to stop decides the reason."""
    answers = [hook(moment) for hook in hooks]
    return next((answer for answer in answers if answer is not None), None)
