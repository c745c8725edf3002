"""Voluntary answers about a labeler's group, for the audit of bias.

An answer is stored under a keyed hash of the member (RFC 2104). Whoever has the database without the project's secrets
cannot tell whose it is; whoever has both can, so in a small team this is pseudonymous and not anonymous. Reports show
groups, never people, and no group that is small.
"""

import hashlib
import hmac
from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from plaudit.feedback.bias.groups import shown_groups
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.settings import ProjectSettings
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.secrets import Secrets


def answer(
    connection: Connection,
    secrets: Secrets,
    settings: ProjectSettings,
    member_id: str,
    question: str,
    option: str | None,
) -> None:
    """Store a member's own answer to a question, in place of an earlier one; None takes it back.

    Raises FeedbackError "no_question" if the project does not ask this, or does not offer this option.
    """
    offered = next((asked.options for asked in settings.group_questions if asked.key == question), ())
    if option is not None and option not in offered:
        raise FeedbackError("no_question", "This project does not offer that answer to that question.", status=422)
    table, key = tables.group_answer, respondent_key(secrets, member_id)
    connection.execute(delete(table).where(table.c.respondent_key == key, table.c.question == question))
    if option is not None:
        connection.execute(
            insert(table).values(
                respondent_key=key,
                question=question,
                option=option,
                created_at=clock.now() // clock.DAY * clock.DAY,  # the day: the moment would tell who was at work then
            )
        )


def own_answers(connection: Connection, secrets: Secrets, member_id: str) -> dict[str, str]:
    """A member's own answers: question -> option."""
    table = tables.group_answer
    mine = table.c.respondent_key == respondent_key(secrets, member_id)
    return dict(connection.execute(select(table.c.question, table.c.option).where(mine)).all())


def forget_answers(connection: Connection, secrets: Secrets, member_id: str) -> int:
    """Delete all answers of a member; returns how many there were."""
    table = tables.group_answer
    mine = table.c.respondent_key == respondent_key(secrets, member_id)
    return connection.execute(delete(table).where(mine)).rowcount


def groups(connection: Connection, secrets: Secrets, settings: ProjectSettings) -> dict[str, dict[str, frozenset[str]]]:
    """Question -> option -> pseudonyms of those who gave it: for figures about groups, not for showing.

    Left out are options that fewer than `smallest_group` people chose; the next larger one too where those left out
    would be fewer than that together, because they could be found by subtraction; and questions with one option left,
    which compare nothing.
    """
    pseudonyms = dict(connection.execute(select(tables.member.c.id, tables.member.c.pseudonym)).all())
    by_key = {respondent_key(secrets, member_id): name for member_id, name in pseudonyms.items()}
    table = tables.group_answer
    found: dict[str, dict[str, set[str]]] = {}
    for key, question, option in connection.execute(select(table.c.respondent_key, table.c.question, table.c.option)):
        if key in by_key:
            found.setdefault(question, {}).setdefault(option, set()).add(by_key[key])
    asked = {question.key for question in settings.group_questions}
    large = {
        question: large_groups(found[question], settings.smallest_group) for question in sorted(asked & found.keys())
    }
    return {question: options for question, options in large.items() if len(options) >= 2}


def shown_answers(connection: Connection, secrets: Secrets, settings: ProjectSettings) -> dict[str, dict[str, str]]:
    """Question -> pseudonym -> option, of the groups that may be shown: what the audit of bias takes."""
    return {
        question: {name: option for option, names in options.items() for name in names}
        for question, options in groups(connection, secrets, settings).items()
    }


def large_groups(options: Mapping[str, set[str]], smallest: int) -> dict[str, frozenset[str]]:
    """The options that may be shown; see `groups`."""
    shown = shown_groups({option: len(people) for option, people in options.items()}, smallest)
    return {option: frozenset(options[option]) for option in shown}


def respondent_key(secrets: Secrets, member_id: str) -> str:
    """What stands for a member among the group answers."""
    return hmac.new(secrets.key("group answers"), member_id.encode(), hashlib.sha256).hexdigest()
