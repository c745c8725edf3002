"""What the admin's pages ask of the database, on both databases."""

import populate
from labeling import claimed, ranked, start_batch, submitted
from plaudit.feedback import statistics
from plaudit.feedback.content import content_search
from plaudit.feedback.content.content_search import Search
from plaudit.feedback.data.judgments import load_judgments
from plaudit.feedback.gold import gold_workshop
from plaudit.feedback.overview import overview
from plaudit.feedback.people.member_counts import submitted_by_member
from plaudit.feedback.settings import ProjectSettings
from plaudit.feedback.store import clock
from plaudit.feedback.store.database import Database
from plaudit.feedback.tasks.batches import BatchConfig
from plaudit.feedback.work.case_history import case_history
from plaudit.feedback.work.review import restore, void


def test_pages_find_what_is_there(database: Database):
    with database.write() as c:
        work = start_batch(c, tasks=2, config=BatchConfig(overlap=3))
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        eve = populate.add_member(c, "Eve", role="reviewer")
        receipts = []
        for who in (ada, bob):
            for _ in range(2):
                task = claimed(c, who)
                receipts.append(submitted(c, who, task, ranked(task, reverse=who == bob)))
        void(c, receipts[0].submission_id, "careless", by=eve)
        restore(c, receipts[0].submission_id, "looked again", by=eve)

        now = overview(c)
        assert (now.prompts, now.day, now.week, now.people, now.undecided) == (2, 4, 4, 2, 2)
        assert submitted_by_member(c) == {ada: 2, bob: 2}
        assert statistics.judgments_by_kind(c) == {"person": 4}

        assert len(content_search.search(c, Search(text="QUESTION 1"), limit=9)) == 1
        assert len(content_search.search(c, Search(text="answer 0 to 1."), limit=9)) == 1
        assert content_search.search(c, Search(text="100%"), limit=9) == []
        (model,) = content_search.origins(c)
        assert (model.prompts, model.responses) == (2, 6)
        assert len(content_search.search(c, Search(origin_id=model.id, split="train"), limit=2, offset=1)) == 1
        assert content_search.search(c, Search(tag="none"), limit=9) == []
        other = start_batch(c, tasks=1, name="Second")
        free = content_search.unasked(c, other.batch_id, Search(), responses=2, limit=9)
        assert set(free) == set(work.prompts)
        found = content_search.provenance(c, work.prompts[0])
        assert [len(found.answers), len(found.tasks)] == [3, 1]

        history = case_history(c, found.tasks[0].task_id)
        assert (history.status, history.gold) == ("open", False)
        reviews = [one for task in found.tasks for one in case_history(c, task.task_id).reviews]
        assert [one.kind for one in reviews] in ([], ["restored", "voided"])
        assert gold_workshop.candidates(c) == []
        piece = gold_workshop.workpiece(c, found.tasks[0].task_id)
        assert [len(piece.responses), len(piece.given), piece.expected] == [3, 0, None]
        assert set(gold_workshop.starts(c, [piece.task_id])) == {piece.task_id}


def test_the_newest_judgments_are_told_apart_when_all_came_at_once(database: Database):
    with database.write() as c, clock.at(clock.now()):
        start_batch(c, tasks=4)
        ada = populate.add_member(c, "Ada")
        for _ in range(4):
            submitted(c, ada, claimed(c, ada))
        assert [len(load_judgments(c, newest=count)) for count in (1, 3, 4, 9)] == [1, 3, 4, 4]


def test_the_version_changes_with_every_judgment_and_event(database: Database):
    settings = ProjectSettings.model_validate({})
    versions: list[str] = []
    with database.write() as c:
        start_batch(c, tasks=2)
        ada, eve = populate.add_member(c, "Ada"), populate.add_member(c, "Eve", role="reviewer")
        versions.append(statistics.data_version(c, settings))
        receipt = submitted(c, ada, claimed(c, ada))
        versions.append(statistics.data_version(c, settings))
        assert statistics.data_version(c, settings) == versions[-1]
        void(c, receipt.submission_id, "careless", by=eve)
        versions.append(statistics.data_version(c, settings))
        versions.append(statistics.data_version(c, settings.model_copy(update={"smallest_group": 9})))
    assert len(set(versions)) == 4
