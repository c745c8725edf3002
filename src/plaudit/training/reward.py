"""A reward model from people's rankings and comparisons.

Departures from Ouyang et al. 2022 (arXiv:2203.02155), sections 3.5 and C.2:

1. Only the upper `train_layers` layers train; the rest is a frozen trunk, computed once a text and kept for all epochs.
2. Texts judged several times (by several labelers, in several comparisons) are encoded once, with all their pairs.
3. Ties are kept, as labels of one half; `ties=drop` leaves them out as the paper does.
4. The constant that gives demonstrations the mean 0 goes into the head's weight, because the file format that everybody
   reads has no bias there.
5. An ensemble (`members`) is trained one member after the other on one trunk (Coste et al. 2023, arXiv:2310.02743).

    plaudit reward model=runs/sft data=rankings.jsonl run=runs/reward
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from plaudit.algorithms import pairs as judged_pairs
from plaudit.algorithms.schedules import warmup_cosine
from plaudit.core.files import write_jsonl
from plaudit.core.progress import Progress, say
from plaudit.core.records import TokenGroup
from plaudit.core.run import Run
from plaudit.core.seeding import derive
from plaudit.datasets.fit import fit_groups
from plaudit.datasets.judgments import JudgedPrompt, ScoredPrompt
from plaudit.datasets.render import Renderer
from plaudit.models.checkpoints import Checkpoint, load_latest, remove_checkpoints, save_checkpoint
from plaudit.models.load import hash_model, new_reward
from plaudit.models.memory import give_back_freed_memory
from plaudit.models.policy import ScalarModel
from plaudit.models.precision import Precision, choose_precision
from plaudit.training.loop import (
    CheckpointClock,
    Hook,
    Interrupts,
    Moment,
    Plan,
    call_hooks,
    micro_batches,
    stop_interrupted,
)
from plaudit.training.optimizer import Optimizer, ParameterGroup
from plaudit.training.reward_config import RewardConfig
from plaudit.training.reward_data import Examples, Judgments, read_examples, read_judgments
from plaudit.training.reward_loss import Likelihood, Target, check_fits, likelihood, targets
from plaudit.training.reward_result import (
    Member,
    check_moved,
    describe_zero,
    end_states,
    records,
    save_members,
    scored_prompts,
    set_zero,
)
from plaudit.training.start import announce, check_finite, check_supervised, describe_memory, describe_model
from plaudit.training.trunk_cache import TrunkCache

Audit = Callable[[Sequence[ScoredPrompt], Sequence[JudgedPrompt]], Mapping[str, Any]]
TIE_LR = 1e-2  # for the one scalar of a tie model, which starts at the data's own share of ties
LR_FLOOR = 0.1  # of the peak, at the end of the cosine (InstructGPT)


@dataclass
class Progressed:
    """What changes from step to step besides the member at hand: all of it goes into a checkpoint."""

    precision: str
    step: int = 0  # of the whole run
    member_step: int = 0
    finished: list[dict[str, Tensor]] = field(default_factory=list)  # weights of the members that are trained
    best: dict[str, Tensor] = field(default_factory=dict)  # weights of the best epoch so far (choose_epoch)
    best_loss: float | None = None
    best_epoch: int = 0  # 1-based
    chosen_epochs: list[int] = field(default_factory=list)  # of the finished members
    stop: str | None = None


def train(config: RewardConfig, *, audit: Audit, hooks: Sequence[Hook] = ()) -> Path:
    """Train a reward model or an ensemble; returns the run folder, with the result in `model/`.

    Args:
        config: the settings.
        audit: turns the scores of the held-out prompts into the summary's measurements, given the training judgments to
            fit baselines on: `plaudit.evaluation.reward_audit.audit`.
        hooks: called after each step; one that returns `Stop` ends the training of all members.

    Raises:
        DataError, ConfigError, ModelError: the input is unfit; nothing has been trained yet.
        DoctorError: training went wrong without saying so: constant scores, an unmoved head, no finite gradient.
        Interrupted: Ctrl-C; the same command goes on.
    """
    # 1. Judgments, split by prompt
    judgments = read_judgments(config)
    check_fits(config, [*judgments.train, *judgments.choose, *judgments.held_out])
    inputs = {"model": hash_model(config.model), **judgments.hashes}
    with Run.open(config.run, stage="reward", config=config, inputs=inputs) as run:
        if run.finished:
            say(f"{run.path} is finished already: {run.path / 'model'}")
            return run.path
        checkpoint = load_latest(run)
        done = _restore(checkpoint, config)
        run.rewind(done.step if checkpoint else -1)

        # 2. A model with a fresh head, and the texts as token groups
        precision = choose_precision(done.precision)
        done.precision = precision.name
        first = _fresh_member(config, precision, 0)
        renderer = Renderer(first.tokenizer, template=config.template, system=config.system)
        learn = read_examples(judgments.train, renderer, config, split=True)
        choose = read_examples(judgments.choose, renderer, config, split=True)
        held_out = read_examples(judgments.held_out, renderer, config, split=False)
        check_supervised([*learn.groups, *choose.groups, *held_out.groups], renderer.end_ids)
        give_back_freed_memory()
        announce("reward", run.path, _facts(config, first, judgments, learn), renderer.preview(learn.groups[0]))

        # 3. The trunk's states of all these texts, once
        learn_states, choose_states, held_out_states = _trunk_states(config, first, learn, choose, held_out)

        # 4. Train the members, one after the other
        members: list[ScalarModel] = []
        clock = CheckpointClock(steps=config.checkpoint_every)
        with Interrupts() as interrupts:
            for number in range(config.members):
                model = first if number == 0 else _fresh_member(config, precision, number).on_trunk_of(first)
                fresh_head = model.head.detach().clone()
                members.append(model)
                loss = likelihood(config, tie_share=judgments.counts["train_ties"] / judgments.counts["train_pairs"])
                learned = model.trainable() | loss.parameters
                if number < len(done.finished):
                    _put(learned, done.finished[number])
                    continue
                rows = _member_rows(config, number, len(learn.groups))
                plan = Plan(len(rows), config.batch_size, config.epochs, derive(config.seed, "order", number))
                optimizer = _optimizer(config, model, loss)
                if checkpoint is not None and done.member_step:
                    optimizer.load_state_dict(_under("optimizer", checkpoint.tensors))
                title = "reward model" if config.members == 1 else f"reward model {number + 1} of {config.members}"
                with Progress(title, plan.steps, done=done.member_step) as progress:
                    while done.member_step < plan.steps and done.stop is None:
                        began = time.perf_counter()
                        batch = [rows[place] for place in plan.batch(done.member_step)]
                        metrics = accumulate_gradient(config, model, loss, batch, learn, learn_states)
                        check_finite(metrics["loss"], "The loss", done.step + 1)
                        rate = _learning_rate(config, done.member_step, plan.steps)
                        metrics |= {"grad_norm": optimizer.step(rate), "lr": config.lr * rate}
                        done.step += 1
                        done.member_step += 1
                        run.log_time(done.step, step_seconds=time.perf_counter() - began)

                        # 5. After an epoch: unseen prompts. Only those of `choose` decide anything
                        epoch, rest = divmod(done.member_step, plan.steps_per_epoch)
                        if rest == 0:
                            metrics |= measure("held_out", config, model, loss, held_out, held_out_states)
                            if choose.groups:
                                metrics |= measure("choose", config, model, loss, choose, choose_states)
                                _keep_best(done, learned, metrics["choose_loss"], epoch)
                        run.log(done.step, member=number, **metrics)
                        progress.advance(loss=metrics["loss"], accuracy=metrics["accuracy"])

                        # 6. Hooks; a checkpoint in time; the end on Ctrl-C
                        if stop := call_hooks(hooks, Moment(done.step, metrics, model, run)):
                            done.stop = stop.reason
                        if clock.due(done.step) or interrupts.requested:
                            _save(run, done, optimizer)
                        if interrupts.requested:
                            stop_interrupted(run, "reward", done.member_step, plan.steps)
                check_moved(fresh_head, model.head.detach(), member=number)
                if done.best:
                    _put(learned, done.best)
                    done.chosen_epochs.append(done.best_epoch)
                done.finished.append(_copy(learned))
                done.member_step, done.best, done.best_loss = 0, {}, None
                _save(run, done, None)

        # 7. Set the zero: mean score 0 on demonstrations, or on the texts that were trained on
        zero_groups = _zero_groups(judgments, renderer, config)
        zero_states = TrunkCache(first, zero_groups, max_batch_tokens=config.micro_tokens)
        finals: list[Member] = []
        for model in members:
            trained = end_states(model, learn_states)
            zero_on = end_states(model, zero_states) if zero_groups else trained
            finals.append(set_zero(model, train=trained, zero_on=zero_on, held_out=end_states(model, held_out_states)))

        # 8. Save, and prove that plain transformers gives the same scores
        save_members(finals, run.path / "model", pad_id=renderer.pad_id, config=config)

        # 9. Measure the held-out prompts
        scored = scored_prompts(held_out, finals)
        write_jsonl(run.path / "held_out_scores.jsonl", records(scored))
        report = audit(scored, learn.prompts)
        run.finish(
            {
                "stage": "reward",
                "model": config.model,
                "steps": done.step,
                "stopped": done.stop,
                "chosen_epochs": done.chosen_epochs or None,
                "data": judgments.counts | {"left_out": _lost(learn, choose, held_out), "notes": judgments.notes},
                "tie_parameters": [found for weights in done.finished if (found := _tie_parameters(weights))],
                "normalisation": [describe_zero(final, held_out) for final in finals],
                **report,
            }
        )
        remove_checkpoints(run)
        say(f"The reward model is in {run.path / 'model'}.")
        return run.path


def _fresh_member(config: RewardConfig, precision: Precision, number: int) -> ScalarModel:
    """The language model with a head of the member's own."""
    seed = derive(config.seed, "member", number)
    return new_reward(config.model, precision=precision, train_layers=config.train_layers, lora=config.lora, seed=seed)


