"""A filled project to look around in: simulated labelers with known faults, on answers sampled from our own models.

Everything goes through the services that a real project uses, with the clock moved, so that each page shows what it
would show after two weeks of work. Who is careless or biased stands in the pseudonyms: what the pages find out about
them can be compared with what they are. No person judged any of it, and no data set takes it unless its recipe names
simulated labelers.
"""

import json
import random
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection

from plaudit.core.files import read_jsonl
from plaudit.core.records import Prompt, user_prompt
from plaudit.core.seeding import derive
from plaudit.feedback.content.content import NewPrompt, NewResponse, add_many_responses, add_origin, add_prompts
from plaudit.feedback.data import lineage
from plaudit.feedback.data.recipe import Recipe
from plaudit.feedback.data.snapshots import create_snapshot
from plaudit.feedback.people import members
from plaudit.feedback.project import Project, create_project
from plaudit.feedback.simulation.demo_texts import FLAGS, GUIDELINES, NEXT_GUIDELINES, REASONS, explain
from plaudit.feedback.simulation.planted import Planted, planted_labelers
from plaudit.feedback.simulation.true_preference import true_preference
from plaudit.feedback.store import clock
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.answers import DemonstrationAnswer, RankingAnswer
from plaudit.feedback.tasks.batches import BatchConfig, Purpose, create_batch, set_status
from plaudit.feedback.tasks.expected import Expected
from plaudit.feedback.tasks.tasks import NewGold, NewTask, add_tasks
from plaudit.feedback.work.assignment import Assignment, claim
from plaudit.feedback.work.submissions import submit

NAME = "Everyday advice (demo)"
FINISHED, RUNNING, WRITING = "Advice, first week", "Advice, second week", "Ideal answers"
SNAPSHOT = "advice"
DAYS = 12
OVERLAP = 8
_SEED = 7
# How many of the questions each batch gets: those with an expected answer, and ordinary ones.
_TRAINING, _TEST, _FINISHED_GOLD, _RUNNING_GOLD, _FINISHED_TASKS = 3, 5, 8, 3, 30


class _Question(NamedTuple):
    """A prompt of the demo with ids and texts of its sampled responses, and of the ideal answer."""

    prompt_id: str
    prompt: Prompt
    responses: dict[str, str]
    ideal_id: str
    ideal: str


class _Worker(NamedTuple):
    member_id: str
    planted: Planted


def create_demo(folder: Path) -> Project:
    """Make the demo project in a new folder; takes a few seconds.

    Raises ConfigError if the folder holds a project already.
    """
    start = clock.now() - DAYS * clock.DAY
    with clock.at(start):
        project = create_project(folder, NAME).project
        with project.database.write() as c:
            workers = [
                _Worker(members.add_member(c, kind="simulated", pseudonym=one.name).id, one)
                for one in planted_labelers()
            ]
            _publish(c, GUIDELINES)
            questions = iter(_content(c))
            _gold_batch(c, "Training", "training", list(islice(questions, _TRAINING)))
            _gold_batch(c, "Qualification", "qualification", list(islice(questions, _TEST)))
            gold = list(islice(questions, _FINISHED_GOLD))
            first = _ranking_batch(c, FINISHED, gold, list(islice(questions, _FINISHED_TASKS)), OVERLAP)
    _work_through(project, workers, first, start + clock.DAY, days=6)
    with clock.at(start + 8 * clock.DAY), project.database.write() as c:
        set_status(c, first, "closed", by=None)
        _publish(c, NEXT_GUIDELINES)
        gold, rest = list(islice(questions, _RUNNING_GOLD)), list(questions)
        second = _ranking_batch(c, RUNNING, gold, rest, 3)
        writing = _writing_batch(c, rest)
    # What is left open is for whoever looks around.
    _work_through(project, workers[:3], second, start + 9 * clock.DAY, days=2, most=6)
    _write_answers(project, workers[:2], writing, rest, start + 9 * clock.DAY)
    with clock.at(start + 10 * clock.DAY):
        recipe = {"name": SNAPSHOT, "batches": [FINISHED], "labelers": ["simulated"], "aggregate": "soft"}
        made = create_snapshot(project.database, folder, Recipe.model_validate(recipe), by=None)
        with project.database.write() as c:
            lineage.record_use(c, made.id, "runs/example-reward", "reward")
    return project


