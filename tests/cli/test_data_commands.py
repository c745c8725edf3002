"""Commands about a project's data, as a user gives them: the whole way from a file to a model and back."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from sqlalchemy import select, update
from typer.testing import CliRunner

from plaudit.cli.app import app
from plaudit.core.config import Config
from plaudit.core.files import read_jsonl, write_jsonl
from plaudit.core.run import Run
from plaudit.datasets.read import read_comparisons, read_rankings
from plaudit.feedback.project import Project, create_project
from plaudit.feedback.store import tables
from plaudit.feedback.tasks import guidelines

RANKINGS = [
    {"prompt": f"Say {n}.", "responses": ["one", "two", "three"], "ranks": ranks, "labeler": who}
    for n in range(4)
    for who, ranks in (("ada", [1, 2, 3]), ("ben", [1, 3, 2]))
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project `p` in the current folder, with guidelines, whose prompts are all for training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("plaudit.feedback.content.content.split_of", lambda _key: "train")
    project = create_project(Path("p"), "Test").project
    with project.database.write() as c:
        guidelines.save_draft(c, "Be kind.", [], by=None)
        guidelines.publish(c, by=None)
    return project


def plaudit(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout) if result.stdout else result.stderr


@pytest.mark.usefixtures("project")
def test_rankings_go_in_and_come_out_as_training_data() -> None:
    write_jsonl(Path("rankings.jsonl"), RANKINGS)
    tried = plaudit("import", "rankings", "rankings.jsonl", "--dry-run", "project=p")
    assert (tried["dry_run"], tried["judgments"], tried["labelers"]) == (True, 8, 2)
    assert "was imported before" not in str(plaudit("import", "rankings", "rankings.jsonl", "project=p"))
    assert "was imported before" in plaudit("import", "rankings", "rankings.jsonl", "project=p", code=2)

    looked = plaudit("snapshot", "people", "preview=true", "project=p")
    assert (looked["rows"], looked["labelers"]) == (8, 2)
    made = plaudit("snapshot", "people", "kind=comparisons", "aggregate=majority", "project=p")
    assert made["file"] == "p/snapshots/people-v1.jsonl"
    assert len(read_comparisons(made["file"]).rows) == made["rows"] == 12

    assert plaudit("export", "argilla", "out.jsonl", "project=p")["rows"] == 4
    assert len(read_rankings("out.jsonl").rows) == 8
    assert "out.jsonl exists" in plaudit("export", "argilla", "out.jsonl", "project=p", code=2)
    assert "no batch named other" in plaudit("export", "trl", "b.jsonl", "batches=[other]", "project=p", code=2)
    told = plaudit("lineage", "project=p")
    assert [(one["snapshot"], one["fault"], one["uses"]) for one in told["snapshots"]] == [("people v1", None, [])]


def test_faults_are_findings_with_their_lines(project: Project) -> None:
    Path("bad.jsonl").write_text('{"prompt": "Good."}\n{"text": "No prompt."}\n')
    found = plaudit("import", "prompts", "bad.jsonl", "--dry-run", "project=p", code=1)
    assert [(one["line"], "no field `prompt`" in one["message"]) for one in found["problems"]] == [(2, True)]
    assert "so nothing was" in plaudit("import", "prompts", "bad.jsonl", "project=p", code=2)
    with project.database.read() as c:
        assert c.execute(select(tables.prompt)).first() is None
    row = RANKINGS[0] | {"submitted": "yesterday"}
    write_jsonl(Path("late.jsonl"), [row])
    found = plaudit("import", "rankings", "late.jsonl", "--dry-run", "project=p", code=1)
    assert "`submitted` is 'yesterday'" in found["problems"][0]["message"]


def test_a_folder_that_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "is missing" in plaudit("lineage", code=2)


class Settings(Config):
    run: Path = Field(description="Run.")


def ppo_run(folder: Path, samples: list[dict[str, Any]]) -> Path:
    with Run.open(folder, stage="ppo", config=Settings(run=folder), inputs={"policy": "0" * 64}) as run:
        for sample in samples:
            run.sample(**sample)
        run.finish({})
    return folder


def sample(prompt: int, step: int, reward: float, judge: float | None, spread: float | None) -> dict[str, Any]:
    return {
        "step": step,
        "kind": "held out",
        "prompt": [{"role": "user", "content": f"Prompt {prompt}?"}],
        "response": f"Answer {prompt} at {step}.",
        "reward": reward,
        "judge": judge,
        "spread": spread,
    }


def test_suspicious_and_uncertain_samples_come_back_as_tasks(project: Project) -> None:
    samples = [sample(n, step, 1.0 * n * step, 0.5, 0.1 * (9 - n)) for step in (0, 1) for n in range(10)]
    ppo_run(Path("ppo"), samples)
    gaming = plaudit("tasks", "gaming", "run=ppo", "by=suspicion", "count=4", "random_share=0.25", "project=p")
    assert (gaming["tasks"], gaming["prompts"], gaming["started"]) == (4, 10, False)
    with project.database.read() as c:
        rows = c.execute(
            select(tables.prompt.c.messages, tables.task.c.selection).join(
                tables.prompt, tables.prompt.c.id == tables.task.c.prompt_id
            )
        ).all()
        by_score = {row.messages[0]["content"] for row in rows if not row.selection["random"]}
        assert by_score == {"Prompt 9?", "Prompt 8?", "Prompt 7?"}, "the reward rose there, and the judge did not"
        assert {row.selection["policy"] for row in rows} == {"suspicion"}
        assert all(0 < row.selection["probability"] <= 1 for row in rows)
        detail = c.execute(
            select(tables.response.c.details).where(tables.response.c.body == "Answer 9 at 1.")
        ).scalar_one()
        assert detail["reward"] == 9.0
    unsure = plaudit("tasks", "unsure", "run=ppo", "count=1", "random_share=1", "project=p")
    assert unsure["tasks"] == 1
    ppo_run(Path("blind"), [sample(0, 0, 1.0, None, None)])
    for by in ("suspicion", "uncertainty"):
        assert "so nothing in it can be told by" in plaudit("tasks", "x", "run=blind", f"by={by}", "project=p", code=2)


def test_an_ensembles_uncertainty_comes_back_as_tasks(project: Project) -> None:
    folder = ppo_run(Path("reward"), [])
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Prompt {n}?"}],
            "responses": ["a", "b"],
            "scores": [0.0, 0.0],
            "members": [[n, 0.0], [-n, 0.0]],
        }
        for n in range(5)
    ]
    write_jsonl(folder / "held_out_scores.jsonl", rows)
    plaudit("tasks", "unsure", "run=reward", "count=2", "random_share=0.5", "project=p")
    with project.database.read() as c:
        selections = list(c.execute(select(tables.task.c.selection)).scalars())
    top = [one for one in selections if not one["random"]]
    assert len(top) == 1
    assert top[0]["score"] == max(one["score"] for one in selections)
    del rows[0]["members"]
    write_jsonl(folder / "held_out_scores.jsonl", rows[:1])
    assert "scores of one reward model" in plaudit("tasks", "more", "run=reward", "project=p", code=2)


def test_a_file_of_scores_says_what_to_label_next(project: Project) -> None:
    write_jsonl(Path("answers.jsonl"), [{"prompt": f"Prompt {n}?", "responses": ["a", "b"]} for n in range(40)])
    plaudit("import", "responses", "answers.jsonl", "project=p")
    scored = [{"prompt": f"Prompt {n}?", "members": [[n, 0.0], [-n, 0.0]]} for n in range(40)]
    write_jsonl(Path("scored.jsonl"), scored)
    made = plaudit("tasks", "unsure", "scores=scored.jsonl", "count=4", "random_share=0.5", "start=true", "project=p")
    assert (made["prompts"], made["at_random"], made["started"]) == (4, 2, True)
    with project.database.read() as c:
        selections = list(c.execute(select(tables.task.c.selection)).scalars())
    assert sum(one["random"] for one in selections) == 2
    write_jsonl(Path("scored.jsonl"), [*scored, {"prompt": "Prompt 3?"}])
    refused = plaudit("tasks", "more", "scores=scored.jsonl", "project=p", code=2)
    assert "scored.jsonl:41: the row has neither" in refused
    assert "Give either run=DIR or scores=FILE" in plaudit("tasks", "more", "project=p", code=2)


def test_answers_of_a_model_become_a_batch_with_provenance(project: Project, tiny_policy_folder: Path) -> None:
    write_jsonl(Path("prompts.jsonl"), [{"prompt": f"Say {fruit}."} for fruit in ("apple", "fig")])
    settings = ["n=3", "max_new_tokens=4", "precision=float32", "project=p", f"model={tiny_policy_folder}"]
    made = plaudit("sample", "First answers", "prompts=prompts.jsonl", "start=true", "overlap=2", *settings)
    assert (made["tasks"], made["started"], made["run"]) == (2, True, "p/samples/first-answers")
    with project.database.read() as c:
        origin = c.execute(select(tables.origin).where(tables.origin.c.kind == "model")).one()
        assert origin.info["sampling"]["max_new_tokens"] == 4
        assert len(origin.info["model_sha256"]) == 64
        assert c.execute(select(tables.batch.c.status)).scalar_one() == "running"
        sampled = {row.body for row in c.execute(select(tables.response))}
    written = {text for row in read_jsonl(Path(made["run"]) / "answers.jsonl") for text in row["responses"]}
    assert sampled == {text for text in written if text.strip()}
    # Again, on the prompts that the project now has.
    with project.database.write() as c:
        c.execute(update(tables.batch).values(status="closed"))
    again = plaudit("sample", "Second answers", "seed=1", *settings)
    assert again["prompts"] == 2
    assert "There is a batch named Second answers" in plaudit("sample", "Second answers", *settings, code=2)
