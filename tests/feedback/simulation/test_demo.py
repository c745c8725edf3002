"""The demo project: real data through the real services, and the planted faults are found in it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from plaudit.datasets.read import read_rankings
from plaudit.feedback import audit_log
from plaudit.feedback.bias.report import audit
from plaudit.feedback.data.judgments import load_judgments
from plaudit.feedback.data.lineage import uses_of, uses_of_member
from plaudit.feedback.data.snapshots import find_fault, snapshot_of
from plaudit.feedback.gold.gold_accuracy import gold_accuracy
from plaudit.feedback.project import Project
from plaudit.feedback.quality.outcomes import outcomes
from plaudit.feedback.quality.records import Judgment
from plaudit.feedback.quality.reliability import LabelerReliability, reliability
from plaudit.feedback.simulation.demo import FINISHED, RUNNING, SNAPSHOT, WRITING, create_demo
from plaudit.feedback.store import clock, tables
from plaudit.feedback.tasks.batches import list_batches, progress


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = create_demo(tmp_path_factory.mktemp("demo") / "demo")
    yield project
    project.close()


@pytest.fixture(scope="module")
def judged(demo: Project) -> list[Judgment]:
    with demo.database.read() as c:
        return load_judgments(c, kinds=("simulated",))


def test_there_is_something_on_every_page(demo: Project) -> None:
    with demo.database.read() as c:
        found = {batch.name: (batch.status, progress(c, batch.id)) for batch in list_batches(c)}
        status, done = found[FINISHED]
        assert (status, done.complete) == ("closed", done.tasks)
        assert found[RUNNING][0] == "running"
        assert found[RUNNING][1].complete < found[RUNNING][1].tasks, "some work is left for whoever looks around"
        assert 0 < found[WRITING][1].done < found[WRITING][1].asked
        assert found["Training"][0] == found["Qualification"][0] == "running"
        assert c.scalar(select(func.count()).select_from(tables.task).where(tables.task.c.agreement < 0.5))
        assert c.scalar(select(func.count()).select_from(tables.flag_entry))
        assert c.scalar(select(func.count()).select_from(tables.guideline)) == 2
        assert audit_log.verify(c).fault is None


def test_the_snapshot_is_training_data_and_was_used(demo: Project) -> None:
    with demo.database.read() as c:
        made = snapshot_of(c, SNAPSHOT)
        assert [use.stage for use in uses_of(c, made.id)] == ["reward"]
    assert find_fault(made, demo.folder) is None
    assert len(read_rankings(made.path(demo.folder)).rows) == made.rows
    # The inverted labeler weighs nothing; the one who ranks at random next to nothing, or nothing, as chance has it.
    assert made.manifest["labelers"]["simulated"] in (6, 7)
    with demo.database.read() as c:
        inverted = c.execute(select(tables.member.c.id).where(tables.member.c.pseudonym == "inverted")).scalar_one()
        assert uses_of_member(c, inverted) == []


def test_times_are_in_the_past_and_speeds_differ(judged: list[Judgment]) -> None:
    assert all(one.at is not None and one.at <= clock.now() for one in judged)
    speed = {
        name: float(np.median([one.seconds or 0.0 for one in judged if one.labeler == name]))
        for name in ("random", "lazy", "careful-1")
    }
    assert max(speed["random"], speed["lazy"]) < speed["careful-1"] / 3


def test_planted_labelers_are_recovered(demo: Project, judged: list[Judgment]) -> None:
    ordinary = [one for one in judged if one.gold is None]
    found = {one.labeler: one for one in reliability(ordinary, outcomes(ordinary)).labelers}

    def accuracy(one: LabelerReliability) -> float:
        return one.accuracy

    assert min(found.values(), key=accuracy).labeler == "inverted"
    assert found["inverted"].weight == 0.0
    assert (
        found["random"].accuracy < 0.65 < min(found[name].accuracy for name in ("careful-1", "careful-2", "careful-3"))
    )
    assert all(set(one.ranks) == {1} for one in judged if one.labeler == "lazy")
    with demo.database.read() as c:
        gold = {one.pseudonym: one.mean for one in gold_accuracy(c)}
    assert max(gold["inverted"], gold["lazy"]) < 0.5 < min(gold[f"careful-{number}"] for number in (1, 2, 3))


def test_planted_tastes_are_found_by_the_bias_audit_and_nobody_else_is_accused_of_them(judged: list[Judgment]) -> None:
    ordinary = [one for one in judged if one.gold is None]
    adjusted = {
        (str(one.labeler), one.probe): one.adjusted
        for one in audit(ordinary, outcomes(ordinary)).effects
        if one.labeler is not None and one.adjusted is not None
    }
    assert max(adjusted["first", "position"], adjusted["long", "length"]) < 0.05
    # At 0.05 one demo in twenty would accuse somebody by chance.
    assert min(p for (labeler, _), p in adjusted.items() if labeler.startswith("careful")) > 0.001


def test_the_content_is_in_the_package_and_small() -> None:
    folder = Path(create_demo.__code__.co_filename).parent / "demo_data"
    assert {path.name for path in folder.iterdir()} == {"answers.jsonl", "models.json"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000
