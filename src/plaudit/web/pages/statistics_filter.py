"""Whose judgments the figures of a page are about: what the quality and the bias page share."""

from dataclasses import dataclass

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people.members import Kind
from plaudit.feedback.quality.report import Quality
from plaudit.feedback.statistics import Statistics, StatisticsCache, Wanted, judgments_by_kind
from plaudit.feedback.tasks.batches import Batch, list_batches
from plaudit.web.visit import Member

KINDS: dict[str, Kind] = {"person": "person", "ai": "ai", "simulated": "simulated"}


@dataclass(frozen=True)
class Asked:
    """The filter of a page. kinds: judgments by kind of labeler in the chosen batch."""

    asked: Wanted
    batches: list[Batch]
    kinds: dict[Kind, int]


def read_filter(member: Member, batch: str, kind: str) -> Asked:
    """What the address asks for. Without a kind, that with most judgments: labelers of several kinds are never mixed.

    Raises FeedbackError "not_found" for a batch that does not exist.
    """
    with member.read() as connection:
        batches = [one for one in list_batches(connection) if one.kind == "ranking" and one.purpose == "work"]
        if batch and batch not in {one.id for one in batches}:
            raise FeedbackError("not_found", "There is no such batch of rankings.", status=404)
        kinds = judgments_by_kind(connection, batch or None)
    chosen = KINDS.get(kind) or next(iter(kinds), None) or KINDS["person"]
    return Asked(Wanted(chosen, batch or None), batches, kinds)


def statistics(member: Member, wanted: Wanted) -> Statistics | None:
    """The figures, from the site's cache."""
    cache: StatisticsCache = member.request.app.state.statistics
    return cache.get(member.site.project, wanted)


def chosen_criterion(found: Statistics | None, criterion: str) -> tuple[Quality | None, list[str | None]]:
    """The figures of one criterion (the first if it is not known), and all criteria there are."""
    if found is None:
        return None, []
    named = {one.criterion or "": one for one in found.qualities}
    return named.get(criterion, found.qualities[0]), [one.criterion for one in found.qualities]
