import pytest
from sqlalchemy import select

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.privacy.groups import answer, forget_answers, groups, large_groups, own_answers
from plaudit.feedback.project import Project
from plaudit.feedback.settings import ProjectSettings
from plaudit.feedback.store import tables
from plaudit.feedback.store.secrets import Secrets
from populate import add_member

SETTINGS = ProjectSettings.model_validate(
    {
        "smallest_group": 3,
        "group_questions": [
            {"key": "age", "text": "How old are you?", "options": ["under 40", "40 or more"]},
            {"key": "place", "text": "Where do you live?", "options": ["town", "country", "sea"]},
        ],
    }
)


def test_nothing_is_asked_by_default_and_only_what_is_offered(project: Project):
    with project.database.write() as connection:
        ada = add_member(connection)
        for settings, question, option in (
            (ProjectSettings.model_validate({}), "age", "under 40"),
            (SETTINGS, "age", "old"),
            (SETTINGS, "faith", "none"),
        ):
            with pytest.raises(FeedbackError, match="does not offer"):
                answer(connection, project.secrets, settings, ada, question, option)


def test_answers_can_be_changed_and_taken_back_by_their_owner(project: Project):
    with project.database.write() as connection:
        ada, bea = add_member(connection, "Ada"), add_member(connection, "Bea")
        for member, option in ((ada, "town"), (bea, "sea"), (ada, "country")):
            answer(connection, project.secrets, SETTINGS, member, "place", option)
        answer(connection, project.secrets, SETTINGS, ada, "age", "under 40")
        assert own_answers(connection, project.secrets, ada) == {"place": "country", "age": "under 40"}
        answer(connection, project.secrets, SETTINGS, ada, "place", None)
        assert own_answers(connection, project.secrets, ada) == {"age": "under 40"}
        assert forget_answers(connection, project.secrets, ada) == 1
        assert own_answers(connection, project.secrets, bea) == {"place": "sea"}


def test_the_database_alone_does_not_tell_whose_an_answer_is(project: Project):
    with project.database.write() as connection:
        ada = add_member(connection)
        answer(connection, project.secrets, SETTINGS, ada, "age", "under 40")
        row = connection.execute(select(tables.group_answer)).one()
        assert ada not in str(row)
        assert row.created_at % 86_400_000 == 0
        assert own_answers(connection, Secrets("0123456789abcdef" * 4), ada) == {}  # another project's secret


def test_small_groups_are_not_shown(project: Project):
    with project.database.write() as connection:
        for number, (age, place) in enumerate(
            [("under 40", "town")] * 3 + [("40 or more", "country")] * 3 + [("40 or more", "sea")] * 1
        ):
            member = add_member(connection, f"M{number}")
            answer(connection, project.secrets, SETTINGS, member, "age", age)
            answer(connection, project.secrets, SETTINGS, member, "place", place)
        found = groups(connection, project.secrets, SETTINGS)
        assert {option: len(people) for option, people in found["age"].items()} == {"under 40": 3, "40 or more": 4}
        assert found["age"]["under 40"] == {"L-M0", "L-M1", "L-M2"}
        # "sea" is small, "country" would give it away, and "town" alone compares nothing.
        assert "place" not in found


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ({"a": 5, "b": 5}, {"a", "b"}),
        ({"a": 5, "b": 4}, set()),  # b is small, a alone covers it
        ({"a": 9, "b": 6, "c": 1}, {"a"}),
        ({"a": 9, "b": 6, "c": 3, "d": 2}, {"a", "b"}),  # c and d together are five
        ({}, set()),
    ],
)
def test_suppression_by_hand(sizes: dict[str, int], shown: set[str]):
    options = {option: {f"{option}{n}" for n in range(size)} for option, size in sizes.items()}
    found = large_groups(options, 5)
    assert set(found) == shown
    hidden = sum(size for option, size in sizes.items() if option not in found)
    assert hidden == 0 or hidden >= 5
