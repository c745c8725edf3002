"""PPO from a reward model, with a KL penalty towards the SFT model (Ziegler et al. 2019; Ouyang et al. 2022).

Departures from the papers and from the code of Ziegler et al.:

1. Policy, reference, value and reward share a frozen trunk: only the upper `train_layers` layers train, and the trunk's
   states, computed while sampling, serve every later pass. `train_layers=all` is ordinary full fine-tuning.
2. The value branch has its own layers and its own optimizer; gradients of policy and value are clipped apart.
3. Which answers share a minibatch is drawn once an iteration; passes only shuffle the order of the minibatches. The
   packing then never changes, and the first ratio is exactly 1.
4. Advantages are whitened over the whole iteration, not in each minibatch.
5. The score is added at the last response token, end of turn included. A score is clipped (`reward_clip`) before the
   missing-EOS rule.
6. The value branch starts with the reward model's layers under a zero head. InstructGPT keeps the reward model's head,
   which says little about unfinished answers (`value_head=reward`); `value_warmup` fits either before the policy moves.
7. The checkpoint is chosen by a judge other than the training reward, on held-out prompts; step 0, the SFT model, is
   one of them.

    plaudit ppo policy=runs/sft reward=runs/reward prompts=prompts.jsonl judge=rule.py:score run=runs/ppo
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from plaudit.algorithms import schedules
from plaudit.algorithms.kl import adapt
from plaudit.core.errors import DataError
from plaudit.core.progress import Progress, say
from plaudit.core.records import TokenGroup
from plaudit.core.run import Run
from plaudit.core.seeding import derive
from plaudit.models.checkpoints import load_latest, remove_checkpoints
from plaudit.models.export import save_policy
from plaudit.models.memory import give_back_freed_memory
from plaudit.models.precision import choose_precision
from plaudit.rollouts.engine import sample
from plaudit.training import doctor
from plaudit.training.judging import judge_policy
from plaudit.training.loop import CheckpointClock, Hook, Interrupts, Moment, call_hooks, epoch_order, stop_interrupted
from plaudit.training.ppo_config import PPOConfig
from plaudit.training.ppo_experience import aim, drop_unscored, measure, value_again
from plaudit.training.ppo_figures import Figures, held_out_figures, iteration_figures, sample_records, summarise
from plaudit.training.ppo_reward import Answered
from plaudit.training.ppo_setup import Cast, Task, describe, load_cast, make_task, read_data
from plaudit.training.ppo_state import State, load_best, note_verdict, restore, save
from plaudit.training.ppo_update import minibatch_order, update, warm_up_value
from plaudit.training.start import announce

Seconds = dict[str, float]


def train(config: PPOConfig, *, hooks: Sequence[Hook] = ()) -> Path:
    """Train a policy; returns the run folder, in which `model/` is the checkpoint that the judge likes best.

    Raises:
        DataError, ModelError, ConfigError, RunError: bad input, before any training.
        DoctorError: a silent fault was found.
        Interrupted: Ctrl-C; a checkpoint was saved.
    """
    # 1. Data, run folder, models, and the newest checkpoint if there is one
    data = read_data(config)
    with Run.open(config.run, stage="ppo", config=config, inputs=data.inputs) as run:
        if run.finished:
            say(f"{run.path} is finished already: {run.path / 'model'}")
            return run.path
        checkpoint = load_latest(run)
        cast = load_cast(config, choose_precision(checkpoint.state["precision"] if checkpoint else config.precision))
        task = make_task(config, data, cast)
        give_back_freed_memory()
        announce("ppo", run.path, describe(config, cast, task), cast.renderer.preview(TokenGroup(task.ids[0], ())))
        state = restore(run, checkpoint, cast.learner, config)
        history = [row for row in run.read_metrics() if row["step"] > 0]

        # 2. The SFT model on held-out prompts: step 0, against which everything is measured
        if state.start is None:
            seconds: Seconds = {}
            run.log(0, **_judge(config, task, cast, run, state, seconds))
            run.log_time(0, **seconds)

        clock = CheckpointClock(steps=config.checkpoint_every)
        with Interrupts() as interrupts, Progress("PPO", config.iterations, done=state.step) as progress:
            while state.step < config.iterations and state.stop is None:
                # 3. Sample. No weight moves meanwhile, so an interruption stops before the update
                seconds = {}
                answered = _sample(config, task, cast, state.step, seconds)
                if interrupts.requested:
                    save(run, cast.learner, state)
                    stop_interrupted(run, "ppo", state.step, config.iterations)

                # 4. Learn from the answers
                figures, records = _learn(config, task, cast, state, answered, seconds)
                state.step += 1
                for record in records:
                    run.sample(state.step, **record)

                # 5. Judge held-out answers; the best weights by the judge are kept
                if state.step % config.eval_every == 0 or state.step == config.iterations:
                    figures |= _judge(config, task, cast, run, state, seconds)

                # 6. Write down, warn, let hooks look
                history.append({"step": state.step} | figures)
                _warn(history)
                run.log(state.step, **figures)
                run.log_time(state.step, **seconds)
                progress.advance(reward=figures["reward"], kl=figures["kl"])
                stop = call_hooks(hooks, Moment(state.step, figures, cast.learner.policy, run))
                state.stop = stop.reason if stop else None

                # 7. Checkpoint
                is_last = state.step == config.iterations or state.stop is not None
                if is_last or interrupts.requested or clock.due(state.step):
                    save(run, cast.learner, state)
                if interrupts.requested and not is_last:
                    stop_interrupted(run, "ppo", state.step, config.iterations)

        # 8. Export: the weights the judge chose, and the last ones if wanted
        if config.keep_final:
            save_policy(cast.learner.policy, run.path / "model-final")
        load_best(run, cast.learner.policy, state)
        save_policy(cast.learner.policy, run.path / "model")
        summary = summarise(cast, task, state, history)
        run.finish(summary)
        remove_checkpoints(run)
        for warning in summary["warnings"]:
            say(warning if isinstance(warning, str) else warning["message"], style="yellow")
        return run.path


def _sample(config: PPOConfig, task: Task, cast: Cast, done: int, seconds: Seconds) -> list[Answered]:
    """Answers to the prompts of the iteration after `done`, with the trunk states that every later pass starts from."""
    numbers = prompts_of(done, rows=len(task.prompts), count=config.prompts_per_iteration, seed=config.seed)
    with _timed(seconds, "sample"):
        rollouts = sample(
            cast.learner.policy,
            [task.ids[i] for i in numbers],
            config.sampling,
            end_ids=cast.renderer.end_ids,
            seeds=[derive(config.seed, "sample", done, place) for place in range(len(numbers))],
            keep_states=True,
        )
    return [Answered(task.prompts[i], tuple(row)) for i, row in zip(numbers, rollouts, strict=True)]


def _learn(
    config: PPOConfig, task: Task, cast: Cast, state: State, answered: Sequence[Answered], seconds: Seconds
) -> tuple[Figures, list[Figures]]:
    """One iteration's update of weights and KL coefficient; its metrics and its samples."""
    policy, value, coefficient = cast.learner.policy, cast.learner.value, state.kl.coefficient
    # a. Scores at the end of turn; answers without one are left out and counted
    with _timed(seconds, "score"):
        scored = drop_unscored(answered, cast.reward.grade(answered))
        if not scored.answered:
            raise DataError(
                f"The reward {cast.reward.name} left all {scored.unscored} answers of iteration {state.step + 1} "
                "unscored: there is nothing to learn from. Try it on a few texts with `plaudit score`."
            )
    state.unscored += scored.unscored
    # b. Log-probs, reference log-probs and values; shaped rewards, advantages, returns
    with _timed(seconds, "measure"):
        experience = measure(
            policy,
            cast.reference,
            value,
            scored,
            minibatches=config.minibatches,
            micro_tokens=config.micro_tokens,
            temperature=config.sampling.temperature,
            seed=derive(config.seed, "partition", state.step),
            first=minibatch_order(
                min(config.minibatches, len(scored.answered)), seed=config.seed, iteration=state.step, passes=0
            )[0],
        )
        e = experience
        agreement = doctor.check_sampler(e.sampler_log_probs, e.log_probs, e.mask, compute=policy.precision.compute)
        if state.step == 0:
            doctor.check_start(e.log_probs, e.ref_log_probs, e.mask)
    # A reward model never saw an unfinished answer: with its head, the value branch can first learn what one is worth
    # from whole returns (lambda 1: no value in them), before any advantage is computed with it
    if state.step == 0 and config.value_warmup:
        with _timed(seconds, "value_warmup"):
            whole_returns = aim(experience, config, kl_coef=coefficient, lam=1.0)
            warm_up_value(cast.learner, experience, whole_returns, config)
            experience = value_again(experience, value)
    targets = aim(experience, config, kl_coef=coefficient)
    # c. Passes over the experience
    lr_multiplier = _lr_multiplier(config, state.step)
    with _timed(seconds, "train"):
        moved = update(
            cast.learner,
            experience,
            targets,
            config,
            kl_coef=coefficient,
            lr_multiplier=lr_multiplier,
            iteration=state.step,
            demonstrations=task.demonstrations,
        )
    doctor.check_first_step(moved.first_approx_kl)
    # d. Figures; the KL coefficient moves after this iteration's rewards were computed with the old one
    figures = iteration_figures(scored, experience, targets, moved, agreement)
    figures |= {"kl_coefficient": coefficient, "lr": config.lr * lr_multiplier}
    if config.kl.adaptive:
        state.kl = adapt(state.kl, observed=figures["kl"], episodes=len(experience.places))
    return figures, list(sample_records(scored, experience, targets, cast.renderer))


