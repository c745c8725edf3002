"""What is said and checked at the start of a run."""

import re
from pathlib import Path

import pytest
from rich.text import Text

from plaudit.core.errors import DoctorError
from plaudit.models.load import hash_model, load_policy
from plaudit.models.lora import LoraConfig
from plaudit.models.precision import FLOAT32, choose_precision
from plaudit.training import start
from plaudit.training.start import announce, check_finite, describe_memory, describe_model

ALL = 49_088  # parameters of the tiny Llama; its upper two layers and the final norm:
UPPER = 18_592


def test_parameters_are_counted_once_whoever_shares_them(tiny_policy_folder: Path) -> None:
    everything = describe_model(load_policy(tiny_policy_folder, precision=FLOAT32))
    assert f"float32 (asked for); {ALL:,} parameters train, 0 are frozen" in everything
    upper = describe_model(load_policy(tiny_policy_folder, precision=FLOAT32, train_layers=2))
    assert f"{UPPER:,} parameters train, {ALL - UPPER:,} are frozen" in upper
    adapters = describe_model(
        load_policy(tiny_policy_folder, precision=FLOAT32, train_layers=2, lora=LoraConfig.model_validate({"rank": 4}))
    )
    assert f"{ALL:,} are frozen, LoRA of rank 4" in adapters


@pytest.mark.parametrize(("precision", "bytes_each"), [("float32", 4 + 12), ("bfloat16", 2 + 10)])
def test_memory_counts_weights_gradients_and_moments(
    tiny_policy_folder: Path, precision: str, bytes_each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "_GIB", 1)
    policy = load_policy(tiny_policy_folder, precision=choose_precision(precision))
    found = re.match(r"about ([\d.]+) GiB for weights", describe_memory(policy, micro_tokens=100))
    assert found is not None
    assert float(found[1]) == ALL * bytes_each


def test_too_little_memory_is_said_with_a_remedy(tiny_policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_policy(tiny_policy_folder, precision=FLOAT32)
    monkeypatch.setattr(start, "_available_memory", lambda: 10**6)
    assert "may not fit; lower micro_tokens" in describe_memory(policy, micro_tokens=2048)
    monkeypatch.setattr(start, "_available_memory", lambda: 10**12)
    assert "may not fit" not in describe_memory(policy, micro_tokens=2048)


def test_a_model_folder_is_known_by_its_content(tiny_policy_folder: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", hash_model(str(tiny_policy_folder)))
    assert hash_model("somebody/some-model") == "somebody/some-model"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_figure_that_is_not_finite_is_an_error_with_its_step(value: float) -> None:
    assert check_finite(1.5, "The loss", 3) == 1.5
    with pytest.raises(DoctorError, match=r"The loss is .* at step 3"):
        check_finite(value, "The loss", 3)


def test_the_start_is_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    announce("sft", Path("runs/a"), {"model": "m [bold]x"}, Text("how are you"))
    printed = capsys.readouterr()
    assert printed.out == ""
    for part in ("sft  runs/a", "m [bold]x", "how are you"):
        assert part in printed.err
