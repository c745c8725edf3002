"""`plaudit quality` on a file and on a project."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import populate
from grouped import disagree_by_age
from labeling import claimed, ranked, start_batch, submitted
from plaudit.cli.app import app
from plaudit.core.files import write_jsonl
from plaudit.feedback.project import create_project, open_project
from plaudit.feedback.tasks.batches import BatchConfig


def plaudit(*arguments: str, code: int = 0) -> Result:
    result = CliRunner(env={"COLUMNS": "250"}).invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def rankings(tmp_path: Path) -> Path:
    """Twenty prompts, three labelers who agree on the best response; the third ties the others."""
    rows: list[dict[str, Any]] = [
        {"prompt": f"p{n}", "responses": [f"good {n}", f"fair {n}", f"bad {n}"], "ranks": ranks, "labeler": name}
        for n in range(20)
        for name, ranks in (("ann", [1, 2, 3]), ("bob", [1, 3, 2]), ("cy", [1, 2, 2]))
    ]
    write_jsonl(tmp_path / "rankings.jsonl", rows)
    return tmp_path / "rankings.jsonl"


def test_a_file_as_json_and_as_text(rankings: Path):
    data = json.loads(plaudit("quality", f"data={rankings}", "--json").stdout)
    (found,) = data["criteria"]
    assert found["counts"]["judgments"] == 60
    assert found["counts"]["pairs"] == 180
    # Strict by two: good-fair and good-bad by all three, fair-bad by ann and bob, who differ: 6 of 7.
    assert found["agreement"]["strict"]["value"] == pytest.approx(6 / 7)
    assert found["agreement"]["strict"]["n"] == 140
    assert found["agreement"]["tie_rate"]["value"] == pytest.approx(20 / 180)
    text = plaudit("quality", f"data={rankings}").stdout
    assert "85.7 %" in text
    assert "nobody recorded the order" in text
    assert "no bias" not in text.lower()


def test_a_reward_models_scores_are_probed(rankings: Path, tmp_path: Path):
    rows = [
        {"prompt": f"p{n}", "responses": [f"good {n}", f"fair {n}", f"bad {n}"], "scores": [3.0, 1.0, 2.0]}
        for n in range(20)
    ]
    write_jsonl(tmp_path / "scored.jsonl", rows)
    text = plaudit("quality", f"data={rankings}", f"reward={tmp_path / 'scored.jsonl'}").stdout
    assert "Reward model, and people on the same pairs" in text


def test_a_project_counts_people_only(tmp_path: Path):
    with closing(create_project(tmp_path / "p", "fruits").project) as project, project.database.write() as c:
        people = [populate.add_member(c, name) for name in ("Ann", "Bob")]
        machine = populate.add_member(c, "machine", kind="simulated")
        start_batch(c, tasks=12, config=BatchConfig(overlap=3))
        for number, member in enumerate([*people, machine]):
            for _ in range(12):
                assignment = claimed(c, member)
                submitted(c, member, assignment, ranked(assignment, reverse=number == 2))
    data = json.loads(plaudit("quality", f"project={tmp_path / 'p'}", "--json").stdout)
    (found,) = data["criteria"]
    assert found["counts"]["by_person"] == 24
    assert found["counts"]["labelers"] == 2
    assert found["agreement"]["strict"]["value"] == 1
    data = json.loads(plaudit("quality", f"project={tmp_path / 'p'}", "kind=simulated", "--json").stdout)
    assert data["criteria"][0]["counts"]["labelers"] == 1


def test_one_alone_hides_the_groups_that_would_give_them_away(tmp_path: Path):
    with closing(create_project(tmp_path / "p", "fruits").project) as project:
        disagree_by_age(project, lonely=True)
    out = plaudit("quality", f"project={tmp_path / 'p'}", "--json").stdout
    # The one is hidden, and with them the smaller of the others, or the rest of eight would be them. One group is left.
    assert json.loads(out)["criteria"][0]["bias"]["groups"] == []
    assert "old as the hills" not in out


def test_groups_that_are_large_enough_get_their_effect(tmp_path: Path):
    with closing(create_project(tmp_path / "p", "fruits").project) as project:
        disagree_by_age(project)
    (found,) = json.loads(plaudit("quality", f"project={tmp_path / 'p'}", "--json").stdout)["criteria"]
    (age,) = found["bias"]["groups"]
    assert [(one["option"], one["labelers"]) for one in age["groups"]] == [("40 or more", 4), ("under 40", 3)]
    # Always alike within a group, never between them.
    assert age["effect"]["effect"]["value"] == 1
    assert age["effect"]["p"] == pytest.approx(1 / 35, abs=0.02)  # of the 35 ways to choose three of seven
    assert not age["suppressed"]
    text = plaudit("quality", f"project={tmp_path / 'p'}").stdout
    assert "group: age: " in text
    assert "place" not in text


def test_without_questions_nothing_is_said_of_groups(tmp_path: Path):
    with closing(create_project(tmp_path / "p", "fruits").project) as project:
        disagree_by_age(project, asked=False)
    (found,) = json.loads(plaudit("quality", f"project={tmp_path / 'p'}", "--json").stdout)["criteria"]
    assert found["bias"]["groups"] == []


def test_what_cannot_be_measured_is_refused(tmp_path: Path):
    assert "either data=FILE or project=DIR" in plaudit("quality", code=2).stderr
    write_jsonl(tmp_path / "nobody.jsonl", [{"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]}])
    assert "has no labeler" in plaudit("quality", f"data={tmp_path / 'nobody.jsonl'}", code=2).stderr
    create_project(tmp_path / "empty", "empty").project.close()
    with closing(open_project(tmp_path / "empty")):
        pass
    assert "no judgments" in plaudit("quality", f"project={tmp_path / 'empty'}", code=2).stderr
