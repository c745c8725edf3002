"""A PPO iteration with TRL's PPOTrainer: policy, reference, value and reward from one model, each whole."""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(sys.prefix) / "trl-ppo"))  # TRL 1.12, the last release with PPO

import torch
import transformers
import trl
import trl.experimental.ppo.ppo_trainer as ppo
import workload
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl_common import FORMATS, PAD, Clock, loading, options, report, training_arguments

from datasets import Dataset


def main() -> None:
    chosen = options(32, new_tokens=48, epochs=4)
    if FORMATS[chosen.format][1]:
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    transformers.set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(chosen.model, padding_side="left")
    tokenizer.pad_token = PAD
    # a batch more than is trained on: on its loader's last one, accelerate takes an optimizer step each micro-batch
    rows = workload.take(chosen.workload, "prompts", (chosen.steps + 2) * chosen.batch)
    arguments = training_arguments(
        chosen,
        total_episodes=(chosen.steps + 1) * chosen.batch,
        num_ppo_epochs=chosen.epochs,
        num_mini_batches=1,
        response_length=chosen.new_tokens,
        temperature=1.0,
        stop_token="eos",
        missing_eos_penalty=1.0,
        kl_coef=0.05,
        num_sample_generations=0,
        local_rollout_forward_batch_size=chosen.batch,
    )
    del arguments["max_steps"]  # the trainer counts episodes

    def classifier() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(
            chosen.model, num_labels=1, pad_token_id=tokenizer.pad_token_id, **loading(chosen)
        )

    clock, shapes = Clock(), []
    watch(clock, shapes, tokenizer)
    trainer = ppo.PPOTrainer(
        args=trl.experimental.ppo.PPOConfig(**arguments),
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(chosen.model, **loading(chosen)),
        ref_model=AutoModelForCausalLM.from_pretrained(chosen.model, **loading(chosen)),
        value_model=classifier(),
        reward_model=classifier(),
        train_dataset=Dataset.from_list([{"input_ids": row["prompt_ids"]} for row in rows]),
        callbacks=[clock],
    )
    trainer.callback_handler.remove_callback(transformers.PrinterCallback)
    clock.time(trainer.accelerator, "backward", "train backward")
    clock.time(trainer.optimizer, "step", "optimizer")
    trainer.train()
    report("ppo", chosen, clock, shapes, [trl])


def watch(clock: Clock, shapes: list[Any], tokenizer: Any) -> None:
    """Time the phases where the trainer's module calls them, and note what was sampled."""
    generate, forward = ppo.batch_generation, ppo.forward

    def noting(model: Any, queries: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        sampled = generate(model, queries, *args, **kwargs)
        answers = sampled[0][:, queries.shape[1] :]
        ends = answers == tokenizer.eos_token_id
        lengths = torch.where(ends.any(1), ends.int().argmax(1) + 1, answers.shape[1])
        prompts = (queries != tokenizer.pad_token_id).sum(1)
        shapes.append([(p, [n]) for p, n in zip(prompts.tolist(), lengths.tolist(), strict=True)])
        return sampled

    scoring, training = clock.timed(forward, "measure"), clock.timed(forward, "train forward")

    def either(*args: Any, **kwargs: Any) -> Any:
        return (training if torch.is_grad_enabled() else scoring)(*args, **kwargs)

    ppo.batch_generation = clock.timed(noting, "sample")
    ppo.get_reward = clock.timed(ppo.get_reward, "score")
    ppo.forward = either


if __name__ == "__main__":
    main()
