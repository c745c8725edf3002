"""The count of needed operations, against PyTorch's own counter and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.peer import flops
from benchmarks.peer.flops import Model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

CONFIG = {
    "num_hidden_layers": 3,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 160,
}
MODEL = Model.of(CONFIG)
GROUPS = [(5, [3, 4]), (2, [6])]


def llama() -> Any:
    """The same dimensions for real."""
    return LlamaForCausalLM(LlamaConfig(**CONFIG, tie_word_embeddings=True, attn_implementation="eager"))


def test_counts_every_matrix_of_a_layer() -> None:
    layer = llama().model.layers[0]
    assert MODEL.layer_weights == sum(p.numel() for p in layer.parameters() if p.ndim == 2)


@pytest.mark.parametrize("backward", [False, True])
def test_agrees_with_the_counter_of_pytorch(backward: bool) -> None:
    model, length = llama(), 12
    ids = torch.arange(length)[None]
    counter = FlopCounterMode(display=False)
    with counter:
        logits = model(ids).logits
        if backward:
            logits.sum().backward()
    # the counter sees full squares of attention, and logits of every position
    one = [(1, [length - 1])]
    full_square = 4 * MODEL.heads * MODEL.head_dim * (length**2 - flops.attended(one)) * MODEL.layers
    every_position = 2 * MODEL.hidden * MODEL.vocabulary
    expected = flops.layers_forward(MODEL, one, MODEL.layers) + full_square
    expected += flops.head_forward(MODEL, one) + every_position
    assert counter.get_total_flops() == pytest.approx(expected * (3 if backward else 1), rel=0.002)


def test_attention_of_a_group_is_that_of_its_mask() -> None:
    prompt, answers = 5, [3, 4]
    owner = [0] * prompt + [n for n, length in enumerate(answers, 1) for _ in range(length)]
    pairs = sum(owner[k] in (0, owner[q]) for q in range(len(owner)) for k in range(q + 1))
    assert flops.attended([(prompt, answers)]) == pairs


def test_a_shared_prompt_is_counted_once() -> None:
    together, apart = [(5, [3, 4])], [(5, [3]), (5, [4])]
    assert flops.tokens(apart) - flops.tokens(together) == 5
    assert flops.answer_tokens(apart) == flops.answer_tokens(together)
    saved = flops.attended(apart) - flops.attended(together)
    assert saved == 5 * 6 // 2


@pytest.mark.parametrize("work", ["ppo", "reward", "dpo", "sft"])
def test_splitting_never_adds_work_and_one_frozen_layer_saves(work: str) -> None:
    whole = sum(flops.needed(work, MODEL, GROUPS, 3, epochs=4).values())
    split = sum(flops.needed(work, MODEL, GROUPS, 2, epochs=4).values())
    assert split < whole


def test_ppo_by_hand() -> None:
    layer = flops.layers_forward(MODEL, GROUPS, 1)
    head = flops.head_forward(MODEL, GROUPS)
    found = flops.needed("ppo", MODEL, GROUPS, 1, epochs=2)
    # a layer forward is 1, trained 3; a frozen head trained through is 2
    assert found == {
        "sample": 3 * layer + head,
        "score": layer,
        "measure": 2 * layer + head,
        "train": 2 * (3 * layer + 2 * head + 3 * layer),
    }
    whole = flops.needed("ppo", MODEL, GROUPS, 3, epochs=2)
    assert whole["train"] == 2 * (9 * layer + 3 * head + 9 * layer)


def test_unknown_work_is_refused() -> None:
    with pytest.raises(ValueError, match="grpo"):
        flops.needed("grpo", MODEL, GROUPS, 3)


def test_the_peers_scripts_import_nothing_of_plaudit() -> None:
    scripts = [*sorted(Path(flops.__file__).parent.glob("trl_*.py")), Path(flops.__file__).parent / "hf_generate.py"]
    assert len(scripts) >= 6
    assert not [path.name for path in scripts if "plaudit" in path.read_text().replace("Plaudit", "")]
