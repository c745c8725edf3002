"""Supervised fine-tuning on demonstrations.

Departures from Ouyang et al. 2022 (arXiv:2203.02155), section 3.5 and appendix C.1:

1. Two epochs by default instead of 16, no dropout, and linear warm-up before the cosine to 10 %.
2. The last weights are kept. The paper chooses an epoch by reward-model score, which needs a reward model.
3. Demonstrations of the same prompt that meet in a batch share one pass over the prompt. The gradient is that of
   separate rows.

    plaudit sft model=smollm2 data=demonstrations.jsonl run=runs/sft
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from plaudit.algorithms.schedules import warmup_cosine
from plaudit.core.progress import Progress, say
from plaudit.core.records import Demonstration, TokenGroup, prompt_key
from plaudit.core.run import Run
from plaudit.core.seeding import derive
from plaudit.datasets.render import Renderer
from plaudit.models.checkpoints import load_latest, remove_checkpoints, save_checkpoint
from plaudit.models.export import save_policy
from plaudit.models.load import hash_model, load_policy
from plaudit.models.memory import give_back_freed_memory
from plaudit.models.packing import packed_length
from plaudit.models.policy import Policy
from plaudit.models.precision import choose_precision
from plaudit.rollouts.engine import sample
from plaudit.rollouts.sampling import Sampling
from plaudit.training.estimates import Estimate, mean_over_prompts
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
from plaudit.training.sft_config import SFTConfig
from plaudit.training.sft_data import count_data, describe_data, encode, merge_prompts, read_data
from plaudit.training.start import (
    announce,
    check_finite,
    check_supervised,
    describe_memory,
    describe_model,
)


def train(config: SFTConfig, *, hooks: Sequence[Hook] = ()) -> Path:
    """Fine-tune `config.model` on demonstrations and leave the result in `run/model`.

    The loss is the mean negative log-likelihood over the response tokens of the whole batch, end of turn included,
    whatever the split into micro-batches: sum over b, t of m_bt (-logp_bt), over sum of m_bt.

    Returns the run folder. Given again after an interruption it goes on; given again after the end it does nothing.

    Raises:
        DataError, ModelError, ConfigError, RunError: bad input, before any training.
        DoctorError: a silent fault was found.
        Interrupted: Ctrl-C; a checkpoint was saved.
    """
    # 1. Data: read, split by prompt.
    data = read_data(config)
    inputs = {"model": hash_model(config.model), **data.hashes}

    # 2. The run folder: new, or the one to go on with.
    with Run.open(config.run, stage="sft", config=config, inputs=inputs) as run:
        if run.finished:
            say(f"{run.path} is finished already: {run.path / 'model'}")
            return run.path

        checkpoint = load_latest(run)
        run.rewind(checkpoint.step if checkpoint else -1)

        # 3. Model, and demonstrations as token ids. What `auto` measured at the first start holds for the whole run.
        precision = choose_precision(checkpoint.state["precision"] if checkpoint else config.precision)
        policy = load_policy(
            config.model,
            precision=precision,
            train_layers=config.train_layers,
            lora=config.lora,
            seed=derive(config.seed, "adapters"),
        )
        renderer = Renderer(policy.tokenizer, template=config.template, system=config.system)
        examples = encode(data, renderer, config)
        groups = examples.train.kept
        check_supervised([*groups, *examples.held_out.kept], renderer.end_ids)
        measured = merge_prompts(examples.held_out.kept, max_tokens=config.micro_tokens)
        readings = choose_readings(data.held_out, config)

        # 4. Optimizer and schedule.
        plan = Plan(len(groups), config.batch_size, config.epochs, config.seed)
        optimizer = Optimizer(
            [ParameterGroup(policy.trainable(), config.lr)], clip=config.grad_clip, weight_decay=config.weight_decay
        )
        warmup = int(config.warmup * plan.steps)

        # 5. Say what is about to happen.
        give_back_freed_memory()
        announce(
            "sft",
            run.path,
            {
                "model": describe_model(policy),
                "data": describe_data(data, examples),
                "plan": f"{plan.steps} steps: {config.epochs} epochs in batches of {config.batch_size}",
                "memory": describe_memory(policy, micro_tokens=config.micro_tokens),
            },
            renderer.preview(groups[0]),
        )

        # 6. Where to start: a checkpoint, or the held-out loss of the untrained model.
        if checkpoint:
            optimizer.load_state_dict(checkpoint.tensors)
            start, trained_tokens = checkpoint.step, int(checkpoint.state["trained_tokens"])
            before = HeldOutLoss(*checkpoint.state["before"])
            say(f"Going on after step {start} of {plan.steps}.")
        else:
            start = trained_tokens = 0
            before = held_out_loss(policy, measured, micro_tokens=config.micro_tokens)
            run.log(0, **before.estimate.named("held_out_loss"))
            write_readings(run, 0, policy, readings, renderer, config)
        step, after, stop = start, before, None

        # 7. Train.
        clock = CheckpointClock(steps=config.checkpoint_every)
        with Interrupts() as interrupts, Progress("SFT", plan.steps, done=start) as progress:
            for step in range(start + 1, plan.steps + 1):
                began = time.perf_counter()
                batch = merge_prompts([groups[i] for i in plan.batch(step - 1)], max_tokens=config.micro_tokens)
                loss, tokens = accumulate_gradient(policy, batch, micro_tokens=config.micro_tokens)
                check_finite(loss, "The loss", step)
                multiplier = warmup_cosine(step - 1, warmup=warmup, total=plan.steps, floor=config.lr_floor)
                norm = optimizer.step(multiplier)
                trained_tokens += tokens
                seconds = time.perf_counter() - began
                run.log_time(step, step_seconds=seconds, tokens_per_second=sum(map(packed_length, batch)) / seconds)
                metrics = {"loss": loss, "grad_norm": norm, "lr": config.lr * multiplier, "tokens": tokens}
                run.log(step, **metrics)
                progress.advance(loss=loss)

                # 8. Measure, let hooks look, save.
                stop = call_hooks(hooks, Moment(step, metrics, policy, run))
                last = stop is not None or step == plan.steps
                if last or (config.eval_every is not None and step % config.eval_every == 0):
                    after = held_out_loss(policy, measured, micro_tokens=config.micro_tokens)
                    run.log(step, **after.estimate.named("held_out_loss"))
                    write_readings(run, step, policy, readings, renderer, config)
                if last:
                    break
                if interrupts.requested or clock.due(step):
                    state = {"precision": precision.name, "trained_tokens": trained_tokens, "before": before}
                    save_checkpoint(run, step, optimizer.state_dict(), state)
                if interrupts.requested:
                    stop_interrupted(run, "sft", step, plan.steps)

        # 9. Save the model and the headline.
        save_policy(policy, run.path / "model")
        run.finish(
            {
                "stage": "sft",
                "model": config.model,
                "steps": step,
                "stopped": None if stop is None else stop.reason,
                "trained_tokens": trained_tokens,
                "data": count_data(data, examples),
                "held_out_loss": {
                    "before": before.estimate.as_dict(),
                    "after": after.estimate.as_dict(),
                    "change": after.minus(before).as_dict(),
                },
            }
        )
        remove_checkpoints(run)
        say(f"Held-out loss {before.estimate} before, {after.estimate} after. The model is in {run.path / 'model'}.")
        return run.path


def accumulate_gradient(policy: Policy, groups: Sequence[TokenGroup], *, micro_tokens: int) -> tuple[float, int]:
    """Add the gradient of the batch's mean loss per response token; returns that loss and the number of tokens.

    The denominator is the whole batch's, so the gradient does not depend on `micro_tokens`. A mean of micro-batch means
    would weigh a token by the company it keeps.
    """
    tokens = sum(len(response) for group in groups for response in group.responses)
    loss = 0.0
    for _, packed in micro_batches(groups, max_tokens=micro_tokens):
        part = -policy.log_probs(packed, policy.states(packed)).log_prob.sum() / tokens
        part.backward()
        loss += part.item()
    return loss, tokens


class HeldOutLoss(NamedTuple):
    """Negative log-likelihood of each held-out prompt's answers, and how many tokens it is over."""

    sums: list[float]
    tokens: list[int]

    @property
    def estimate(self) -> Estimate:
        """Mean per token."""
        return mean_over_prompts(self.sums, self.tokens)

    def minus(self, other: "HeldOutLoss") -> Estimate:
        """Mean difference per token, prompt by prompt: narrower than the difference of two intervals."""
        return mean_over_prompts([a - b for a, b in zip(self.sums, other.sums, strict=True)], self.tokens)


