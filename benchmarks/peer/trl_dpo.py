"""A DPO step with TRL's DPOTrainer: 8 pairs, all layers, the reference a second model."""

import trl
import workload
from transformers import AutoTokenizer
from trl_common import Clock, loading, options, report, training_arguments

from datasets import Dataset


def main() -> None:
    chosen = options(8)
    rows = workload.take(chosen.workload, "pairs", (chosen.steps + 1) * chosen.batch)
    config = trl.DPOConfig(
        **training_arguments(
            chosen,
            max_length=256,
            beta=0.1,
            train_sampling_strategy="sequential",
            model_init_kwargs=loading(chosen),
        )
    )
    texts = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
    clock = Clock()
    trainer = trl.DPOTrainer(
        chosen.model,
        args=config,
        train_dataset=Dataset.from_list(texts),
        processing_class=AutoTokenizer.from_pretrained(chosen.model),
        callbacks=[clock],
    )
    made = trainer.train_dataset
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    assert all(list(own[name]) == row[name] for own, row in zip(made, rows, strict=True) for name in names)
    clock.time_training(trainer)
    trainer.train()
    shapes = [
        [(len(row["prompt_ids"]), [len(row[name])]) for row in step for name in names[1:]]
        for step in workload.in_steps(rows, chosen.batch)
    ]
    report("dpo", chosen, clock, shapes, [trl])


if __name__ == "__main__":
    main()
