"""Sampling with transformers' generate: 32 prompts, or 8 prompts with 4 answers each, in every way that works here."""

import time
from pathlib import Path
from typing import Any

import torch
import workload
from transformers import AutoModelForCausalLM
from trl_common import options, print_result

# name: attention, cache
WAYS = {"default": ("sdpa", None), "eager": ("eager", None), "static cache": ("sdpa", "static")}


def main() -> None:
    chosen = options(32, answers=1, new_tokens=48, way="")
    prompts = torch.tensor([row["prompt_ids"] for row in workload.read(Path(chosen.workload), "gen_prompts")])
    prompts = prompts[: chosen.batch // chosen.answers]
    for name, (attention, cache) in WAYS.items():
        if chosen.way in ("", name):
            model = AutoModelForCausalLM.from_pretrained(chosen.model, dtype="bfloat16", attn_implementation=attention)
            measure(name, model.eval(), prompts, cache, chosen)


@torch.no_grad()
def measure(name: str, model: Any, prompts: torch.Tensor, cache: str | None, chosen: Any) -> None:
    """Time one way and print its result."""
    torch.manual_seed(0)
    settings = {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "num_return_sequences": chosen.answers,
        "max_new_tokens": chosen.new_tokens,
        "min_new_tokens": chosen.new_tokens,
    }
    if cache:
        settings["cache_implementation"] = cache
    seconds = []
    for _ in range(chosen.steps + 1):
        began = time.perf_counter()
        out = model.generate(prompts, attention_mask=torch.ones_like(prompts), **settings)
        seconds.append(time.perf_counter() - began)
        assert out.shape == (len(prompts) * chosen.answers, prompts.shape[1] + chosen.new_tokens)
    shape = [(prompts.shape[1], [chosen.new_tokens] * chosen.answers)] * len(prompts)
    steps = [{"seconds": one, "phases": {}, "shapes": shape} for one in seconds[1:]]
    print_result("sampling", seconds[0], steps, [], attention=name, format="bf16")


if __name__ == "__main__":
    main()