def _member_rows(config: RewardConfig, number: int, rows: int) -> list[int]:
    """The training prompts of a member: all, or as many drawn with replacement."""
    if not config.bootstrap:
        return list(range(rows))
    generator = torch.Generator().manual_seed(derive(config.seed, "bootstrap", number))
    return torch.randint(rows, (rows,), generator=generator).tolist()


def _trunk_states(config: RewardConfig, model: ScalarModel, *parts: Examples) -> list[TrunkCache]:
    """The trunk states of each part, as many as fit into trunk_memory."""
    room = int(config.trunk_memory * 2**30)
    caches: list[TrunkCache] = []
    for part in parts:
        cache = TrunkCache(model, part.groups, max_batch_tokens=config.micro_tokens)
        if model.trunk.depth and part.groups:
            room -= cache.fill(room)
        caches.append(cache)
    return caches


def _optimizer(config: RewardConfig, model: ScalarModel, loss: Likelihood) -> Optimizer:
    layers = {name: parameter for name, parameter in model.trainable().items() if parameter is not model.head}
    groups = [
        ParameterGroup(layers, config.lr),
        ParameterGroup({"score.weight": model.head}, config.head_lr or config.lr),
    ]
    if loss.parameters:
        groups.append(ParameterGroup(loss.parameters, TIE_LR))
    return Optimizer(groups, clip=config.grad_clip, weight_decay=config.weight_decay)


