"""A reward-model step with TRL's RewardTrainer: 8 pairs, all layers."""

import trl
import workload
from transformers import AutoTokenizer
from trl_common import PAD, Clock, loading, options, report, training_arguments

from datasets import Dataset


def main() -> None:
    chosen = options(8)
    rows = workload.take(chosen.workload, "pairs", (chosen.steps + 1) * chosen.batch)
    config = trl.RewardConfig(
        **training_arguments(
            chosen,
            max_length=256,
            train_sampling_strategy="sequential",
            model_init_kwargs=loading(chosen),
        )
    )
    tokenizer = AutoTokenizer.from_pretrained(chosen.model)
    tokenizer.pad_token = PAD
    data = [{f"{side}_ids": row["prompt_ids"] + row[f"{side}_ids"] for side in ("chosen", "rejected")} for row in rows]
    clock = Clock()
    trainer = trl.RewardTrainer(
        chosen.model,
        config,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    assert len(trainer.train_dataset) == len(rows)
    clock.time_training(trainer)
    trainer.train()
    shapes = [
        [(len(row["prompt_ids"]), [len(row[f"{side}_ids"])]) for row in step for side in ("chosen", "rejected")]
        for step in workload.in_steps(rows, chosen.batch)
    ]
    report("reward", chosen, clock, shapes, [trl])


if __name__ == "__main__":
    main()
