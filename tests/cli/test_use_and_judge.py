"""generate, score, evaluate, chat and doctor on a tiny model: real sampling, real files."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plaudit.cli.app import app
from plaudit.core.files import read_jsonl, write_jsonl

RULES = """
def short(prompts, responses):
    return [-float(len(text)) for text in responses]

def picky(prompts, responses):
    return [None if "unsure" in text else float(text.count("good")) for text in responses]

def constant(prompts, responses):
    return [1.0] * len(responses)

def moody(prompts, responses, calls=[]):
    calls.append(1)
    return [float(len(calls) * place) for place, _ in enumerate(responses)]
"""
BRIEF = {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]}


def plaudit(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def answer(*arguments: str | Path) -> dict[str, Any]:
    """The one JSON object of a successful call."""
    result = plaudit(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rules.py").write_text(RULES)
    write_jsonl(Path("prompts.jsonl"), [{"prompt": "Name a fruit."}, {"prompt": "Hi"}, BRIEF])


@pytest.fixture
def model(tiny_policy_folder: Path) -> str:
    return f"model={tiny_policy_folder}"


SHORT = ("max_new_tokens=6", "precision=float32")


def test_generate_writes_answers_that_depend_on_seed_and_prompt_alone(model: str) -> None:
    call = ("generate", model, "prompts=prompts.jsonl", "n=2", *SHORT)
    found = answer(*call, "out=a.jsonl")
    rows = list(read_jsonl(Path("a.jsonl")))
    assert found == {
        "out": "a.jsonl",
        "prompts": 3,
        "responses": 6,
        "unfinished": sum(not finished for row in rows for finished in row["finished"]),
    }
    assert [row["prompt"] for row in rows] == ["Name a fruit.", "Hi", BRIEF["prompt"]]
    assert all(len(row["responses"]) == 2 for row in rows)
    answer(*call, "out=again.jsonl")
    assert Path("again.jsonl").read_bytes() == Path("a.jsonl").read_bytes()
    answer(*call, "out=one.jsonl", "limit=1")
    assert list(read_jsonl(Path("one.jsonl"))) == rows[:1]
    answer(*call, "out=other.jsonl", "seed=1")
    assert list(read_jsonl(Path("other.jsonl"))) != rows


def test_best_of_keeps_the_answer_with_the_highest_score(model: str) -> None:
    best_of = ("best_of=4", "reward=rules.py:short")
    found = answer("generate", model, "prompts=prompts.jsonl", "out=best.jsonl", *best_of, *SHORT)
    rows = list(read_jsonl(Path("best.jsonl")))
    for row in rows:
        assert row["scores"] == [-len(text) for text in row["responses"]]
        assert row["score"] == max(row["scores"])
        assert row["response"] == row["responses"][row["scores"].index(row["score"])]
    assert found["mean_best_score"] == pytest.approx(sum(row["score"] for row in rows) / 3)


def test_what_would_cost_work_is_refused_before_the_work(model: str) -> None:
    Path("mine.jsonl").write_text("precious")
    taken = plaudit("generate", model, "prompts=prompts.jsonl", "out=mine.jsonl")
    assert taken.exit_code == 2
    assert "mine.jsonl exists. Give another out=, or overwrite=true" in taken.stderr
    assert Path("mine.jsonl").read_text() == "precious"
    long = plaudit("generate", model, "prompts=prompts.jsonl", "out=a.jsonl", "max_new_tokens=600")
    assert "prompts.jsonl:1: the prompt has" in long.stderr
    assert not Path("a.jsonl").exists()
    assert "go together" in plaudit("generate", model, "prompts=prompts.jsonl", "out=a.jsonl", "best_of=4").stderr
    assert (
        answer("generate", model, "prompts=prompts.jsonl", "out=mine.jsonl", "overwrite=true", *SHORT)["prompts"] == 3
    )


def test_score_measures_agreement_with_people_and_keeps_the_rows() -> None:
    rows = [
        {"prompt": "a", "chosen": "good good", "rejected": "good", "id": 7},
        {"prompt": "a", "chosen": "good", "rejected": "bad", "id": 8},
        {"prompt": "b", "chosen": "bad", "rejected": "good", "id": 9},
        {"prompt": "c", "chosen": "good", "rejected": "good thing", "id": 10},
        {"prompt": "d", "chosen": "unsure", "rejected": "bad", "id": 11},
        {"prompt": "e", "chosen": "good", "rejected": "bad", "label": 0.5, "id": 12},
    ]
    write_jsonl(Path("pairs.jsonl"), rows)
    found = answer("score", "reward=rules.py:picky", "data=pairs.jsonl", "out=scored.jsonl")
    # Right, right, wrong, equal scores (one half); the unscored pair and the tie of the labeler count neither way.
    assert found["accuracy"]["value"] == pytest.approx(2.5 / 4)
    assert (found["pairs"], found["accuracy"]["clusters"], found["unscored"]) == (4, 3, 1)
    scored = list(read_jsonl(Path("scored.jsonl")))
    assert [row | {"chosen_score": None, "rejected_score": None} for row in scored] == [
        row | {"chosen_score": None, "rejected_score": None} for row in rows
    ]
    assert [(row["chosen_score"], row["rejected_score"]) for row in scored[:2]] == [(2, 1), (1, 0)]
    assert (scored[4]["chosen_score"], scored[4]["rejected_score"]) == (None, 0)
    people = plaudit("score", "reward=rules.py:picky", "data=pairs.jsonl").stdout
    assert "accuracy 0.625 (95 % " in people
    assert "3 prompts) on 4 strictly judged pairs" in people


def test_score_rankings_demonstrations_and_unranked_answers() -> None:
    write_jsonl(Path("r.jsonl"), [{"prompt": "a", "responses": ["good good", "good", "bad"], "ranks": [1, 2, 2]}])
    found = answer("score", "reward=rules.py:picky", "data=r.jsonl", "out=r-scored.jsonl")
    assert (found["pairs"], found["accuracy"]["value"]) == (2, 1.0)
    assert next(iter(read_jsonl(Path("r-scored.jsonl"))))["scores"] == [2, 1, 0]
    write_jsonl(Path("d.jsonl"), [{"prompt": "a", "response": "good"}, {"prompt": "b", "response": "bad"}])
    found = answer("score", "reward=rules.py:picky", "data=d.jsonl", "out=d-scored.jsonl")
    assert found["mean_score"] == 0.5
    assert [row["score"] for row in read_jsonl(Path("d-scored.jsonl"))] == [1, 0]
    write_jsonl(Path("u.jsonl"), [{"prompt": "a", "responses": ["good"], "finished": [True]}])
    assert answer("score", "reward=rules.py:picky", "data=u.jsonl")["mean_score"] == 1
    assert "nothing to score" in plaudit("score", "reward=rules.py:picky", "data=prompts.jsonl").stderr


def test_an_ensemble_keeps_what_each_of_its_models_gave() -> None:
    rows = [{"prompt": f"p{n}", "responses": ["good good", "good", "unsure"]} for n in range(30)]  # more than one part
    write_jsonl(Path("u.jsonl"), rows)
    answer("score", "reward=[rules.py:picky, rules.py:short]", "data=u.jsonl", "out=e-scored.jsonl")
    scored = list(read_jsonl(Path("e-scored.jsonl")))
    assert all(row["members"] == [[2, 1, None], [-9, -4, -6]] for row in scored)
    assert all(row["scores"] == [-3.5, -1.5, None] for row in scored)


def test_evaluate_counts_wins_of_a(tiny_policy_folder: Path) -> None:
    prompts = [{"prompt": f"Prompt {number}"} for number in range(4)]
    write_jsonl(Path("p.jsonl"), prompts)
    a, b = ["good", "good", "bad", "unsure"], ["bad", "bad", "bad", "bad"]
    for name, texts in (("a", a), ("b", b)):
        write_jsonl(Path(f"{name}.jsonl"), [p | {"responses": [t]} for p, t in zip(prompts, texts, strict=True)])
    call = ("prompts=p.jsonl", "judge=rules.py:picky")
    found = answer("evaluate", "a=a.jsonl", "b=b.jsonl", *call, "out=judged.jsonl")
    assert [found[name] for name in ("wins", "ties", "losses", "unscored")] == [2, 1, 0, 1]
    assert found["rate"]["value"] == pytest.approx(2.5 / 3)
    assert [(row["a"], row["score_a"]) for row in read_jsonl(Path("judged.jsonl"))][:2] == [("good", 1), ("good", 1)]
    turned = answer("evaluate", "a=b.jsonl", "b=a.jsonl", *call)
    assert turned["rate"]["value"] == pytest.approx(1 - 2.5 / 3)
    same = answer("evaluate", f"a={tiny_policy_folder}", f"b={tiny_policy_folder}", *call, *SHORT)
    assert (same["wins"], same["losses"]) == (0, 0)
    missing = plaudit("evaluate", "a=a.jsonl", "b=b.jsonl", "prompts=prompts.jsonl", "judge=rules.py:picky")
    assert "a.jsonl has 0 answers to the prompt of prompts.jsonl:1; 1 are needed" in missing.stderr


def test_chat_through_a_pipe_remembers_and_obeys(model: str) -> None:
    lines = "Hi\nAnd you?\n/temperature x\n/temperature 0\n/what\n"
    call = ("chat", model, "max_new_tokens=5", "precision=float32")
    kept = json.loads(plaudit(*call, "--json", stdin=lines).stdout)
    assert [turn["role"] for turn in kept["messages"]] == ["user", "assistant", "user", "assistant"]
    said = plaudit(*call, stdin=lines)
    assert said.exit_code == 0
    assert "`x` is no temperature" in said.stderr
    assert "Temperature 0" in said.stderr
    assert "/reset forgets the conversation" in said.stderr
    begun = json.loads(plaudit(*call, "--json", stdin="Hi\n/system Be brief.\nYou?\n/quit\nnever asked\n").stdout)
    assert begun["system"] == "Be brief."
    assert [turn["content"] for turn in begun["messages"] if turn["role"] == "user"] == ["You?"]


def test_chat_survives_a_conversation_that_grew_too_long(model: str) -> None:
    result = plaudit("chat", model, "max_new_tokens=5", "precision=float32", stdin="long " * 600 + "\nHi\n")
    assert result.exit_code == 0
    assert "/reset forgets the conversation" in result.stderr
    assert result.stdout.strip()


def levels(found: dict[str, Any], part: str) -> dict[str, str]:
    return {check["name"]: check["level"] for check in found["checks"][part]}


def test_doctor_finds_a_healthy_model_and_data(model: str, tiny_policy_folder: Path) -> None:
    write_jsonl(Path("r.jsonl"), [{"prompt": "a", "responses": ["good good", "good", "bad"], "ranks": [1, 2, 2]}])
    found = answer("doctor", model, "reward=rules.py:short", "data=r.jsonl", "precision=float32")
    assert found["error"] == 0
    assert set(levels(found, f"model {tiny_policy_folder}").values()) == {"ok"}
    assert levels(found, f"model {tiny_policy_folder}")["sampler"] == "ok"
    assert levels(found, "data r.jsonl") == dict.fromkeys(("kind", "agreement", "answer length", "tokens"), "ok")
    assert {"processor", "memory", "disk", "precision"} <= set(levels(found, "machine"))


@pytest.mark.parametrize(
    ("arguments", "part", "check"),
    [
        (("reward=rules.py:constant",), "reward rules.py:constant", "scores"),
        (("reward=rules.py:moody",), "reward rules.py:moody", "order"),
        (("reward=rules.py:none",), "reward rules.py:none", "usable"),
        (("data=none.jsonl",), "data none.jsonl", "usable"),
        (("data=torn.jsonl",), "data torn.jsonl", "agreement"),
        (("model=rules",), "model rules", "usable"),
        (("run=.",), "run .", "run"),
    ],
)
def test_doctor_finds_what_is_wrong_and_exits_with_1(arguments: tuple[str, ...], part: str, check: str) -> None:
    pair = {"prompt": "a", "chosen": "x", "rejected": "y"}
    write_jsonl(Path("torn.jsonl"), [pair | {"labeler": "p"}, {"prompt": "a", "chosen": "y", "rejected": "x"}])
    result = plaudit("doctor", *arguments, "--json")
    assert result.exit_code == 1
    assert levels(json.loads(result.stdout), part)[check] == "error"


def test_doctor_tells_a_reward_model_from_a_language_model(tiny_policy_folder: Path, tmp_path: Path) -> None:
    from plaudit.models.export import save_reward
    from plaudit.models.load import new_reward
    from plaudit.models.precision import choose_precision

    fresh = new_reward(tiny_policy_folder, precision=choose_precision("float32"))
    save_reward(replace(fresh, is_trained=True), tmp_path / "reward", pad_id=0)
    found = answer("doctor", "reward=reward", "precision=float32")
    assert levels(found, "reward reward") == {"reward": "ok", "scores": "ok", "order": "ok"}
    result = plaudit("doctor", f"reward={tiny_policy_folder}", "--json")
    assert result.exit_code == 1
    check = json.loads(result.stdout)["checks"][f"reward {tiny_policy_folder}"][0]
    assert "no trained reward head" in check["value"]
    swapped = plaudit("generate", "model=reward", "prompts=prompts.jsonl", "out=a.jsonl")
    assert "is a reward model" in swapped.stderr


def test_doctor_sees_a_sampler_that_disagrees(
    model: str, tiny_policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plaudit.models.policy import Policy

    right = Policy.log_probs

    def wrong(self: Policy, *arguments: Any, **named: Any) -> Any:
        found = right(self, *arguments, **named)
        return found._replace(log_prob=found.log_prob.roll(1))

    monkeypatch.setattr(Policy, "log_probs", wrong)
    result = plaudit("doctor", model, "precision=float32", "--json")
    assert levels(json.loads(result.stdout), f"model {tiny_policy_folder}")["sampler"] == "error"


def test_doctor_looks_into_a_run(tiny_policy_folder: Path) -> None:
    write_jsonl(Path("d.jsonl"), [{"prompt": f"Prompt {n}", "response": f"Answer {n}."} for n in range(12)])
    sft = (
        "sft",
        f"model={tiny_policy_folder}",
        "data=d.jsonl",
        "run=sft",
        "epochs=1",
        "precision=float32",
        "samples=0",
    )
    trained = answer(*sft)
    assert trained["run"] == "sft"
    assert trained["summary"]["stage"] == "sft"
    assert levels(answer("doctor", "run=sft"), "run sft") == {"state": "ok", "versions": "ok"}
    assert Path(answer("report", "run=sft")["report"]).read_text().startswith("<!DOCTYPE html>")
    Path("sft/summary.json").unlink()
    found = answer("doctor", "run=sft")
    assert levels(found, "run sft") == {"state": "warning", "versions": "ok", "checkpoint": "ok"}


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -c 'from plaudit.cli.app import main; main()' score reward=rules.py:short data=r.jsonl"
    write_jsonl(Path("r.jsonl"), [{"prompt": "a", "response": "good"}])
    done = subprocess.run(f"{command} | true", shell=True, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