# --- what is judged -------------------------------------------------------------------------------------------------


def _publish(c: Connection, body: str) -> None:
    guidelines.save_draft(c, body, FLAGS, by=None)
    guidelines.publish(c, by=None)


def _content(c: Connection) -> list[_Question]:
    """Prompts, sampled responses and ideal answers with their origins, in an order of their own."""
    data = Path(str(files("plaudit.feedback.simulation"))) / "demo_data"
    rows = list(read_jsonl(data / "answers.jsonl"))
    ideals = {
        row["prompt"]: row["response"]
        for row in read_jsonl(Path(str(files("plaudit.quickstart"))) / "demonstrations.jsonl")
    }
    written = add_origin(c, "import", "ideal answers of the quickstart", {"licence": "Apache-2.0"})
    models = _models(c, data)
    random.Random(_SEED).shuffle(rows)
    prompts = add_prompts(c, (NewPrompt(user_prompt(row["prompt"]), written) for row in rows)).ids
    questions: list[_Question] = []
    for row, prompt_id in zip(rows, prompts, strict=True):
        sampled = [
            NewResponse(
                prompt_id, one["text"], models[one["model"]], {"tokens": one["tokens"], "finished": one["finished"]}
            )
            for one in row["responses"]
        ]
        ideal = ideals[row["prompt"]]
        *ids, ideal_id = add_many_responses(c, [*sampled, NewResponse(prompt_id, ideal, written)]).ids
        texts = {response_id: one.body for response_id, one in zip(ids, sampled, strict=True)}
        questions.append(_Question(prompt_id, user_prompt(row["prompt"]), texts, ideal_id, ideal))
    return questions


def _models(c: Connection, data: Path) -> dict[str, str]:
    """The origins of the sampled answers: which run, which weights, how they were drawn."""
    told: Mapping[str, Mapping[str, Any]] = json.loads((data / "models.json").read_text(encoding="utf-8"))
    return {name: add_origin(c, "model", info["run"], info) for name, info in told.items()}


def _gold_batch(c: Connection, name: str, purpose: Purpose, questions: Sequence[_Question]) -> None:
    """Training with explained answers, or the qualification test, open to whoever joins."""
    batch_id = create_batch(c, name, "ranking", purpose, _config(), by=None)
    add_tasks(c, batch_id, [_gold_task(one) for one in questions])
    set_status(c, batch_id, "running", by=None)


def _ranking_batch(
    c: Connection, name: str, gold: Sequence[_Question], ordinary: Sequence[_Question], overlap: int
) -> str:
    batch_id = create_batch(c, name, "ranking", "work", _config(overlap=overlap), by=None)
    add_tasks(c, batch_id, [NewTask(one.prompt_id, tuple(one.responses)) for one in ordinary])
    add_tasks(c, batch_id, [_gold_task(one) for one in gold])
    set_status(c, batch_id, "running", by=None)
    return batch_id


def _writing_batch(c: Connection, questions: Sequence[_Question]) -> str:
    batch_id = create_batch(c, WRITING, "demonstration", "work", _config(), by=None)
    add_tasks(c, batch_id, [NewTask(one.prompt_id) for one in questions])
    set_status(c, batch_id, "running", by=None)
    return batch_id


def _gold_task(question: _Question) -> NewTask:
    """The ideal answer among three sampled ones: that it is better than the two worst of them is clear."""
    worst = sorted(question.responses, key=lambda name: true_preference(question.prompt, question.responses[name]))
    constraints = [{"better": question.ideal_id, "worse": name} for name in worst[:2]]
    gold = NewGold(Expected.model_validate({"constraints": constraints}), explain(question.ideal))
    return NewTask(question.prompt_id, (question.ideal_id, *worst[:3]), gold=gold)


