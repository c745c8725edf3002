"""Plaudit's side: the recipes themselves, with a hook that looks at the clock after each step.

    python -m benchmarks.peer.plaudit_side ppo --model FOLDER --workload FOLDER --train-layers 8 --steps 2

Prints the line that the peer's scripts print. The first step is a warm-up. Rows are written in an order that makes each
step take the rows that the peer takes. A run is left by an exception after the last timed step: what follows it
(evaluation, export) is not part of a step, and the peer does none of it.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from benchmarks.peer import workload

import plaudit
from plaudit.core.files import write_jsonl
from plaudit.core.progress import be_quiet
from plaudit.core.run import read_log
from plaudit.core.seeding import derive
from plaudit.datasets.read import read_comparisons, read_demonstrations, read_prompts
from plaudit.datasets.render import Renderer
from plaudit.evaluation.reward_audit import audit
from plaudit.models.export import save_reward
from plaudit.models.load import load_policy, load_tokenizer, new_reward
from plaudit.models.packing import packed_length
from plaudit.models.precision import FLOAT32, choose_precision
from plaudit.rollouts.engine import sample
from plaudit.rollouts.sampling import Sampling
from plaudit.training import dpo, ppo, reward, sft
from plaudit.training.dpo_config import DPOConfig
from plaudit.training.loop import Hook, Moment, Plan, epoch_order
from plaudit.training.ppo_config import PPOConfig
from plaudit.training.reward_config import RewardConfig
from plaudit.training.sft_config import SFTConfig
from plaudit.training.trunk_cache import TrunkCache

BATCH = {"ppo": 32, "sampling": 32, "reward": 8, "dpo": 8, "sft": 16}
NEW_TOKENS, EPOCHS, SEED = 48, 4, 0
Group = tuple[int, list[int]]
Step = dict[str, Any]


class EnoughError(Exception):
    """Raised by the hook after the last timed step."""


@dataclass
class Ends:
    """A hook: when each step ended, and what the run had written down by then."""

    steps: int
    at: list[float] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    began: float = 0.0

    def __call__(self, moment: Moment) -> None:
        self.at.append(time.perf_counter())
        if len(self.at) > self.steps:
            self.timings = [row for row in read_log(moment.run.path, "timings") if row["step"] > 0]
            raise EnoughError

    @property
    def seconds(self) -> list[float]:
        """From the end of one step to the end of the next; the warm-up has none."""
        return [b - a for a, b in zip(self.at, self.at[1:], strict=False)]

    def follow(self, train: Callable[[], object]) -> None:
        """Run a recipe until it is enough."""
        self.began = time.perf_counter()
        try:
            train()
        except EnoughError:
            return
        raise SystemExit(f"The run ended after {len(self.at)} steps; {self.steps + 1} were wanted")


class Preparation:
    """Seconds spent once a run on what the peer does in every step: trunk states, and the reference's log-probs."""

    def __init__(self) -> None:
        self.trunk = self.reference = 0.0
        self._tokens = 0
        total = self
        fill, reference = TrunkCache.fill, dpo.reference_log_probs

        def timed_fill(self: TrunkCache, room: int) -> int:
            began = time.perf_counter()
            used = fill(self, room)
            total.trunk += time.perf_counter() - began
            total._tokens += sum(map(packed_length, self.groups))
            return used

        def timed_reference(*args: Any) -> list[torch.Tensor]:
            began = time.perf_counter()
            found = reference(*args)
            total.reference += time.perf_counter() - began
            return found

        TrunkCache.fill = timed_fill
        dpo.reference_log_probs = timed_reference

    def for_step(self, tokens: int) -> dict[str, float]:
        """The share of a step of so many tokens in which every text is seen for the first time."""
        share = tokens / self._tokens if self._tokens else 0.0
        return {"trunk": self.trunk * share, "reference": self.reference * share}


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    be_quiet()
    with tempfile.TemporaryDirectory() as folder:
        warmup, steps = WORKS[options.work](options, Path(folder))
    versions = f"plaudit {plaudit.__version__} transformers {transformers.__version__} torch {torch.__version__}"
    found = {
        "work": options.work,
        "versions": versions,
        "threads": torch.get_num_threads(),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "warmup_seconds": warmup,
        "steps": steps,
    }
    print("RESULT " + json.dumps(found), flush=True)


