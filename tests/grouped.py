"""A project whose labelers disagree by group, for tests of what is shown of it, and of what is not."""

import populate
from labeling import claimed, ranked, start_batch, submitted
from plaudit.feedback.privacy import groups
from plaudit.feedback.project import Project
from plaudit.feedback.settings import ProjectSettings
from plaudit.feedback.tasks.batches import BatchConfig

SMALLEST = 3
QUESTIONS = {
    "smallest_group": SMALLEST,
    "group_questions": [
        {"key": "age", "text": "How old are you?", "options": ["under 40", "40 or more", "old as the hills"]},
        {"key": "place", "text": "Where do you live?", "options": ["town", "country"]},
    ],
}
ASKED = ProjectSettings.model_validate(QUESTIONS)


def disagree_by_age(project: Project, *, tasks: int = 12, asked: bool = True, lonely: bool = False) -> None:
    """Three people under 40 rank one way, four older ones the other way round; a lonely eighth is a group of one.

    Two of them say that they live in town, so that nothing about places may be shown.
    """
    ages = ["under 40"] * 3 + ["40 or more"] * 4 + ["old as the hills"] * lonely
    if asked:
        project.save_settings(ASKED, by=None)
    with project.database.write() as c:
        work = start_batch(c, tasks=tasks, config=BatchConfig(overlap=len(ages)), name="Ages")
        for number, age in enumerate(ages):
            member = populate.add_member(c, f"G{number}")
            for _ in range(tasks):
                task = claimed(c, member, work.batch_id)
                submitted(c, member, task, ranked(task, reverse=age == "under 40"))
            if asked:
                groups.answer(c, project.secrets, ASKED, member, "age", age)
                if number < SMALLEST - 1:
                    groups.answer(c, project.secrets, ASKED, member, "place", "town")
