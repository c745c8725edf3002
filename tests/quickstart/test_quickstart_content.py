"""The demonstrations keep the house style that `quickstart/README.md` states; no prompt comes twice."""

import itertools
import json
import re
from importlib.resources import files


def read(name: str) -> list[dict[str, str]]:
    text = (files("plaudit.quickstart") / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


ROWS = read("demonstrations.jsonl")
UNANSWERED = read("prompts.jsonl")


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


def test_there_are_about_150_different_prompts():
    assert 150 <= len(ROWS) <= 200
    assert len({row["prompt"] for row in ROWS}) == len({row["response"] for row in ROWS}) == len(ROWS)


def test_no_two_prompts_are_nearly_the_same():
    prompts = [row["prompt"] for row in (*ROWS, *UNANSWERED)]
    for (first, a), (second, b) in itertools.combinations([(prompt, words(prompt)) for prompt in prompts], 2):
        assert len(a & b) / len(a | b) < 0.7, (first, second)


def test_there_are_about_as_many_prompts_without_an_answer():
    assert 150 <= len(UNANSWERED) <= 200
    assert all(set(row) == {"prompt"} for row in UNANSWERED)


def test_every_answer_keeps_the_house_style():
    for row in ROWS:
        answer = row["response"]
        assert 15 <= len(answer.split()) <= 45, answer
        assert len(re.findall(r"[.?](?=\s|$)", answer)) <= 2, answer
        assert re.search(r"\b(because|since|so)\b", answer, re.IGNORECASE), answer
        assert answer[-1] in ".?", answer
        assert not re.search(r"[!*#\n]|\bAI\b|^(Sure|Certainly|Of course)", answer), answer
