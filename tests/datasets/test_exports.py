"""Exports of labeling tools: who preferred what, and what is no judgment."""

import json
from pathlib import Path
from typing import Any

import pytest

from plaudit.core.errors import DataError
from plaudit.core.records import user_prompt
from plaudit.datasets.read import read_any, read_comparisons, read_prompts, read_rankings

FIELDS = {"instruction": "Name a fruit.", "response_1": "Carrot.", "response_10": "Pear."}
ORDER = [{"value": "response_10", "rank": 1}, {"value": "response_1", "rank": 2}]


def dump(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(rows))
    return path


def best(ranking: Any) -> list[str]:
    return [text for text, rank in zip(ranking.responses, ranking.ranks, strict=True) if rank == 1]


@pytest.mark.parametrize(
    "record",
    [
        {"fields": FIELDS, "responses": {"order": [{"user_id": "u1", "value": ORDER}]}},
        {"fields": FIELDS,
         "responses": [{"user_id": "u1", "status": "submitted", "values": {"order": {"value": ORDER}}}]},
        {**FIELDS, "id": "x", "order.responses": [ORDER], "order.responses.users": ["u1"],
         "order.responses.status": ["submitted"]},
    ],
    ids=["nested", "older", "flat"],
)  # fmt: skip
def test_argilla_rankings_in_three_shapes(tmp_path: Path, record: dict[str, Any]):
    (ranking,) = read_rankings(dump(tmp_path, record)).rows
    assert best(ranking) == ["Pear."]
    assert (ranking.prompt, ranking.labeler, ranking.criterion) == (user_prompt("Name a fruit."), "u1", "order")
    assert read_any(tmp_path / "export.json").kind == "ranking"
    assert read_prompts(tmp_path / "export.json").rows[0].prompt == ranking.prompt


def test_argilla_ratings_are_compared_within_a_person_and_a_question(tmp_path: Path):
    def rated(first: int, tenth: int) -> dict[str, Any]:
        return {"helpful_response_1": {"value": first}, "helpful_response_10": {"value": tenth}}

    record = {
        "fields": FIELDS,
        "responses": [
            {"user_id": "u1", "status": "submitted", "values": {**rated(2, 5), "safe-response_1": {"value": 1}}},
            {"user_id": "u2", "status": "submitted", "values": rated(3, 3)},
            {"user_id": "u3", "status": "discarded", "values": rated(5, 1)},
        ],
    }
    rows = read_rankings(dump(tmp_path, record))
    assert [(r.labeler, r.criterion, sorted(best(r))) for r in rows.rows] == [
        ("u1", "helpful", ["Pear."]),
        ("u2", "helpful", ["Carrot.", "Pear."]),
    ]
    assert rows.counts["dropped: rating of a single answer"] == 1
    assert rows.counts["dropped: answer discarded"] == 2


def test_argilla_faults(tmp_path: Path):
    lost = [{"value": "response_7", "rank": 1}, {"value": "response_1", "rank": 2}]
    with pytest.raises(DataError, match=r"ranks 'response_7'; the fields are `response_1`, `response_10`"):
        read_rankings(dump(tmp_path, {"fields": FIELDS, "responses": {"order": [{"user_id": "u", "value": lost}]}}))
    unknown = {"fields": {"x": "a", "response_1": "b"}, "responses": {"order": [{"user_id": "u", "value": ORDER}]}}
    with pytest.raises(DataError, match="none of the fields `x`, `response_1` is called like a prompt"):
        read_rankings(dump(tmp_path, unknown))
    with pytest.raises(DataError, match="record without a ranking or ratings: 1"):
        read_rankings(dump(tmp_path, {"fields": FIELDS, "responses": {}}))


def task(*annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"prompt": "Name a fruit.", **data}, "annotations": list(annotations)}


def picked(side: str, to_name: str = "t-1,t-2", **annotation: Any) -> dict[str, Any]:
    result = {"type": "pairwise", "from_name": "pw", "to_name": to_name, "value": {"selected": side}}
    return {"completed_by": {"id": 3, "email": "anna@example.org"}, "result": [result], **annotation}


def test_label_studio_pairs(tmp_path: Path):
    texts = {"answer_a": "Carrot.", "answer_b": "Pear."}
    empty = {"completed_by": 4, "result": []}
    rows = read_comparisons(
        dump(tmp_path, task(picked("right"), picked("left", was_cancelled=True), empty, **texts), task(**texts))
    )
    (row,) = rows.rows
    assert (row.chosen, row.rejected, row.labeler) == ("Pear.", "Carrot.", "anna@example.org")
    assert rows.counts["dropped: annotation cancelled"] == 1
    assert rows.counts["dropped: annotation without a result"] == 1
    assert rows.counts["dropped: task without annotations"] == 1


def test_label_studio_sides_by_name_beat_their_order(tmp_path: Path):
    (row,) = read_comparisons(
        dump(tmp_path, task(picked("left", "text2,text1"), text1="Carrot.", text2="Pear.", remark="x"))
    ).rows
    assert row.chosen == "Pear."
    with pytest.raises(DataError, match="exactly two can be compared"):
        read_comparisons(dump(tmp_path, task(picked("left"), a="x", b="y", c="z")))


def test_label_studio_rankings(tmp_path: Path):
    items = [{"id": "a", "body": "Carrot."}, {"id": 2, "body": "Pear."}, {"id": "c", "body": "Plum."}]

    def ranked(value: dict[str, Any]) -> dict[str, Any]:
        return {"completed_by": 5, "result": [{"type": "ranker", "value": {"ranker": value}}]}

    (row,) = read_rankings(dump(tmp_path, task(ranked({"rank": ["2", "c", "a"]}), items=items))).rows
    assert (row.responses, row.ranks, row.labeler) == (("Pear.", "Plum.", "Carrot."), (1, 2, 3), "5")
    with pytest.raises(DataError, match="groups `good`, `bad`"):
        read_rankings(dump(tmp_path, task(ranked({"good": ["2"], "bad": ["a"]}), items=items)))
    with pytest.raises(DataError, match="'zzz', which is no item"):
        read_rankings(dump(tmp_path, task(ranked({"rank": ["zzz", "a"]}), items=items)))