def _learning_rate(config: RewardConfig, step: int, steps: int) -> float:
    """Multiplier of the peak rates at the 0-based step of a member."""
    return warmup_cosine(step, warmup=int(config.warmup * steps), total=steps, floor=LR_FLOOR)


def accumulate_gradient(
    config: RewardConfig, model: ScalarModel, loss: Likelihood, batch: Sequence[int], data: Examples, cache: TrunkCache
) -> dict[str, float]:
    """Add the gradient of the mean loss over the batch's judgments, whatever its split into micro-batches."""
    sums = _Sums()
    whole = loss.weight(targets([data.prompts[n] for n in batch], drop_ties=config.ties == "drop"))
    for places, packed in micro_batches([data.groups[n] for n in batch], max_tokens=config.micro_tokens):
        numbers = [batch[place] for place in places]
        target = targets([data.prompts[n] for n in numbers], drop_ties=config.ties == "drop")
        scores = model.scores(packed, cache.states(numbers, packed))
        part = loss.total(scores, target) / whole
        part.backward()
        sums.add(part.item() * whole, scores, target)
    return sums.means(whole)


@torch.no_grad()
def measure(
    name: str, config: RewardConfig, model: ScalarModel, loss: Likelihood, data: Examples, cache: TrunkCache
) -> dict[str, float]:
    """Loss and accuracy on prompts that are not trained on."""
    sums, weight = _Sums(), 0.0
    for numbers, packed in micro_batches(data.groups, max_tokens=config.micro_tokens):
        target = targets([data.prompts[n] for n in numbers], drop_ties=config.ties == "drop")
        scores = model.scores(packed, cache.states(numbers, packed))
        sums.add(loss.total(scores, target).item(), scores, target)
        weight += loss.weight(target)
    return {f"{name}_{key}": value for key, value in sums.means(weight).items()}


