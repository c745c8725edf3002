"""A supervised step with TRL's SFTTrainer: 16 demonstrations, loss on the answers; packed into rows, or padded."""

import trl
import workload
from transformers import AutoTokenizer
from trl_common import Clock, loading, options, report, training_arguments

from datasets import Dataset


def main() -> None:
    chosen = options(16, row_tokens=256, packed=0)
    rows = workload.take(chosen.workload, "sft", (chosen.steps + 1) * chosen.batch)
    lengths = [(len(row["prompt_ids"]), [len(row["completion_ids"])]) for row in rows]
    if chosen.packed:
        # a batch is as many full rows as hold about the tokens of its demonstrations
        total = sum(p + n for p, (n,) in lengths)
        chosen.batch = max(chosen.micro_batches, total // (chosen.steps + 1) // chosen.row_tokens)
        chosen.batch -= chosen.batch % chosen.micro_batches
    config = trl.SFTConfig(
        **training_arguments(
            chosen,
            max_length=chosen.row_tokens,
            packing=bool(chosen.packed),
            packing_strategy="bfd",
            completion_only_loss=True,
            train_sampling_strategy="sequential",
            model_init_kwargs=loading(chosen),
        )
    )
    labels = [[t if m else -100 for t, m in zip(row["input_ids"], row["loss_mask"], strict=True)] for row in rows]
    data = [{"input_ids": row["input_ids"], "labels": own} for row, own in zip(rows, labels, strict=True)]
    clock = Clock()
    trainer = trl.SFTTrainer(
        chosen.model,
        args=config,
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(chosen.model),
        callbacks=[clock],
    )
    clock.time_training(trainer)
    # what the trainer made of them: a packed row holds several demonstrations, `seq_lengths` says how long each is
    made = trainer.train_dataset[:]
    shapes = []
    for number, targets in enumerate(made["labels"]):
        inside = made["seq_lengths"][number] if chosen.packed else [len(targets)]
        starts = [sum(inside[:i]) for i in range(len(inside))]
        learnt = [sum(t != -100 for t in targets[s : s + n]) for s, n in zip(starts, inside, strict=True)]
        shapes.append([(n - m, [m]) for n, m in zip(inside, learnt, strict=True)])
    trainer.train()
    in_steps = workload.in_steps(shapes, chosen.batch)[: chosen.steps + 1]
    report("sft", chosen, clock, [[one for row in step for one in row] for step in in_steps], [trl])


if __name__ == "__main__":
    main()