def measure_ppo(options: argparse.Namespace, folder: Path) -> tuple[float, list[Step]]:
    """Steady iterations. The first one is the warm-up; it also fits the value branch, unless told not to."""
    batch, steps = options.batch, options.steps
    rows = workload.take(options.workload, "prompts", batch * (steps + 1) + 2)
    judged, trained = rows[:2], rows[2:]
    # iteration i takes places i * batch and on of the shuffled file; put there what is to be taken
    order = epoch_order(len(trained), seed=SEED, epoch=0)
    config = PPOConfig.model_validate(
        {
            "run": folder / "run",
            "policy": options.model,
            "reward": str(_reward_model(options.model, folder / "reward")),
            "prompts": _write(folder / "prompts.jsonl", _placed([{"prompt": r["prompt"]} for r in trained], order)),
            "eval_prompts": _write(folder / "judged.jsonl", [{"prompt": r["prompt"]} for r in judged]),
            "judge": "none",
            "iterations": steps + 2,
            "prompts_per_iteration": batch,
            "sampling": {"max_new_tokens": options.new_tokens},
            "epochs": options.epochs,
            "value_warmup": options.value_warmup,
            "train_layers": options.train_layers,
            "lr": 3e-6,
            "precision": "bfloat16",
            "eval_every": steps + 2,
            "checkpoint_every": 10**6,
            "seed": SEED,
        }
    )
    renderer = Renderer(load_tokenizer(options.model))
    prompts = [renderer.prompt_ids(row.prompt) for row in read_prompts(folder / "prompts.jsonl").rows]
    _check([prompts[i] for i in order], [r["prompt_ids"] for r in trained])
    drawn = _note_samples()
    ends = Ends(steps)
    ends.follow(lambda: ppo.train(config, hooks=[ends]))
    phases = [{name: row[name] for name in row if name not in ("step", "judge")} for row in ends.timings]
    return ends.at[0] - ends.began, _steps(ends.seconds, phases[1:], drawn[-steps:])


def _note_samples() -> list[list[Group]]:
    """Shapes of what PPO samples, an entry a call."""
    drawn: list[list[Group]] = []
    original = ppo.sample

    def noting(*args: Any, **kwargs: Any) -> Any:
        rollouts = original(*args, **kwargs)
        drawn.append([(len(row[0].prompt), [len(one.response) for one in row]) for row in rollouts])
        return rollouts

    ppo.sample = noting
    return drawn


def measure_sampling(options: argparse.Namespace, _: Path) -> tuple[float, list[Step]]:
    """The engine alone, on prompts of equal length; no answer ends early."""
    policy = load_policy(options.model, precision=choose_precision("bfloat16"), train_layers=options.train_layers)
    count = options.batch // options.answers
    prompts = [tuple(row["prompt_ids"]) for row in workload.read(options.workload, "gen_prompts")[:count]]
    sampling = Sampling(max_new_tokens=options.new_tokens, n=options.answers)
    seconds: list[float] = []
    for number in range(options.steps + 1):
        seeds = [derive(SEED, number, place) for place in range(count)]
        began = time.perf_counter()
        sample(policy, prompts, sampling, end_ids=frozenset(), seeds=seeds)
        seconds.append(time.perf_counter() - began)
    shape = [(len(prompt), [options.new_tokens] * options.answers) for prompt in prompts]
    return seconds[0], _steps(seconds[1:], [{}] * options.steps, [shape] * options.steps)


def measure_reward(options: argparse.Namespace, folder: Path) -> tuple[float, list[Step]]:
    """Steps of the reward recipe, and what preparing the trunk's states adds to each in the first epoch."""
    seed = derive(SEED, "order", 0)  # of the first member

    def train(data: str, judged: str, hooks: Sequence[Hook]) -> object:
        config = RewardConfig.model_validate(
            _common(options, folder, data, judged) | {"model": options.model, "lr": 1e-5, "weight_decay": 0.0}
        )
        return reward.train(config, audit=audit, hooks=hooks)

    return _on_pairs(options, folder, seed, train)


def measure_dpo(options: argparse.Namespace, folder: Path) -> tuple[float, list[Step]]:
    """Steps of the DPO recipe, and what trunk states and reference log-probs add to each in the first epoch."""

    def train(data: str, judged: str, hooks: Sequence[Hook]) -> object:
        config = DPOConfig.model_validate(_common(options, folder, data, judged) | {"policy": options.model})
        return dpo.train(config, hooks=hooks)

    return _on_pairs(options, folder, SEED, train)


def _on_pairs(
    options: argparse.Namespace, folder: Path, seed: int, train: Callable[[str, str, Sequence[Hook]], object]
) -> tuple[float, list[Step]]:
    names = ("prompt", "chosen", "rejected")
    rows = workload.take(options.workload, "pairs", options.batch * (options.steps + 2))
    judged = workload.take(options.workload, "pairs_heldout", 2)
    order = _order(len(rows), options.batch, seed)
    data = _write(folder / "pairs.jsonl", _placed([{name: row[name] for name in names} for row in rows], order))
    held_out = _write(folder / "judged.jsonl", [{name: row[name] for name in names} for row in judged])
    renderer = Renderer(load_tokenizer(options.model))
    pairs = read_comparisons(data).rows
    groups = [renderer.group(pair.prompt, [pair.chosen, pair.rejected]) for pair in pairs]
    groups = [groups[place] for place in order]
    _check([group.prompt for group in groups], [row["prompt_ids"] for row in rows])
    preparation, ends = Preparation(), Ends(options.steps)
    ends.follow(lambda: train(data, held_out, [ends]))
    shapes = [[_shape(group) for group in step] for step in workload.in_steps(groups, options.batch)]
    shapes = shapes[1 : options.steps + 1]
    prepared = [preparation.for_step(sum(p + sum(answers) for p, answers in shape)) for shape in shapes]
    seconds = [own + sum(extra.values()) for own, extra in zip(ends.seconds, prepared, strict=True)]
    phases = [extra | {"train": own} for own, extra in zip(ends.seconds, prepared, strict=True)]
    return ends.at[0] - ends.began, _steps(seconds, phases, shapes)