class _Sums:
    """Loss and accuracy added up over micro-batches."""

    def __init__(self) -> None:
        self.loss = self.correct = self.strict = 0.0

    def add(self, loss: float, scores: Tensor, target: Target) -> None:
        found = judged_pairs.accuracy(scores, target.pairs)
        self.loss += loss
        self.correct += float(found.correct)
        self.strict += float(found.weight)

    def means(self, weight: float) -> dict[str, float]:
        return {"loss": self.loss / weight, "accuracy": self.correct / self.strict if self.strict else 0.5}


def _keep_best(done: Progressed, learned: Mapping[str, Parameter], loss: float, epoch: int) -> None:
    if done.best_loss is None or loss < done.best_loss:
        done.best, done.best_loss, done.best_epoch = _copy(learned), loss, epoch


def _zero_groups(judgments: Judgments, renderer: Renderer, config: RewardConfig) -> list[TokenGroup]:
    """The demonstrations whose mean score is to be 0; none for the training texts."""
    groups = [renderer.group(row.prompt, [row.response]) for row in judgments.zero_on]
    return fit_groups(groups, config.max_tokens).kept if groups else []


# --- checkpoints ---------------------------------------------------------------------------------------------------


def _save(run: Run, done: Progressed, optimizer: Optimizer | None) -> None:
    tensors = {f"optimizer/{name}": tensor for name, tensor in (optimizer.state_dict() if optimizer else {}).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in done.best.items()}
    for number, weights in enumerate(done.finished):
        tensors |= {f"member {number}/{name}": tensor for name, tensor in weights.items()}
    state = {name: value for name, value in vars(done).items() if name not in ("finished", "best")}
    save_checkpoint(run, done.step, tensors, state | {"members": len(done.finished)})


def _restore(checkpoint: Checkpoint | None, config: RewardConfig) -> Progressed:
    if checkpoint is None:
        return Progressed(config.precision)
    state = dict(checkpoint.state)
    finished = [_under(f"member {number}", checkpoint.tensors) for number in range(state.pop("members"))]
    return Progressed(**state, finished=finished, best=_under("best", checkpoint.tensors))


def _under(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below `name/`, without it."""
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}


def _copy(learned: Mapping[str, Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in learned.items()}


def _put(learned: Mapping[str, Parameter], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in learned.items():
            parameter.copy_(values[name])


# --- words ---------------------------------------------------------------------------------------------------------


def _facts(config: RewardConfig, model: ScalarModel, judgments: Judgments, learn: Examples) -> dict[str, str]:
    counts = judgments.counts
    steps = config.epochs * -(-len(learn.groups) // config.batch_size)
    left_out = "".join(f"; left out: {cause} ({count})" for cause, count in learn.lost.items())
    notes = "".join(f"; {note}" for note in judgments.notes)
    return {
        "model": describe_model(model),
        "data": f"{counts['train_judgments']:,} judgments of {counts['train_texts']:,} texts to "
        f"{counts['train_prompts']:,} prompts, {counts['train_pairs']:,} pairs ({counts['train_ties']:,} ties); "
        f"{counts['held_out_prompts']:,} prompts held out{left_out}{notes}",
        "plan": f"{config.members} x {steps} steps: {config.epochs} epochs in batches of {config.batch_size} prompts",
        "memory": describe_memory(model, micro_tokens=config.micro_tokens),
    }


def _lost(*parts: Examples) -> dict[str, int]:
    """Texts and pairs left out, by cause, of all parts."""
    return dict(sum((Counter(part.lost) for part in parts), Counter()))


def _tie_parameters(weights: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in weights.items() if name.startswith("ties.")}
