"""Scorers: reward models on text, ensembles of them, and Python functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from plaudit.core.errors import ConfigError, DataError, ModelError
from plaudit.core.files import write_json
from plaudit.core.records import Message, Prompt, user_prompt
from plaudit.models.export import save_reward
from plaudit.models.load import new_reward
from plaudit.models.precision import FLOAT32
from plaudit.models.split import Trunk
from plaudit.rollouts.scoring import (
    ENSEMBLE_FILE,
    Combine,
    EnsembleScorer,
    FunctionScorer,
    RewardModelScorer,
    Scores,
    load_scorer,
    scorer_hash,
)
from tiny import make_folder

PROMPTS = [
    user_prompt("name a fruit"),
    user_prompt("the sea"),
    user_prompt("name a fruit"),
    user_prompt("name a fruit"),
]
TEXTS = ["pear", "one two three four five six", "a plum", "pear"]


@pytest.fixture(scope="module")
def folder(tiny_policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of three, as the recipe saves it."""
    folder = tmp_path_factory.mktemp("ensemble") / "model"
    folder.mkdir()
    for member in range(3):
        model = new_reward(tiny_policy_folder, precision=FLOAT32, train_layers=2, seed=member)
        with torch.no_grad():
            for parameter in model.branch.parameters():
                parameter.mul_(1 + 0.1 * member)
        save_reward(model.with_head(model.head), folder / f"member-{member}", pad_id=model.tokenizer.pad_token_id)
    members = [f"member-{member}" for member in range(3)]
    write_json(folder / ENSEMBLE_FILE, {"members": members, "train_layers": 2})
    return folder


def plain_scores(folder: Path, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
    """One text at a time through plain transformers, rendered by the chat template."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    scores = []
    for prompt, text in zip(prompts, texts, strict=True):
        chat = [{"role": m.role, "content": m.content} for m in prompt] + [{"role": "assistant", "content": text}]
        rendered = tokenizer.apply_chat_template(chat, tokenize=False).removesuffix("\n")
        ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            scores.append(float(model(input_ids=ids).logits))
    return scores


@pytest.mark.parametrize("max_batch_tokens", [1, 40, 4096])
def test_scores_are_those_of_plain_transformers(folder: Path, max_batch_tokens: int) -> None:
    scorer = load_scorer(str(folder / "member-1"), precision="float32", max_batch_tokens=max_batch_tokens)
    found = scorer.score(PROMPTS, TEXTS)
    expected = plain_scores(folder / "member-1", PROMPTS, TEXTS)
    assert found == pytest.approx(expected, abs=1e-4)
    assert found[0] == found[3]
    assert len({round(score, 3) for score in expected}) == 3


def test_a_reward_model_renders_with_its_own_tokenizer_and_template(folder: Path) -> None:
    """Its tokenizer and template may be others than the policy's; text is all that passes between them."""
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ':\n' + m['content'] + '<|im_end|>' }}{% endfor %}"
    )
    template += "{% if add_generation_prompt %}{{ '<|im_start|>assistant:\n' }}{% endif %}"
    scorer = load_scorer(str(folder / "member-0"), precision="float32")
    assert isinstance(scorer, RewardModelScorer)
    usual = scorer.score(PROMPTS, TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(folder / "member-0")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder / "member-0")
    try:
        other = load_scorer(str(folder / "member-0"), precision="float32").score(PROMPTS, TEXTS)
        assert other == pytest.approx(plain_scores(folder / "member-0", PROMPTS, TEXTS), abs=1e-4)
    finally:
        scorer.model.tokenizer.save_pretrained(folder / "member-0")
    assert other != pytest.approx(usual, abs=1e-3)


def test_an_ensemble_folder_gives_all_members_and_runs_their_trunk_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = [load_scorer(str(folder / f"member-{m}"), precision="float32").score(PROMPTS, TEXTS) for m in range(3)]
    scorer = load_scorer(str(folder), precision="float32")
    assert isinstance(scorer, EnsembleScorer)
    passes: list[int] = []
    forward = Trunk.forward

    def counted(self: Trunk, tokens: torch.Tensor, *rest: object) -> torch.Tensor:
        passes.append(len(tokens))
        return forward(self, tokens, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trunk, "forward", counted)
    found = scorer.score_members(PROMPTS, TEXTS)
    assert len(passes) == 1
    for member, alone in zip(found.members, each, strict=True):
        assert member == pytest.approx(alone, abs=1e-4)
    for row in range(4):
        scores = [member[row] or 0.0 for member in found.members]
        mean = sum(scores) / 3
        assert found.scores[row] == pytest.approx(mean)
        assert found.spread[row] == pytest.approx(math.sqrt(sum((s - mean) ** 2 for s in scores) / 3))


class Fixed:
    """A scorer that says what it was told to."""

    def __init__(self, scores: Scores) -> None:
        self.name = "fixed"
        self._scores = scores

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Scores:
        assert len(prompts) == len(responses) == len(self._scores)
        return self._scores