def _config(**settings: Any) -> BatchConfig:
    return BatchConfig.model_validate({"gold_rate": 0.25, "gold_rate_start": 0.25, **settings})


# --- work -----------------------------------------------------------------------------------------------------------


def _work_through(
    project: Project, workers: Sequence[_Worker], batch_id: str, start: int, *, days: int, most: int | None = None
) -> None:
    """Everybody works an hour a day, until nothing is left or each has done `most` tasks."""
    per_day = -(-(most or 60) // days)
    left = {worker.member_id: most if most is not None else 10_000 for worker in workers}
    for day in range(days):
        order = random.Random(derive(_SEED, "day", day)).sample(list(workers), len(workers))
        times = {
            worker.member_id: start + day * clock.DAY + place * 7 * clock.MINUTE for place, worker in enumerate(order)
        }
        for _ in range(per_day):
            # One transaction a round: a commit for each judgment would take most of the time.
            with project.database.write() as c:
                for worker in order:
                    if left[worker.member_id] == 0:
                        continue
                    done = _judge_next(c, project, worker, batch_id, times[worker.member_id])
                    left[worker.member_id] = 0 if done is None else left[worker.member_id] - 1
                    times[worker.member_id] = done or times[worker.member_id]


def _judge_next(c: Connection, project: Project, worker: _Worker, batch_id: str, at: int) -> int | None:
    """Claim a task and rank it as this labeler does. The time when that is done; None if there is no task left."""
    secret = project.secrets.key("tasks")
    with clock.at(at):
        task = claim(c, worker.member_id, secret=secret, batch_id=batch_id)
    if task is None:
        return None
    generator = random.Random(derive(_SEED, worker.planted.name, *sorted(one.body for one in task.responses)))
    words = sum(len(one.body.split()) for one in task.responses)
    active = int(1000 * words / worker.planted.words_a_second * generator.uniform(0.6, 1.6))
    with clock.at(at + active):
        submit(
            c,
            worker.member_id,
            task.id,
            _ranking(task, worker.planted, generator),
            idempotency_key=task.idempotency_key,
            lease_no=task.lease_no,
            active_ms=active,
        )
    return at + active + 2_000


def _ranking(task: Assignment, planted: Planted, generator: random.Random) -> RankingAnswer:
    bodies = [one.body for one in task.responses]
    ranks = planted.labeler.rank(task.prompt, bodies, _SEED)
    careful = planted.fault == "none"
    worth = [true_preference(task.prompt, body) for body in bodies]
    flags = {
        one.id: ["beside_the_point"]
        for one, value in zip(task.responses, worth, strict=True)
        if careful and value < 1.0 and generator.random() < 0.6
    }
    return RankingAnswer(
        tiers={one.id: rank for one, rank in zip(task.responses, ranks, strict=True)},
        flags=flags,
        reason=generator.choice(REASONS) if careful and generator.random() < 0.3 else "",
        confidence=generator.choice((3, 4, 4, 5)) if careful else generator.choice((2, 3, 4, 5)),
    )


def _write_answers(
    project: Project, workers: Sequence[_Worker], batch_id: str, questions: Sequence[_Question], start: int
) -> None:
    """A few ideal answers; the rest is left to write."""
    ideals = {one.prompt: one.ideal for one in questions}
    for place, worker in enumerate([*workers, *workers]):
        with clock.at(start + place * 11 * clock.MINUTE), project.database.write() as c:
            task = claim(c, worker.member_id, secret=project.secrets.key("tasks"), batch_id=batch_id)
            if task is not None:
                submit(
                    c,
                    worker.member_id,
                    task.id,
                    DemonstrationAnswer(ideals[task.prompt], confidence=4),
                    idempotency_key=task.idempotency_key,
                    lease_no=task.lease_no,
                    active_ms=90_000 + 1000 * place,
                )
