"""Simulated labeling as a stage: a file of answers in, a file of rankings out that training can read."""

from pathlib import Path

import pytest

from plaudit.core.errors import ConfigError, DataError
from plaudit.core.files import write_jsonl
from plaudit.datasets.read import read_rankings
from plaudit.feedback.simulation.simulate import SimulateConfig, in_parts, simulate
from plaudit.feedback.simulation.simulated import default_panel

ANSWERS = ["Stir the pasta, because starch sticks to itself.", "Boil it.", "You can add oil so that it slides apart."]


def write(path: Path, **row: object) -> Path:
    write_jsonl(path, [{"prompt": "How do I keep pasta from sticking?", "responses": ANSWERS} | row])
    return path


def test_the_rankings_are_those_of_the_panel(tmp_path: Path) -> None:
    data = write(tmp_path / "answers.jsonl")
    run = simulate(SimulateConfig(run=tmp_path / "run", data=data, labelers=("simulated-1", "simulated-5"), seed=3))
    read = read_rankings(run / "rankings.jsonl").rows
    expected = default_panel().only("simulated-1", "simulated-5").rank(read[0].prompt, ANSWERS, 3)
    assert [(row.labeler, row.responses, row.ranks) for row in read] == [
        (row.labeler, row.responses, row.ranks) for row in expected
    ]


def test_repeated_and_empty_answers_are_ranked_once_and_never(tmp_path: Path) -> None:
    data = write(tmp_path / "answers.jsonl", responses=[*ANSWERS, ANSWERS[0], "", "  "])
    run = simulate(SimulateConfig(run=tmp_path / "run", data=data))
    assert {row.responses for row in read_rankings(run / "rankings.jsonl").rows} == {tuple(ANSWERS)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"responses": ANSWERS[:1]}, "1 distinct answer"),
        ({"responses": None}, "a list of texts"),
        ({"prompt": [{"content": "no role"}]}, "role"),
    ],
)
def test_unfit_rows_are_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    data = write(tmp_path / "answers.jsonl", **row)
    with pytest.raises(DataError, match=rf"answers\.jsonl:1.*{message}"):
        simulate(SimulateConfig(run=tmp_path / "run", data=data))


def test_an_unknown_labeler_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="simulated-7"):
        simulate(SimulateConfig(run=tmp_path / "run", data=write(tmp_path / "a.jsonl"), labelers=("simulated-7",)))


@pytest.mark.parametrize(
    ("count", "size", "parts"), [(8, 4, [4, 4]), (9, 4, [4, 5]), (10, 4, [4, 4, 2]), (3, 4, [3]), (4, 2, [2, 2])]
)
def test_answers_are_ranked_in_parts(count: int, size: int, parts: list[int]) -> None:
    answers = [str(number) for number in range(count)]
    found = in_parts(answers, size)
    assert [len(part) for part in found] == parts
    assert [answer for part in found for answer in part] == answers
