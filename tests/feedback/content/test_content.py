import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from plaudit.core.errors import DataError
from plaudit.core.records import Message, user_prompt
from plaudit.feedback.content.content import (
    NewPrompt,
    NewResponse,
    add_many_responses,
    add_origin,
    add_prompts,
    add_responses,
    prompt_sha256,
    read_prompt,
    split_of,
)
from plaudit.feedback.store import tables
from plaudit.feedback.store.database import Database

TALK = (Message("system", "Be brief."), Message("user", "Name a fruit. 🍏 \u202e"), Message("assistant", ""))


def test_the_same_text_is_stored_once_with_its_first_origin(database: Database):
    with database.write() as connection:
        first = add_origin(connection, "import", "a.jsonl", {"sha256": "1", "licence": "MIT"})
        again = add_origin(connection, "import", "a.jsonl", {"licence": "MIT", "sha256": "1"})
        other = add_origin(connection, "import", "a.jsonl", {"sha256": "2"})
        assert first == again != other
        added = add_prompts(connection, [NewPrompt(TALK, first, tags=("fruit",)), NewPrompt(user_prompt("x"), first)])
        assert (added.new, added.known) == (2, 0)
        twice = add_prompts(connection, [NewPrompt(user_prompt("x"), other), NewPrompt(user_prompt("y"), other)] * 2)
        assert (twice.new, twice.known) == (1, 3)
        assert twice.ids[0] == twice.ids[2] == added.ids[1]
        row = connection.execute(select(tables.prompt).where(tables.prompt.c.id == added.ids[0])).one()
        assert (read_prompt(row), row.tags, row.origin_id) == (TALK, ["fruit"], first)
        stored = connection.execute(select(tables.prompt.c.origin_id).where(tables.prompt.c.id == added.ids[1]))
        assert stored.scalar() == first


def test_responses_are_told_apart_by_prompt_and_origin(database: Database):
    with database.write() as connection:
        models = [add_origin(connection, "model", name, {}) for name in "ab"]
        prompts = add_prompts(connection, [NewPrompt(user_prompt(text), models[0]) for text in "xy"]).ids
        ids = add_responses(connection, prompts[0], ["1", "2", "1"], models[0], [{"seed": n} for n in range(3)])
        assert ids[0] == ids[2] != ids[1]
        assert add_responses(connection, prompts[0], ["2"], models[0]) == [ids[1]]
        more = [NewResponse(prompt, "1", model) for prompt in prompts for model in models]
        added = add_many_responses(connection, more)
        assert (added.new, added.known, added.ids[0]) == (3, 1, ids[0])
        seed = select(tables.response.c.details).where(tables.response.c.id == ids[0])
        assert connection.execute(seed).scalar() == {"seed": 0}


@pytest.mark.parametrize("text", ["", "x" * (tables.MAX_CHARS + 1), "nul \0", "half \ud800"])
def test_texts_no_database_can_keep_are_refused_by_both(database: Database, text: str):
    with database.write() as connection:
        origin = add_origin(connection, "import", "f", {})
        (prompt,) = add_prompts(connection, [NewPrompt(user_prompt("x"), origin)]).ids
        with pytest.raises(DataError):
            add_responses(connection, prompt, [text], origin)
        with pytest.raises(DataError):
            add_prompts(connection, [NewPrompt(user_prompt(text), origin)])
        with pytest.raises(DataError):
            add_prompts(connection, [NewPrompt((), origin)])


def test_a_split_is_decided_by_the_text_alone(sqlite_database: Database):
    splits = [split_of(prompt_sha256(user_prompt(f"Question {n}"))) for n in range(20_000)]
    for split in ("test", "validation"):
        assert splits.count(split) / len(splits) == pytest.approx(0.05, abs=0.006)  # four standard errors
    with sqlite_database.write() as connection:
        origin = add_origin(connection, "import", "f", {})
        prompts = [NewPrompt(user_prompt(f"Question {n}"), origin) for n in range(200)]
        add_prompts(connection, [*prompts, NewPrompt(user_prompt("mine"), origin, split="test")])
        rows = connection.execute(select(tables.prompt.c.sha256, tables.prompt.c.split)).all()
        asked = prompt_sha256(user_prompt("mine"))
        assert all(split == ("test" if key == asked else split_of(key)) for key, split in rows)


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1), st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_only_the_same_conversation_has_the_same_key(one: list[tuple[str, str]], two: list[tuple[str, str]]):
    keys = [prompt_sha256(tuple(Message(*turn) for turn in turns)) for turns in (one, two)]
    assert (keys[0] == keys[1]) == (one == two)


def test_many_prompts_are_stored_quickly(database: Database):
    """100,000 in well under a minute of this machine, so 10,000 in a tenth of that; measured as processor time."""
    with database.write() as connection:
        origin = add_origin(connection, "import", "f", {})
        start = time.process_time()
        added = add_prompts(connection, (NewPrompt(user_prompt(f"Question {n}? " * 20), origin) for n in range(10_000)))
        assert time.process_time() - start < 5
        assert (added.new, added.known) == (10_000, 0)
        assert connection.scalar(select(func.count()).select_from(tables.prompt)) == 10_000