def measure_sft(options: argparse.Namespace, folder: Path) -> tuple[float, list[Step]]:
    """Steps of the SFT recipe."""
    rows = workload.take(options.workload, "sft", options.batch * (options.steps + 2) + 2)
    judged, trained = rows[-2:], rows[:-2]
    order = _order(len(trained), options.batch, SEED)
    data = _write(folder / "sft.jsonl", _placed([{"messages": row["messages"]} for row in trained], order))
    held_out = _write(folder / "judged.jsonl", [{"messages": row["messages"]} for row in judged])
    config = SFTConfig.model_validate(_common(options, folder, data, held_out) | {"model": options.model, "samples": 0})
    renderer = Renderer(load_tokenizer(options.model))
    groups = [renderer.group(row.prompt, [row.response]) for row in read_demonstrations(data).rows]
    groups = [groups[place] for place in order]
    _check([group.prompt for group in groups], [row["prompt_ids"] for row in trained])
    ends = Ends(options.steps)
    ends.follow(lambda: sft.train(config, hooks=[ends]))
    shapes = [[_shape(group) for group in step] for step in workload.in_steps(groups, options.batch)]
    return ends.at[0] - ends.began, _steps(ends.seconds, [{}] * options.steps, shapes[1 : options.steps + 1])


WORKS: dict[str, Callable[[argparse.Namespace, Path], tuple[float, list[Step]]]] = {
    "ppo": measure_ppo,
    "sampling": measure_sampling,
    "reward": measure_reward,
    "dpo": measure_dpo,
    "sft": measure_sft,
}


def _common(options: argparse.Namespace, folder: Path, data: str, judged: str) -> dict[str, Any]:
    return {
        "run": folder / "run",
        "data": data,
        "eval_data": judged,
        "epochs": 1,
        "batch_size": options.batch,
        "train_layers": options.train_layers,
        "precision": "bfloat16",
        "checkpoint_every": 10**6,
        "seed": SEED,
    }


def _reward_model(base: str, folder: Path) -> Path:
    """A reward model on the same weights with a random head: its scores mean nothing, its cost is real."""
    fresh = new_reward(base, precision=FLOAT32, seed=0)
    save_reward(fresh.with_head(fresh.head), folder, pad_id=Renderer(fresh.tokenizer).pad_id)
    return folder


def _order(rows: int, batch: int, seed: int) -> list[int]:
    """Row numbers in the order in which a one-epoch run takes them."""
    plan = Plan(rows, batch, 1, seed)
    return [place for step in range(plan.steps) for place in plan.batch(step)]


def _placed(rows: Sequence[Any], order: Sequence[int]) -> list[Any]:
    """Rows laid out so that a run that takes `order` meets them in their own order."""
    placed = dict(zip(order, rows, strict=True))
    return [placed[place] for place in range(len(rows))]


def _write(path: Path, rows: Sequence[Any]) -> str:
    write_jsonl(path, rows)
    return str(path)


def _check(rendered: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> None:
    for own, given in zip(rendered, wanted, strict=True):
        if list(own) != list(given):
            raise SystemExit(f"A prompt renders to {len(own)} tokens that are not the {len(given)} of the workload")


def _shape(group: Any) -> Group:
    return len(group.prompt), [len(response) for response in group.responses]


def _steps(seconds: Sequence[float], phases: Sequence[dict[str, float]], shapes: Sequence[list[Group]]) -> list[Step]:
    return [
        {"seconds": own, "phases": parts, "shapes": shape}
        for own, parts, shape in zip(seconds, phases, shapes, strict=True)
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--model", required=True)
    parser.add_argument("--workload", type=Path, required=True)
    parser.add_argument("--train-layers", default="all", type=lambda text: text if text == "all" else int(text))
    parser.add_argument("--steps", type=int, default=1, help="timed steps; one more is run first as warm-up")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--answers", type=int, default=1, help="to each prompt (sampling)")
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--value-warmup", type=int, default=0, help="passes of the first iteration that are not timed")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.batch = options.batch or BATCH[options.work]
    return options


if __name__ == "__main__":
    main()
