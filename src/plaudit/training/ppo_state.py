"""What a PPO run carries from iteration to iteration, and how it survives a kill: checkpoints and the best weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes

from plaudit.algorithms.kl import AdaptiveKL
from plaudit.core.errors import RunError
from plaudit.core.files import atomic_write, sha256_file
from plaudit.core.progress import say
from plaudit.core.run import Run
from plaudit.models.checkpoints import Checkpoint, save_checkpoint
from plaudit.models.policy import Policy
from plaudit.training.judging import Verdict, estimate
from plaudit.training.ppo_config import PPOConfig
from plaudit.training.ppo_update import Learner


@dataclass
class State:
    """Everything but weights and moments. `step` iterations are finished."""

    kl: AdaptiveKL
    step: int = 0
    start: Verdict | None = None
    best: Verdict | None = None
    best_step: int = 0
    best_sha256: str = ""
    last: Verdict | None = None
    unscored: int = 0
    stop: str | None = None


def restore(run: Run, checkpoint: Checkpoint | None, learner: Learner, config: PPOConfig) -> State:
    """The state of a checkpoint, weights and moments put back, later log rows dropped; or a fresh state."""
    run.rewind(checkpoint.step if checkpoint else -1)
    if checkpoint is None:
        return State(AdaptiveKL(config.kl.coef, config.kl.target, config.kl.horizon))
    learner.policy_optimizer.load_state_dict(_with_prefix(checkpoint.tensors, "policy."))
    learner.value_optimizer.load_state_dict(_with_prefix(checkpoint.tensors, "value."))
    kept = checkpoint.state
    say(f"Going on after iteration {checkpoint.step}.")
    return State(
        kl=AdaptiveKL(*kept["kl"]),
        step=checkpoint.step,
        start=_verdict(kept["start"]),
        best=_verdict(kept["best"]),
        best_step=kept["best_step"],
        best_sha256=kept["best_sha256"],
        last=_verdict(kept["last"]),
        unscored=kept["unscored"],
        stop=kept["stop"],
    )


def save(run: Run, learner: Learner, state: State) -> None:
    """A checkpoint of `state.step`. Older best weights go only now, when nothing refers to them any more."""
    tensors = {f"policy.{name}": tensor for name, tensor in learner.policy_optimizer.state_dict().items()}
    tensors |= {f"value.{name}": tensor for name, tensor in learner.value_optimizer.state_dict().items()}
    kept = {
        "precision": learner.policy.precision.name,
        "kl": list(state.kl),
        "start": _plain(state.start),
        "best": _plain(state.best),
        "best_step": state.best_step,
        "best_sha256": state.best_sha256,
        "last": _plain(state.last),
        "unscored": state.unscored,
        "stop": state.stop,
    }
    save_checkpoint(run, state.step, tensors, kept)
    for file in (run.path / "best").glob("step-*.safetensors"):
        if file != _best_file(run, state):
            file.unlink()


def note_verdict(run: Run, policy: Policy, state: State, verdict: Verdict) -> None:
    """Remember a verdict on the weights of `state.step`, and keep the weights if the judge likes none better.

    Without a judge the newest weights count as the best: choosing by the training reward would be choosing the policy
    that exploits it most.
    """
    state.start = state.start or verdict
    state.last = verdict
    score, best = estimate(verdict.judge), estimate(state.best.judge) if state.best else None
    if score is not None and best is not None and score.value <= best.value:
        return
    state.best, state.best_step = verdict, state.step
    tensors = {name: parameter.detach().contiguous() for name, parameter in policy.trainable().items()}
    atomic_write(_best_file(run, state), safetensors_bytes(tensors))
    state.best_sha256 = sha256_file(_best_file(run, state))


def load_best(run: Run, policy: Policy, state: State) -> None:
    """Put the chosen weights into the policy.

    Raises:
        RunError: the file is missing or not as it was written.
    """
    file = _best_file(run, state)
    if not file.is_file() or sha256_file(file) != state.best_sha256:
        raise RunError(
            f"{file} is missing or damaged, and it holds the weights that were chosen. Restore it from a copy, or "
            f"delete {run.path} and train again."
        )
    policy.load_trainable(load_file(file))


def _best_file(run: Run, state: State) -> Path:
    return run.path / "best" / f"step-{state.best_step:06d}.safetensors"


def _with_prefix(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _plain(verdict: Verdict | None) -> dict[str, Any] | None:
    """A verdict as JSON; its texts are in samples.jsonl."""
    return None if verdict is None else verdict._replace(records=[])._asdict()


def _verdict(kept: Mapping[str, Any] | None) -> Verdict | None:
    return None if kept is None else Verdict(**kept)