@torch.no_grad()
def held_out_loss(policy: Policy, groups: Sequence[TokenGroup], *, micro_tokens: int) -> HeldOutLoss:
    """The loss of `accumulate_gradient` on prompts that are not trained on, by prompt."""
    sums = dict.fromkeys((group.prompt for group in groups), 0.0)
    tokens = dict.fromkeys(sums, 0)
    for indices, packed in micro_batches(groups, max_tokens=micro_tokens):
        log_prob = policy.log_probs(packed, policy.states(packed)).log_prob.double()
        by_group = torch.zeros(len(indices), dtype=torch.float64)
        by_group.index_add_(0, packed.group[packed.sequence], -log_prob)
        for index, total in zip(indices, by_group.tolist(), strict=True):
            sums[groups[index].prompt] += total
            tokens[groups[index].prompt] += sum(map(len, groups[index].responses))
    return HeldOutLoss(list(sums.values()), list(tokens.values()))


def choose_readings(held_out: Sequence[Demonstration], config: SFTConfig) -> list[Demonstration]:
    """The held-out rows whose prompts are answered at each evaluation, one a prompt: the same ones every time."""
    by_prompt = {prompt_key(row.prompt): row for row in reversed(held_out)}
    order = sorted(by_prompt, key=lambda key: derive(config.seed, "held out", key))
    return [by_prompt[key] for key in order[: config.samples]]


def write_readings(
    run: Run, step: int, policy: Policy, rows: Sequence[Demonstration], renderer: Renderer, config: SFTConfig
) -> None:
    """Answer some held-out prompts, always with the likeliest token, for people to read beside the demonstrations."""
    rollouts = sample(
        policy,
        [renderer.prompt_ids(row.prompt) for row in rows],
        Sampling(temperature=0.0, top_p=1.0, top_k=0, max_new_tokens=config.sample_tokens, n=1),
        end_ids=renderer.end_ids,
        seeds=[0] * len(rows),
    )
    for row, (rollout,) in zip(rows, rollouts, strict=True):
        run.sample(
            step,
            kind="held out",
            prompt=[{"role": message.role, "content": message.content} for message in row.prompt],
            response=renderer.decode(rollout.response),
            demonstration=row.response,
            stopped=rollout.stopped,
        )
