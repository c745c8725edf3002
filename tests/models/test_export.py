"""What is saved is what was trained, and plain transformers agrees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from plaudit.core.errors import ModelError
from plaudit.core.records import TokenGroup
from plaudit.models.export import check_policy_folder, save_policy, save_reward
from plaudit.models.load import load_policy, load_reward, load_tokenizer, new_reward
from plaudit.models.lora import LoraConfig
from plaudit.models.packing import pack
from plaudit.models.precision import FLOAT32, Precision
from tiny import make_folder

GROUPS = [TokenGroup((5, 9, 17), ((40, 41, 42, 2), (43, 2))), TokenGroup((7, 11, 12, 13), ((50, 51, 2),))]
PAD, END = 0, 2


@pytest.mark.parametrize("family", ["llama", "llama-untied", "qwen2", "qwen3", "mistral", "gemma2", "gemma3"])
@pytest.mark.parametrize("train_layers", ["all", 2])
def test_policy_round_trip(tmp_path: Path, family: str, train_layers: int | str) -> None:
    policy = load_policy(make_folder(tmp_path / "m", family), precision=FLOAT32, train_layers=train_layers)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.mul_(1.1)
    save_policy(policy, tmp_path / "saved")
    packed = pack(GROUPS)
    again = load_policy(tmp_path / "saved", precision=FLOAT32, train_layers=1)
    expected = policy.log_probs(packed, policy.states(packed)).log_prob
    assert torch.equal(again.log_probs(packed, again.states(packed)).log_prob, expected)


def test_lora_is_merged_on_saving(tmp_path: Path) -> None:
    policy = load_policy(make_folder(tmp_path / "m"), precision=FLOAT32, train_layers=2, lora=LoraConfig(rank=2))
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.05)
    save_policy(policy, tmp_path / "saved")
    assert not [name for name in load_file(tmp_path / "saved" / "model.safetensors") if "lora" in name]
    packed = pack(GROUPS)
    again = load_policy(tmp_path / "saved", precision=FLOAT32)
    torch.testing.assert_close(
        again.log_probs(packed, again.states(packed)).log_prob,
        policy.log_probs(packed, policy.states(packed)).log_prob,
        atol=2e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gemma2"])
def test_reward_round_trip_through_plain_transformers(tmp_path: Path, family: str) -> None:
    scalar = new_reward(make_folder(tmp_path / "m", family), precision=FLOAT32, train_layers=2)
    scalar = scalar.with_head(scalar.head * 3)
    save_reward(scalar, tmp_path / "saved", pad_id=PAD)
    packed = pack(GROUPS)
    expected = scalar.scores(packed, scalar.states(packed))
    again = load_reward(tmp_path / "saved", precision=FLOAT32, train_layers=3)
    assert torch.equal(again.scores(packed, again.states(packed)), expected)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    rows = [(*g.prompt, *r) for g in GROUPS for r in g.responses]
    width = max(map(len, rows)) + 3
    ids = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])
    with torch.no_grad():
        scores = plain(input_ids=ids, attention_mask=(ids != PAD).long()).logits[:, 0]
    torch.testing.assert_close(scores, expected.detach(), atol=1e-5, rtol=0)
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").pad_token_id == PAD


def test_padding_that_equals_the_end_of_turn_fails_the_save(tmp_path: Path) -> None:
    """transformers would read the score one token early: the save must notice."""
    scalar = new_reward(make_folder(tmp_path / "m"), precision=FLOAT32, train_layers=2)
    scalar = scalar.with_head(scalar.head * 3)
    with pytest.raises(ModelError, match="other scores"):
        save_reward(scalar, tmp_path / "saved", pad_id=END)
    assert not (tmp_path / "saved").exists()


def test_untrained_head_is_not_saved(tmp_path: Path) -> None:
    scalar = new_reward(make_folder(tmp_path / "m"), precision=FLOAT32)
    with pytest.raises(ModelError, match="as initialised"):
        save_reward(scalar, tmp_path / "saved", pad_id=PAD)


def test_head_stays_float32_under_bfloat16(tmp_path: Path) -> None:
    scalar = new_reward(make_folder(tmp_path / "m"), precision=Precision(torch.bfloat16, "test"), train_layers=2)
    scalar = scalar.with_head(torch.full_like(scalar.head, 1.0 + 2.0**-15))
    save_reward(scalar, tmp_path / "saved", pad_id=PAD)
    again = load_reward(tmp_path / "saved", precision=Precision(torch.bfloat16, "test"))
    assert torch.equal(again.head, scalar.head)


def test_check_notices_a_model_that_computes_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that attend to each other (a dropped mask) must not pass."""
    folder = make_folder(tmp_path / "m")
    words = load_tokenizer(str(folder))
    check_policy_folder(folder, words)
    from plaudit.models import attention

    def everyone(shape: attention.Shape, window: int | None) -> torch.Tensor:  # noqa: ARG001
        length = shape[0] + sum(shape[1])
        return torch.ones(length, length, dtype=torch.bool).tril()

    monkeypatch.setattr(attention, "_may_look", everyone)
    with pytest.raises(ModelError, match="other log-probs"):
        check_policy_folder(folder, words)


def test_reward_folder_as_policy_and_reverse(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    scalar = new_reward(folder, precision=FLOAT32)
    save_reward(scalar.with_head(scalar.head), tmp_path / "reward", pad_id=PAD)
    with pytest.raises(ModelError, match="is a reward model"):
        load_policy(tmp_path / "reward", precision=FLOAT32)
    with pytest.raises(ModelError, match="no trained reward head"):
        load_reward(folder, precision=FLOAT32)


def test_missing_head_is_an_error(tmp_path: Path) -> None:
    scalar = new_reward(make_folder(tmp_path / "m"), precision=FLOAT32)
    save_reward(scalar.with_head(scalar.head), tmp_path / "reward", pad_id=PAD)
    file = tmp_path / "reward" / "model.safetensors"
    tensors = load_file(file)
    del tensors["score.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="would be random"):
        load_reward(tmp_path / "reward", precision=FLOAT32)


def test_folder_without_tokenizer(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    for file in folder.glob("token*"):
        file.unlink()
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="tokenizer"):
        load_policy(folder, precision=FLOAT32)


def test_saved_policy_has_the_compute_format(tmp_path: Path) -> None:
    policy = load_policy(make_folder(tmp_path / "m"), precision=Precision(torch.bfloat16, "test"), train_layers=1)
    save_policy(policy, tmp_path / "saved")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "saved").dtype == torch.bfloat16
