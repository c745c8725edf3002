"""Direct preference optimisation: a policy straight from judged pairs, without a reward model or sampling.

Departures from Rafailov et al. 2023 (arXiv:2305.18290), section 4 and appendix B:

1. AdamW instead of RMSprop, and a cosine to 10 % after the warm-up.
2. Rankings are used too: all strict pairs of a ranking, each with weight / C(K, 2), in one batch element. Texts judged
   several times are encoded once, with all their pairs.
3. Only the upper `train_layers` layers train. The frozen trunk below is computed once a text.
4. The reference is the policy before its first step. What it says about the data is computed once, so no second model
   lies in memory.
5. Choices: IPO (per token by default), smoothed or soft labels, and a language-model term on the better answers.

    plaudit dpo policy=runs/sft data=comparisons.jsonl run=runs/dpo
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from plaudit.algorithms.schedules import warmup_cosine
from plaudit.core.errors import DoctorError
from plaudit.core.progress import Progress, say
from plaudit.core.run import Run
from plaudit.core.seeding import derive
from plaudit.datasets.render import Renderer
from plaudit.models.checkpoints import load_latest, remove_checkpoints, save_checkpoint
from plaudit.models.export import save_policy
from plaudit.models.load import hash_model, load_policy
from plaudit.models.memory import give_back_freed_memory
from plaudit.models.policy import Policy
from plaudit.models.precision import choose_precision
from plaudit.training.dpo_config import DPOConfig
from plaudit.training.dpo_data import count_data, describe_data, encode, read_preferences
from plaudit.training.dpo_loss import (
    HeldOut,
    Side,
    accumulate_gradient,
    measure_held_out,
    reference_log_probs,
    split_by_group,
    summed_log_probs,
)
from plaudit.training.loop import (
    CheckpointClock,
    Hook,
    Interrupts,
    Moment,
    Plan,
    call_hooks,
    stop_interrupted,
)
from plaudit.training.optimizer import Optimizer, ParameterGroup
from plaudit.training.start import (
    announce,
    check_finite,
    check_supervised,
    describe_memory,
    describe_model,
)
from plaudit.training.trunk_cache import TrunkCache

_GIB = 2**30


def train(config: DPOConfig, *, hooks: Sequence[Hook] = ()) -> Path:
    """Train `config.policy` on judged pairs and leave the result in `run/model`.

    The loss is the weighted mean over the pairs of the whole batch, whatever the split into micro-batches.

    Returns the run folder. Given again after an interruption it goes on; given again after the end it does nothing.

    Raises:
        DataError, ModelError, ConfigError, RunError: bad input, before any training.
        DoctorError: a silent fault was found.
        Interrupted: Ctrl-C; a checkpoint was saved.
    """
    # 1. Data: judgments merged by prompt, split by prompt.
    data = read_preferences(config)
    inputs = {"policy": hash_model(config.policy), **data.hashes}

    # 2. The run folder: new, or the one to go on with.
    with Run.open(config.run, stage="dpo", config=config, inputs=inputs) as run:
        if run.finished:
            say(f"{run.path} is finished already: {run.path / 'model'}")
            return run.path
        checkpoint = load_latest(run)
        run.rewind(checkpoint.step if checkpoint else -1)

        # 3. Policy, and texts as token ids. What `auto` measured at the first start holds for the whole run.
        precision = choose_precision(checkpoint.state["precision"] if checkpoint else config.precision)
        policy = load_policy(
            config.policy,
            precision=precision,
            train_layers=config.train_layers,
            lora=config.lora,
            seed=derive(config.seed, "adapters"),
        )
        renderer = Renderer(policy.tokenizer, template=config.template, system=config.system)
        learn = encode(data.train, renderer, config)
        measure = encode(data.held_out, renderer, config)
        check_supervised([*learn.groups, *measure.groups], renderer.end_ids)

        # 4. Optimizer and schedule.
        plan = Plan(len(learn.groups), config.batch_size, config.epochs, config.seed)
        optimizer = Optimizer(
            [ParameterGroup(policy.trainable(), config.lr)], clip=config.grad_clip, weight_decay=config.weight_decay
        )
        warmup = int(config.warmup * plan.steps)

        # 5. Say what is about to happen.
        give_back_freed_memory()
        announce(
            "dpo",
            run.path,
            {
                "model": describe_model(policy),
                "data": describe_data(learn, measure, data.notes),
                "plan": f"{plan.steps} steps: {config.epochs} epochs in batches of {config.batch_size} prompts",
                "memory": describe_memory(policy, micro_tokens=config.micro_tokens),
            },
            renderer.preview(learn.groups[0]),
        )

        # 6. Once for the whole run: the trunk's states, and the log-probs of the policy as it starts, the reference.
        states = [TrunkCache(policy, e.groups, max_batch_tokens=config.micro_tokens) for e in (learn, measure)]
        room = int(config.trunk_memory * _GIB)
        for cache in states:
            room -= cache.fill(room)
        if checkpoint:
            stored = [checkpoint.tensors.pop(f"reference.{name}") for name in ("learn", "measure")]
            references = [split_by_group(flat, cache) for flat, cache in zip(stored, states, strict=True)]
        else:
            references = [reference_log_probs(policy, cache) for cache in states]
        learning = Side(learn.prompts, states[0], references[0])
        measured = Side(measure.prompts, states[1], references[1])

        # 7. Where to start: after the checkpoint, or at the beginning, where policy and reference must be equal.
        if checkpoint:
            optimizer.load_state_dict(checkpoint.tensors)
            start = checkpoint.step
            say(f"Going on after step {start} of {plan.steps}.")
        else:
            check_start(policy, learning)
            start = 0
        step, stop = start, None
        held_out: HeldOut | None = None

        # 8. Train.
        clock = CheckpointClock(steps=config.checkpoint_every)
        with Interrupts() as interrupts, Progress("DPO", plan.steps, done=start) as progress:
            for step in range(start + 1, plan.steps + 1):
                began = time.perf_counter()
                metrics = accumulate_gradient(policy, learning, plan.batch(step - 1), config)
                check_finite(metrics["loss"], "The loss", step)
                multiplier = warmup_cosine(step - 1, warmup=warmup, total=plan.steps, floor=config.lr_floor)
                metrics |= {"grad_norm": optimizer.step(multiplier), "lr": config.lr * multiplier}
                run.log_time(step, step_seconds=time.perf_counter() - began)
                run.log(step, **metrics)
                progress.advance(loss=metrics["loss"], accuracy=metrics["accuracy"])

                # 9. Measure, let hooks look, save.
                stop = call_hooks(hooks, Moment(step, metrics, policy, run))
                last = stop is not None or step == plan.steps
                if last or (config.eval_every is not None and step % config.eval_every == 0):
                    held_out = measure_held_out(policy, measured, config)
                    run.log(step, **held_out.named())
                if last:
                    break
                if interrupts.requested or clock.due(step):
                    reference = {
                        "reference.learn": torch.cat(learning.reference),
                        "reference.measure": torch.cat(measured.reference),
                    }
                    state = {"precision": precision.name}
                    save_checkpoint(run, step, optimizer.state_dict() | reference, state)
                if interrupts.requested:
                    stop_interrupted(run, "dpo", step, plan.steps)

        # 10. Save the model and the headline.
        assert held_out is not None, "the last step is always measured"
        save_policy(policy, run.path / "model")
        run.finish(
            {
                "stage": "dpo",
                "policy": config.policy,
                "loss": config.loss,
                "steps": step,
                "stopped": None if stop is None else stop.reason,
                "data": {"train": count_data(learn), "held_out": count_data(measure), "notes": data.notes},
                "held_out": {name: estimate.as_dict() for name, estimate in held_out._asdict().items()},
            }
        )
        remove_checkpoints(run)
        say(f"Held-out accuracy of the implicit reward {held_out.accuracy}. The model is in {run.path / 'model'}.")
        return run.path


def check_start(policy: Policy, side: Side) -> None:
    """Before the first step the policy is the reference: on the way that training takes, with gradient, every implicit
    reward must be exactly 0.

    Raises:
        DoctorError: something random lies in the forward pass, such as dropout.
    """
    numbers, packed, states = next(side.states.batches())
    difference = summed_log_probs(policy, packed, states).detach() - torch.cat([side.reference[n] for n in numbers])
    if (worst := float(difference.abs().max())) != 0:
        raise DoctorError(
            f"Policy and reference differ by {worst:.2g} nats before the first step, where every implicit reward "
            "must be exactly 0. Set dropout in the model's config.json to 0."
        )