def _judge(config: PPOConfig, task: Task, cast: Cast, run: Run, state: State, seconds: Seconds) -> Figures:
    """Judge the policy of `state.step` on held-out prompts, log the answers, keep the weights if they are the best."""
    with _timed(seconds, "judge"):
        verdict = judge_policy(
            cast.learner.policy,
            cast.reference,
            task.held_out,
            judge=cast.judge,
            reward=cast.reward,
            renderer=cast.renderer,
            micro_tokens=config.micro_tokens,
        )
    for record in verdict.records:
        run.sample(state.step, **record)
    note_verdict(run, cast.learner.policy, state, verdict)
    return held_out_figures(verdict)


def prompts_of(iteration: int, *, rows: int, count: int, seed: int) -> list[int]:
    """Row numbers of the prompts of a 0-based iteration: the next `count` of an endless row of shuffled epochs."""
    places = range(iteration * count, (iteration + 1) * count)
    orders = {epoch: epoch_order(rows, seed=seed, epoch=epoch) for epoch in {place // rows for place in places}}
    return [orders[place // rows][place % rows] for place in places]


def _lr_multiplier(config: PPOConfig, iteration: int) -> float:
    if config.schedule == "linear":
        return schedules.warmup_linear(iteration, warmup=config.warmup, total=config.iterations)
    if config.schedule == "cosine":
        return schedules.warmup_cosine(iteration, warmup=config.warmup, total=config.iterations, floor=0.1)
    return schedules.warmup_constant(iteration, warmup=config.warmup)


def _warn(history: Sequence[Figures]) -> None:
    """Say each kind of warning once, when it first shows."""
    known = {finding["check"] for finding in doctor.all_findings(history[:-1])}
    for finding in doctor.watch(history):
        if finding.check not in known:
            say(f"Iteration {finding.step}: {finding.message}", style="yellow")


@contextmanager
def _timed(seconds: Seconds, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - start
