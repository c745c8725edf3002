"""Tiny random models of the supported families with a real tokenizer and chat template, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
CONFIGS = {
    "llama": lambda n: LlamaConfig(vocab_size=n, **_SHAPE, tie_word_embeddings=True),
    "llama-untied": lambda n: LlamaConfig(vocab_size=n, **_SHAPE, tie_word_embeddings=False),
    "qwen2": lambda n: Qwen2Config(vocab_size=n, **_SHAPE, tie_word_embeddings=True),
    "qwen3": lambda n: Qwen3Config(vocab_size=n, **_SHAPE, head_dim=8, tie_word_embeddings=True),
    "mistral": lambda n: MistralConfig(vocab_size=n, **_SHAPE, head_dim=8, sliding_window=8, tie_word_embeddings=False),
    "gemma2": lambda n: Gemma2Config(vocab_size=n, **_SHAPE, head_dim=8, sliding_window=8, query_pre_attn_scalar=8),
    "gemma3": lambda n: Gemma3TextConfig(vocab_size=n, **_SHAPE, head_dim=8, sliding_window=8, query_pre_attn_scalar=8),
}
_TEXT = (
    "the quick brown fox jumps over the lazy dog. how are you today? name a fruit: apple, pear, plum. "
    "write one sentence about the sea. yes no maybe good bad one two three four five six seven eight nine ten"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer trained on the spot, with ChatML control tokens. Pad is not the end of turn."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    raw.train_from_iterator(
        [_TEXT] * 4,
        trainers.BpeTrainer(
            vocab_size=384,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|im_start|>"
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def make_folder(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """Write a tiny random model of ``family`` (a key of ``CONFIGS``) as a plain transformers folder."""
    words = tokenizer()
    config = CONFIGS[family](len(words))
    config.pad_token_id, config.eos_token_id, config.bos_token_id = (
        words.pad_token_id,
        words.eos_token_id,
        words.bos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if "norm" not in name and parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.15)  # random models barely attend with the default .02
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
