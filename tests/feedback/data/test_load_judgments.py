"""Rows of the database as records for statistics."""

import populate
from labeling import claimed, ranked, start_batch, submitted
from plaudit.feedback.data.judgments import load_judgments
from plaudit.feedback.quality.records import item_key
from plaudit.feedback.store.database import Database
from plaudit.feedback.tasks.answers import RankingAnswer
from plaudit.feedback.tasks.batches import BatchConfig
from plaudit.feedback.work.assignment import open_assignment
from plaudit.feedback.work.review import void


def test_a_judgment_says_who_ranked_what_in_which_order(database: Database):
    with database.write() as c:
        work = start_batch(c, responses=4, config=BatchConfig(overlap=5))
        start_batch(c, name="Training", tasks=0, gold=1, purpose="training")
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        cy = populate.add_member(c, "Cy", kind="simulated")
        eve = populate.add_member(c, "Eve", role="reviewer")
        found = claimed(c, ada)
        submitted(c, ada, found)
        submitted(c, ada, open_assignment(c, ada, found.id), ranked(found, reverse=True))
        other = claimed(c, bob)
        submitted(c, bob, other, RankingAnswer({}, none_acceptable=True))
        submitted(c, cy, claimed(c, cy))
        void(c, submitted(c, eve, claimed(c, eve)).submission_id, "test", by=populate.add_member(c, "Al", role="admin"))
        submitted(c, ada, claimed(c, ada, purpose="training"))

        (judgment,) = load_judgments(c)
        bodies = {shown.id: shown.body for shown in found.responses}
        assert judgment.responses == tuple(sorted(bodies.values()))
        assert judgment.item == item_key(found.prompt, list(bodies.values()))
        ranks = {bodies[name]: tier for name, tier in ranked(found, reverse=True).tiers.items()}
        assert dict(zip(judgment.responses, judgment.ranks, strict=True)) == ranks
        assert judgment.order is not None
        for place, shown in enumerate(found.responses):
            assert judgment.order[judgment.responses.index(shown.body)] == place
        assert (judgment.labeler, judgment.kind, judgment.seconds, judgment.guideline, judgment.gold) == (
            "L-Ada", "person", 1.0, 1, None,
        )  # fmt: skip

        assert [one.labeler for one in load_judgments(c, kinds=("person", "simulated"))] == ["L-Ada", "L-Cy"]
        assert {one.item for one in load_judgments(c, kinds=("person", "simulated"))} == {judgment.item}
        (training,) = load_judgments(c, purposes=("training",))
        assert (training.labeler, training.gold) == ("L-Ada", 1.0)
        assert load_judgments(c, batches=[work.batch_id]) == [judgment]
        assert load_judgments(c, batches=["0" * 32]) == []
