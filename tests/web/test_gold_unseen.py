"""Nothing that a labeler can see tells a gold question from an ordinary task."""

import json
import re

from sites import Site
from sqlalchemy import select

import labeling
from plaudit.feedback.store.tables import assignment, gold_key
from plaudit.feedback.tasks.batches import BatchConfig

CONFIG = BatchConfig(gold_rate=0.25, gold_rate_start=0.25)


def skeleton(html: str) -> str:
    """A page without what differs between any two tasks: keys, numbers, times, texts of prompt and responses."""
    html = re.sub(r"[0-9a-f]{32}", "ID", html)
    html = re.sub(r"<time.*?</time>", "TIME", html)
    return re.sub(r"(Mixed: (question|answer))[^<]*|\d+", "N", html)


def shape(value: object) -> object:
    """The keys and types of a JSON value."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items())}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


def test_pages_and_answers_of_gold_tasks_are_like_all_others(site: Site):
    with site.project.database.write() as c:
        batch = labeling.start_batch(c, tasks=12, gold=6, config=CONFIG, name="Mixed").batch_id
    client = site.client("labeler")
    pages: dict[str, set[str]] = {}
    shapes: dict[str, set[str]] = {}
    replies: dict[str, set[str]] = {}
    while (answer := client.post("/api/v1/claims", json={"batch_id": batch})).status_code == 200:
        task = answer.json()
        html = client.get(f"/work/{task['id']}").text
        tiers = {response["id"]: place for place, response in enumerate(task["responses"], start=1)}
        sent = {"lease_no": task["lease_no"], "answer": {"tiers": tiers}}
        key = {"Idempotency-Key": task["idempotency_key"]}
        reply = client.post(f"/api/v1/assignments/{task['id']}/submit", json=sent, headers=key)
        pages[task["id"]] = {skeleton(html)}
        shapes[task["id"]] = {json.dumps(shape(task)), *answer.headers}
        replies[task["id"]] = {json.dumps(shape(reply.json())), *reply.headers}
        assert client.get(f"/training/{task['id']}").status_code == 404
    with site.project.database.read() as c:
        gold = set(c.scalars(select(assignment.c.id).join(gold_key, gold_key.c.task_id == assignment.c.task_id)))
    assert gold & pages.keys(), "no gold question came up"
    assert pages.keys() - gold, "no ordinary task came up"
    for seen in (pages, shapes, replies):
        of_gold = {what for name in gold & seen.keys() for what in seen[name]}
        of_others = {what for name in seen.keys() - gold for what in seen[name]}
        assert of_gold == of_others
    everything = " ".join(client.get(path).text for path in ("/", "/history", "/profile/data", "/api/v1/history"))
    assert "gold" not in everything.lower().replace("golden", "")
    assert "Look closer." not in everything