def test_combinations_are_those_of_coste_et_al() -> None:
    """R8, and the hazard of lambda = 0 read as unset."""
    members = [Fixed([1.0, 0.0]), Fixed([1.2, None]), Fixed([2.6, 0.0])]

    def combined(combine: Combine) -> float | None:
        scores = EnsembleScorer("three", members, combine).score(PROMPTS[:2], TEXTS[:2])
        assert scores[1] is None  # unscored by one is unscored by all, never 0
        return scores[0]

    assert combined(Combine("mean")) == pytest.approx(1.6)
    assert combined(Combine("worst")) == pytest.approx(1.0)
    assert combined(Combine("uncertainty", 0.5)) == pytest.approx(1.34667, abs=1e-5)
    assert combined(Combine("uncertainty", 0.0)) == pytest.approx(1.6)


def test_a_mixed_ensemble_of_a_model_and_a_function(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rule.py"
    file.write_text("def length(prompts, responses):\n    return [len(text) for text in responses]\n")
    scorer = load_scorer([str(folder / "member-0"), f"{file}:length"], precision="float32", combine=Combine("worst"))
    assert isinstance(scorer, EnsembleScorer)
    model, rule = scorer.score_members(PROMPTS, TEXTS).members
    assert rule == [len(text) for text in TEXTS]
    assert scorer.score(PROMPTS, TEXTS) == [min(a, b) for a, b in zip(model, rule, strict=True)]  # type: ignore[type-var]


def test_a_text_beyond_the_context_is_unscored(folder: Path) -> None:
    scorer = load_scorer(str(folder / "member-0"), precision="float32")
    found = scorer.score([PROMPTS[0]] * 2, ["pear", "word " * 600])
    assert found[0] is not None
    assert found[1] is None


def test_a_function_sees_conversations_and_texts() -> None:
    seen = []

    def function(prompts: list[list[dict[str, str]]], responses: list[str]) -> list[float | None]:
        seen.append((prompts, responses))
        return [0.5, None]

    prompt = (Message("system", "be brief"), Message("user", "hi"))
    assert FunctionScorer("f", function).score([prompt, prompt], ["a", "b"]) == [0.5, None]
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert seen == [([chat, chat], ["a", "b"])]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0]", "returned 1 scores for 2 responses"),
        ("return [1.0, float('nan')]", "returned nan for response 1"),
        ("return [1.0, float('inf')]", "returned inf for response 1"),
        ("return ['high', 1.0]", "returned 'high' for response 0"),
        ("return 3.0", "returned float"),
        ("return None", "returned NoneType"),
        ("return [1 / 0]", "raised ZeroDivisionError"),
    ],
)
def test_what_a_function_does_wrong_is_said(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "rule.py").write_text(f"def rate(prompts, responses):\n    {body}\n")
    scorer = load_scorer(f"{tmp_path / 'rule.py'}:rate")
    with pytest.raises(DataError, match=message):
        scorer.score(PROMPTS[:2], TEXTS[:2])


def test_functions_of_modules_files_and_equal_names(tmp_path: Path) -> None:
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rule.py").write_text(
            f"def rate(prompts, responses):\n    return [{value}] * len(responses)\n"
        )
    scorers = [load_scorer(f"{tmp_path / name / 'rule.py'}:rate") for name in ("one", "two")]
    assert [scorer.score(PROMPTS[:1], TEXTS[:1]) for scorer in scorers] == [[1.0], [2.0]]
    assert isinstance(load_scorer("os.path:exists"), FunctionScorer)


def test_what_cannot_be_loaded_is_said(tmp_path: Path, tiny_policy_folder: Path) -> None:
    (tmp_path / "rule.py").write_text("def rate(prompts, responses): ...\nlimit = 3\n")
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind\n")
    for spec, kind, message in [
        (f"{tmp_path}/missing.py:rate", ConfigError, "no file"),
        (f"{tmp_path}/rule.py:rates", ConfigError, "it defines rate"),
        (f"{tmp_path}/rule.py:limit", ConfigError, "no function limit"),
        (f"{tmp_path}/broken.py:rate", ConfigError, "ModuleNotFoundError"),
        ("nothing.of_the_kind:rate", ConfigError, "cannot be imported"),
        (str(tiny_policy_folder), ModelError, "no trained reward head"),
        (str(tmp_path / "nowhere"), ModelError, "does not exist"),
    ]:
        with pytest.raises(kind, match=message):
            load_scorer(spec, precision="float32")


def test_hashes_follow_what_is_behind_a_name(folder: Path, tmp_path: Path) -> None:
    rule = tmp_path / "rule.py"
    rule.write_text("def rate(prompts, responses): ...\n")
    before = scorer_hash(f"{rule}:rate")
    rule.write_text("def rate(prompts, responses): return []\n")
    assert before != scorer_hash(f"{rule}:rate")
    assert (
        len({scorer_hash(str(folder)), scorer_hash(str(folder / "member-0")), scorer_hash(str(folder / "member-1"))})
        == 3
    )
    assert scorer_hash("os.path:exists") is None


def test_a_broken_model_is_an_error_not_a_score(tmp_path: Path) -> None:
    model = new_reward(make_folder(tmp_path / "tiny"), precision=FLOAT32, train_layers=2)
    with torch.no_grad():
        model.head[0] = math.nan
    with pytest.raises(ModelError, match="score nan"):
        RewardModelScorer("broken", model).score(PROMPTS[:1], TEXTS[:1])
