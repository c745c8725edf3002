"""The peer's side of `benchmarks.learning`: TRL's PPOTrainer on the same prompts with the same reward model.

FOLDER/settings.json says everything. Before it trains, the reward model must give the scores in FOLDER/probe.jsonl.
Where TRL would do other work than asked, it is told otherwise, to its gain:

* Its loader shuffles; here it takes the prompts in the order in which Plaudit takes them.
* With micro-batches, it takes one optimizer step a pass however many minibatches it is asked for, because accelerate
  counts micro-batches over the whole batch. Here accelerate counts them over a minibatch.
* On the last batch of its loader, accelerate takes an optimizer step after each micro-batch; there is a batch more
  than rounds.
* The value model starts as the reward model with a zero head, as Plaudit's does.
"""

import argparse
import json
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
from stopwatch import Course
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl_common import FORMATS, PAD, loading, training_arguments

from datasets import Dataset

# Largest difference from Plaudit's scores in float32: for sums in another order; for everything in bfloat16, head too.
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.25}


class Save(transformers.TrainerCallback):
    """Stops the clock after each round, and saves the policy where that is wanted."""

    def __init__(self, course: Course, policy: Any, tokenizer: Any) -> None:
        self._course, self._policy, self._tokenizer = course, policy, tokenizer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._course.start()

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if (target := self._course.target(state.global_step)) is not None:
            self._policy.save_pretrained(target)
            self._tokenizer.save_pretrained(target)
        self._course.note(state.global_step)
        self._course.start()


def main() -> None:
    folder, began = Path(sys.argv[1]), float(sys.argv[2])
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    own = settings["peer"]
    chosen = argparse.Namespace(**own, batch=settings["prompts"] * settings["answers"], steps=0)
    if FORMATS[chosen.format][1]:
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    transformers.set_seed(settings["seed"])
    tokenizer = AutoTokenizer.from_pretrained(settings["sft"], padding_side="left")
    tokenizer.pad_token = PAD
    reward = load_reward(settings["reward"], tokenizer, **loading(chosen))
    check_scores(folder, settings["reward"], tokenizer, reward)
    value = load_reward(settings["reward"], tokenizer, **loading(chosen))
    torch.nn.init.zeros_(value.score.weight)
    policy = AutoModelForCausalLM.from_pretrained(settings["sft"], **loading(chosen))
    original = ppo.DataLoader
    ppo.DataLoader = lambda *args, **kwargs: original(*args, **kwargs | {"shuffle": False})
    course = Course(folder / "peer", own["at"], began)
    trainer = ppo.PPOTrainer(
        args=trl.experimental.ppo.PPOConfig(**arguments(settings, chosen)),
        processing_class=tokenizer,
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(settings["sft"], **loading(chosen)),
        value_model=value,
        reward_model=reward,
        train_dataset=Dataset.from_list(workload.read(folder, "prompts")),
        callbacks=[Save(course, policy, AutoTokenizer.from_pretrained(settings["sft"]))],
    )
    trainer.callback_handler.remove_callback(transformers.PrinterCallback)
    trainer.accelerator.gradient_accumulation_steps = chosen.micro_batches // settings["minibatches"]
    trainer.train()


def arguments(settings: dict[str, Any], chosen: argparse.Namespace) -> dict[str, Any]:
    """Of the trainer. What is not here (clips, lambda, weight of the value loss) has the same default on both sides."""
    found = training_arguments(
        chosen,
        seed=settings["seed"],
        learning_rate=chosen.lr,
        total_episodes=chosen.at[-1] * chosen.batch,
        num_ppo_epochs=settings["epochs"],
        num_mini_batches=settings["minibatches"],
        response_length=settings["new_tokens"],
        temperature=1.0,
        stop_token="eos",
        missing_eos_penalty=settings["missing_eos"],
        kl_coef=settings["kl_coef"],
        kl_estimator="k1",
        num_sample_generations=0,
        local_rollout_forward_batch_size=chosen.batch,
    )
    del found["max_steps"]  # the trainer counts episodes
    return found


def load_reward(folder: str, tokenizer: Any, **how: Any) -> Any:
    """The reward model as plain transformers loads it."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **how).eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


def check_scores(folder: Path, name: str, tokenizer: Any, reward: Any) -> None:
    """The reward model scores the probes as Plaudit does: exactly in float32, and nearly as it is used here."""
    rows = workload.read(folder, "probe")
    wanted = torch.tensor([row["score"] for row in rows])
    exact = load_reward(name, tokenizer, dtype="float32", attn_implementation="eager")
    for model, tolerance in ((exact, TOLERANCE["float32"]), (reward, TOLERANCE["bfloat16"])):
        off = (scores(model, rows, tokenizer.pad_token_id) - wanted).abs()
        print(f"scores of {len(rows)} texts, {model.dtype}: at most {off.max():.1e} from Plaudit's", file=sys.stderr)
        if not off.max() <= tolerance:
            raise SystemExit(f"The peer scores a text {off.max():.3f} off, more than {tolerance}: another reward")


@torch.no_grad()
def scores(model: Any, rows: list[Any], pad: int) -> torch.Tensor:
    """Scores as the trainer gets them: prompts padded on the left, answers on the right."""
    context, longest = (max(len(row[name]) for row in rows) for name in ("prompt_ids", "response_ids"))
    ids = [
        [pad] * (context - len(row["prompt_ids"]))
        + row["prompt_ids"]
        + row["response_ids"]
        + [pad] * (longest - len(row["response_ids"]))
        for row in rows
    ]
    return ppo.get_reward(model, torch.tensor(ids), pad, context)[1].float()


if __name__ == "__main__":
    main()
