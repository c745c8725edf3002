"""One recorded judgment out of a row of a file: who ranked what, and all that the row says beside it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from plaudit.core.records import Comparison, Demonstration, Prompt, Ranking
from plaudit.datasets.fields import label_name, number
from plaudit.datasets.problems import RowProblem, shown_value
from plaudit.feedback.content.import_files import Checked, Row

_NO_FLAG = ("", "ok", "none")
_US_TIME = re.compile(r"(\d\d?)/(\d\d?)/(\d{4}) (\d\d?):(\d\d):(\d\d)")


class Extras(NamedTuple):
    """What a row may say beside the ranking. Times are milliseconds UTC; a time without zone is taken as UTC."""

    started: int | None = None
    submitted: int | None = None
    seconds: float | None = None
    trust: float | None = None
    confidence: int | None = None
    reason: str | None = None
    none_acceptable: bool = False

    @property
    def active_ms(self) -> int | None:
        """Time spent: as the row says, else from start to submission."""
        if self.seconds is not None:
            return int(1000 * self.seconds)
        if self.started is not None and self.submitted is not None and self.submitted >= self.started:
            return min(self.submitted - self.started, 2**31 - 1)
        return None


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgment, its responses still texts.

    places: of `responses` in the row's own list, where it has one.
    shown:  indices of `responses` in the order in which the labeler saw them; empty where nobody recorded it.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    labeler: str | None
    criterion: str | None
    flags: tuple[tuple[str, ...], ...]
    places: tuple[int, ...]
    shown: tuple[int, ...]
    extras: Extras
    text: str | None = None  # of a demonstration, which has no responses


def judged_of(row: Row, checked: Checked) -> Judged | None:
    """The judgment of a row; None, with a problem noted, where what stands beside it cannot be read."""
    try:
        return _judged(row)
    except RowProblem as problem:
        checked.add_problem(row.line, str(problem))
        return None


def _judged(row: Row) -> Judged:
    raw, record = row.raw, row.record
    extras = _extras(raw)
    if isinstance(record, Demonstration):
        labeler = label_name(raw.get("labeler"), "labeler")
        return Judged(record.prompt, (), (), labeler, None, (), (), (), extras, record.response)
    if isinstance(record, Comparison):
        if record.label not in (0.0, 0.5, 1.0):
            raise RowProblem(
                f"`label` is {record.label:g}: several judgments in one, not one person's; import the judgments instead"
            )
        ranks = {0.0: (2, 1), 0.5: (1, 1), 1.0: (1, 2)}[record.label]
        criterion = label_name(raw.get("criterion"), "criterion")
        texts = (record.chosen, record.rejected)
        return Judged(record.prompt, texts, ranks, record.labeler, criterion, ((), ()), (0, 1), (), extras)
    ranking = cast(Ranking, record)
    items = _items(raw, len(ranking.responses))
    return Judged(
        ranking.prompt,
        ranking.responses,
        ranking.ranks,
        ranking.labeler,
        ranking.criterion,
        tuple(_flags(item) for item in items),
        tuple(range(len(ranking.responses))),
        _shown(raw, len(ranking.responses)),
        extras,
    )


def _items(raw: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """The row's own objects of its responses; empty ones where it lists plain texts, or is another tool's export."""
    items = raw.get("responses")
    if not isinstance(items, list) or len(cast(list[Any], items)) != count:
        return [{}] * count
    return [cast(dict[str, Any], item) if isinstance(item, dict) else {} for item in cast(list[Any], items)]


def _flags(item: Mapping[str, Any]) -> tuple[str, ...]:
    given = item.get("flags", item.get("flag"))
    listed: list[Any] = cast(list[Any], given) if isinstance(given, list) else [given]
    keys: list[str] = []
    for flag in listed:
        if flag is None or (isinstance(flag, str) and flag.strip().lower() in _NO_FLAG):
            continue
        key = re.sub(r"\W+", "_", flag.strip().lower()).strip("_") if isinstance(flag, str) else ""
        if not (key.isidentifier() and key.isascii() and len(key) <= 40):
            raise RowProblem(f"the flag {shown_value(flag)} is no name; write letters, digits and _, at most 40")
        keys.append(key)
    return tuple(sorted(set(keys)))


def _shown(raw: Mapping[str, Any], count: int) -> tuple[int, ...]:
    """`order` gives each response its place on the screen, from 0."""
    order = raw.get("order")
    if order is None:
        return ()
    if not isinstance(order, list) or sorted(map(str, cast(list[Any], order))) != sorted(map(str, range(count))):
        raise RowProblem(f"`order` is {shown_value(order)}; give each of the {count} responses its place, from 0")
    places = cast(list[int], order)
    return tuple(sorted(range(count), key=lambda index: int(places[index])))


def _extras(raw: Mapping[str, Any]) -> Extras:
    confidence = raw.get("confidence")
    if confidence is not None and (type(confidence) is not int or not 1 <= confidence <= 5):
        raise RowProblem(f"`confidence` is {shown_value(confidence)}; write a whole number from 1 to 5")
    reason = raw.get("reason")
    if reason is not None and not isinstance(reason, str):
        raise RowProblem(f"`reason` is {shown_value(reason)}; write text")
    seconds, trust = raw.get("seconds"), raw.get("trust")
    return Extras(
        started=_time(raw.get("started"), "started"),
        submitted=_time(raw.get("submitted", raw.get("at")), "submitted"),
        seconds=None if seconds is None else number(seconds, "seconds", low=0, high=1e6),
        trust=None if trust is None else number(trust, "trust"),
        confidence=confidence,
        reason=reason,
        none_acceptable=raw.get("none_acceptable") is True,
    )


def _time(value: Any, name: str) -> int | None:
    """Milliseconds UTC of a number of milliseconds, an ISO time, or month/day/year as CrowdFlower writes it."""
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10**11:
        return value
    if isinstance(value, str):
        try:
            if match := _US_TIME.fullmatch(value):
                month, day, year, hour, minute, second = map(int, match.groups())
                moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
            else:
                moment = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return int(1000 * (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    raise RowProblem(f"`{name}` is {shown_value(value)}; write a time such as 2026-01-31T12:00:00Z")
