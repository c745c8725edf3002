"""Sampling with vLLM's CPU build: 32 prompts, or 8 prompts with 4 answers each, run eagerly or compiled.

The engine runs in this process: a process of its own would keep a core for itself, and its memory would not be
counted. Answers to one prompt share it in the cache of prefixes, which is emptied between steps as new weights would.
"""

import time
from typing import Any

import vllm
import workload
from trl_common import options, print_result

WAYS = {"eager": True, "compiled": False}
CACHE_BYTES = 256 << 20  # of keys and values; what 32 texts of 112 tokens need is less than half


def main() -> None:
    chosen = options(32, answers=1, new_tokens=48, way="compiled")
    rows = workload.read(chosen.workload, "gen_prompts")[: chosen.batch // chosen.answers]
    prompts = [row["prompt_ids"] for row in rows]
    engine = vllm.LLM(
        model=chosen.model,
        dtype="bfloat16",
        enforce_eager=WAYS[chosen.way],
        max_model_len=max(len(prompt) for prompt in prompts) + chosen.new_tokens,
        max_num_seqs=chosen.batch,
        kv_cache_memory_bytes=CACHE_BYTES,
        block_size=32,  # the default, 128, is longer than a prompt: none would be shared
        skip_tokenizer_init=True,
        seed=0,
    )
    seconds = [step(engine, prompts, chosen) for _ in range(chosen.steps + 1)]
    shape = [(len(prompt), [chosen.new_tokens] * chosen.answers) for prompt in prompts]
    steps = [{"seconds": one, "phases": {}, "shapes": shape} for one in seconds[1:]]
    print_result("sampling", seconds[0], steps, [vllm], attention=chosen.way, format="bf16")


def step(engine: vllm.LLM, prompts: list[list[int]], chosen: Any) -> float:
    """Seconds to answer all prompts."""
    engine.reset_prefix_cache()
    sampling = vllm.SamplingParams(
        n=chosen.answers, temperature=1.0, max_tokens=chosen.new_tokens, ignore_eos=True, detokenize=False
    )
    began = time.perf_counter()
    outputs = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
    seconds = time.perf_counter() - began
    drawn = [len(answer.token_ids) for output in outputs for answer in output.outputs]
    assert drawn == [chosen.new_tokens] * len(prompts) * chosen.answers
    return seconds


if __name__ == "__main__":
    main()
