"""Active selection from a file: faults by line, what cannot be chosen by cause, and the choice on record."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import populate
from labeling import start_batch
from plaudit.core.errors import DataError
from plaudit.core.files import write_jsonl
from plaudit.core.records import user_prompt
from plaudit.feedback import audit_log
from plaudit.feedback.content.content import NewPrompt, add_prompts, add_responses
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import task
from plaudit.feedback.tasks.batches import BatchConfig, create_batch
from plaudit.feedback.tasks.score_files import ACTION, add_chosen, check_scores, chosen_parts, last_choice
from plaudit.feedback.tasks.selection import SelectionConfig, ensemble_spread


def scores(folder: Path, rows: list[Any]) -> Path:
    write_jsonl(folder / "scores.jsonl", rows)
    return folder / "scores.jsonl"


def test_faults_are_told_by_line(tmp_path: Path):
    checked = check_scores(
        scores(
            tmp_path,
            [
                {"prompt": "a", "score": 1},
                {"prompt": "b"},
                {"prompt": "c", "score": "much"},
                {"score": 2.0},
                {"prompt": "a", "score": 3},
                {"prompt": "d", "members": [[1.0, 2.0]]},
                {"prompt": "e", "members": [[1.0, 2.0], [1.0]]},
                {"prompt": "f", "members": [[1.0, "x"], [1.0, 2.0]]},
                {"prompt": "g", "members": 3},
                {"prompt": "h", "score": True},
                {"prompt": "i", "score": None},
                {"prompt": "j", "members": [[1.0, None], [1.0, 2.0]]},
            ],
        )
    )
    told = dict(checked.problems)
    assert list(told) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert "neither `score` nor `members`" in told[2]
    assert "write a number" in told[3]
    assert "prompt" in told[4]
    assert told[5] == "line 1 scores the same prompt; give each prompt one score"
    assert checked.left_out == {"without a score": 2}
    assert (checked.faulty, len(checked.rows)) == (9, 1)


def test_the_members_of_an_ensemble_are_their_spread(tmp_path: Path):
    members = [[0.0, 1.0, 3.0], [1.0, 0.0, 3.0]]
    checked = check_scores(scores(tmp_path, [{"prompt": "a", "members": members}]))
    assert checked.rows[0].record.score == pytest.approx(ensemble_spread(members))


def test_the_choice_its_share_at_random_and_its_probabilities_are_on_record(database: Database, tmp_path: Path):
    with database.write() as c:
        start_batch(c, tasks=1, name="Before")  # asks "Before: question 0?"
        origin = populate.add_origin(c)
        texts = [f"New {number}?" for number in range(10)]
        for prompt_id in add_prompts(c, [NewPrompt(user_prompt(text), origin, split="train") for text in texts]).ids:
            add_responses(c, prompt_id, ["Yes.", "No."], origin)
        add_prompts(c, [NewPrompt(user_prompt("Nobody answered?"), origin, split="train")])
        rows = [{"prompt": text, "score": number} for number, text in enumerate(texts)]
        rows += [{"prompt": "Nobody answered?", "score": 99}, {"prompt": "Never seen?", "score": 99}]
        rows += [{"prompt": "Nothing known?", "score": None}]
        batch_id = create_batch(c, "Next", "ranking", "work", BatchConfig(), by=None)
        checked = check_scores(scores(tmp_path, rows))
        config = SelectionConfig(count=4, random_share=0.5, policy="uncertainty", seed=3)
        choice = add_chosen(c, batch_id, checked, config, by=None)
        assert (choice.prompts, choice.at_random, choice.candidates, choice.tasks) == (4, 2, 10, 4)
        assert choice.left_out == {
            "with fewer than two different answers": 1,
            "not in this project": 1,
            "without a score": 1,
        }
        assert last_choice(c, batch_id) == choice
        event = next(one for one in audit_log.events(c) if one.action == ACTION)
        assert (event.detail["seed"], event.detail["file_sha256"]) == (3, checked.sha256)
        kept = list(c.execute(select(task.c.selection).where(task.c.batch_id == batch_id)).scalars())
        assert sorted(one["score"] for one in kept if not one["random"]) == [8.0, 9.0]
        assert {one["probability"] for one in kept if one["random"]} == {2 / 8}
        by_lot, by_score = sorted(chosen_parts(c, batch_id), key=lambda one: not one.at_random)
        assert (by_lot.tasks, by_lot.least_likely, by_score.tasks, by_score.least_likely) == (2, 0.25, 2, 1.0)
        assert audit_log.verify(c).fault is None
        # Asked about now, so a second choice takes others.
        again = add_chosen(c, batch_id, checked, config, by=None)
        assert (again.candidates, again.left_out["asked about already"]) == (6, 4)


def test_what_cannot_be_chosen_from_is_refused(database: Database, tmp_path: Path):
    with database.write() as c:
        work = start_batch(c, tasks=1)
        gold = start_batch(c, tasks=0, gold=1, name="Gold", purpose="training")
        unknown = check_scores(scores(tmp_path, [{"prompt": "Never seen?", "score": 1}]))
        with pytest.raises(FeedbackError, match="1 not in this project"):
            add_chosen(c, work.batch_id, unknown, SelectionConfig(count=1), by=None)
        with pytest.raises(FeedbackError, match="gold questions"):
            add_chosen(c, gold.batch_id, unknown, SelectionConfig(count=1), by=None)
        faulty = check_scores(scores(tmp_path, [{"prompt": "x"}]))
        with pytest.raises(DataError, match=r"scores\.jsonl:1: the row has neither"):
            add_chosen(c, work.batch_id, faulty, SelectionConfig(count=1), by=None)
