"""The entry point for data: a path in, checked records out, with counts of everything that was noticed on the way."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from plaudit.core.errors import DataError
from plaudit.core.records import Comparison, Demonstration, PromptRow, Ranking, Source, prompt_key
from plaudit.datasets import exports, formats
from plaudit.datasets.audit import count_judgments
from plaudit.datasets.formats import Kind, Record
from plaudit.datasets.manifest import check_manifest
from plaudit.datasets.problems import Problems, RowProblem, missing_field, quoted
from plaudit.datasets.sources import content_hash, raw_rows
from plaudit.datasets.splits import find_duplicates

T = TypeVar("T", bound=Record)

_WANTED = {
    "demonstration": "`prompt` and `response`",
    "ranking": "`prompt`, `responses` and `ranks`",
    "comparison": "`prompt`, `chosen` and `rejected`",
    "prompt": "`prompt`",
}


@dataclass(frozen=True, slots=True)
class Rows(Generic[T]):
    """What a file holds.

    sha256: of the file or folder (of a hub data set: of its rows), whatever part of it was read.
    counts: rows, prompts, duplicates, dropped …, and for judgments what `audit.count_judgments` counts.
    notes:  the same for people: what is worth knowing before training on this.
    snapshot: name and version, where the file is a snapshot of a labeling project (see `manifest`).
    """

    kind: Kind
    rows: list[T]
    sha256: str
    counts: dict[str, int]
    notes: list[str]
    snapshot: str | None = None

    def inputs(self, name: str) -> dict[str, str]:
        """What a run writes down about this data: its hash, and the snapshot it is, if it is one."""
        return {name: self.sha256} | ({f"{name} snapshot": self.snapshot} if self.snapshot else {})


def read_demonstrations(path: str | Path, *, limit: int | None = None) -> Rows[Demonstration]:
    """Prompts with ideal answers. Raises DataError naming file, line, field, what was found and what to do."""
    return cast(Rows[Demonstration], _read(path, "demonstration", limit, None))


def read_rankings(path: str | Path, *, limit: int | None = None, criterion: str | None = None) -> Rows[Ranking]:
    """Prompts with ranked answers, of one criterion if one is given. Raises DataError as `read_demonstrations`."""
    return cast(Rows[Ranking], _read(path, "ranking", limit, criterion))


def read_comparisons(path: str | Path, *, limit: int | None = None, criterion: str | None = None) -> Rows[Comparison]:
    """Prompts with a better and a worse answer. Raises DataError as `read_demonstrations`."""
    return cast(Rows[Comparison], _read(path, "comparison", limit, criterion))


def read_prompts(path: str | Path, *, limit: int | None = None) -> Rows[PromptRow]:
    """The distinct prompts of data of any kind, in order of first appearance. Raises DataError as above."""
    return cast(Rows[PromptRow], _read(path, "prompt", limit, None))


def read_any(path: str | Path, *, limit: int | None = None, criterion: str | None = None) -> Rows[Any]:
    """Data of whichever kind its first telling row is. Raises DataError as `read_demonstrations`."""
    return _read(path, None, limit, criterion)


def detect_kind(row: Mapping[str, Any]) -> Kind | None:
    """The kind of a raw row by its fields; None if it does not tell."""
    if _is_export(row):
        return exports.export_kind(row)
    return formats.native_kind(row)


@dataclass(slots=True)
class _Reading:
    """What is gathered while the rows of one file pass by."""

    path: str
    kind: Kind | None
    criterion: str | None
    problems: Problems
    records: dict[object, Any] = field(default_factory=dict)  # prompts by key (each once), others by number
    skipped: Counter[str] = field(default_factory=Counter)
    criteria: Counter[str] = field(default_factory=Counter)
    ignored: dict[str, None] = field(default_factory=dict)
    rows: int = 0
    made: int = 0

    def add(self, source: Source, found: Any) -> None:
        """Turn one raw row into records, or into a problem."""
        self.rows += 1
        try:
            if isinstance(found, RowProblem):
                raise found
            self._settle_kind(source, found)
            made = records_of(found, self.kind, source, self.skipped)
        except RowProblem as problem:
            self.problems.add(source, problem)
            return
        for record in made:
            criterion = getattr(record, "criterion", None) or found.get("criterion")
            if criterion is not None:
                self.criteria[str(criterion)] += 1
            if self.criterion is None or str(criterion) == self.criterion:
                self.made += 1
                key = prompt_key(record.prompt) if self.kind == "prompt" else self.made
                self.records.setdefault(key, record)
        if not _is_export(found):
            self.ignored.update(dict.fromkeys(name for name in found if name not in formats.KNOWN_FIELDS))

    def _settle_kind(self, source: Source, row: Mapping[str, Any]) -> None:
        told = detect_kind(row)
        if self.kind is None:
            self.kind = told
            if told is None and not _is_export(row):
                raise missing_field("prompt", row)
        elif self.rows == 1 and self.kind != "prompt" and told not in (None, "prompt", self.kind):
            raise DataError(
                f"{source} is a {told} (it has {quoted(row)}), but a {self.kind} is wanted: {_WANTED[self.kind]}. "
                f"Give another file, or use this one where {told}s are wanted."
            )


def _read(path: str | Path, kind: Kind | None, limit: int | None, criterion: str | None) -> Rows[Any]:
    path = str(path)
    snapshot = check_manifest(path)
    reading = _Reading(path, kind, criterion, Problems(path))
    for source, found in raw_rows(path):
        if limit is not None and len(reading.records) >= limit:
            break
        reading.add(source, found)
    reading.problems.raise_if_any(reading.rows)
    records = list(reading.records.values())[:limit]
    if not records or reading.kind is None:
        raise DataError(_nothing_found(reading))
    counts = _counts(reading, records)
    # Part of a file may well be all ties; a whole one has nothing to teach.
    if limit is None and counts.get("all_tied") == len(records):
        raise DataError(
            f"All {len(records)} {reading.kind}s of {path} are ties: there is nothing to learn. "
            "Check how ranks were written (1 is best; equal numbers are ties)."
        )
    return Rows(reading.kind, records, content_hash(path), counts, _notes(reading, counts), snapshot)


def records_of(row: Mapping[str, Any], kind: Kind | None, source: Source, skipped: Counter[str]) -> list[Any]:
    """The records in one raw row: one, but for exports as many as people judged it. Raises RowProblem."""
    if exports.is_argilla(row):
        made: list[Any] = list(exports.argilla_rankings(row, source, skipped))
    elif exports.is_label_studio(row):
        told = exports.export_kind(row)
        read_task = exports.label_studio_comparisons if told == "comparison" else exports.label_studio_rankings
        made = list(read_task(row, source, skipped))
    else:
        return [_NATIVE[kind or "prompt"](row, source)]
    return [PromptRow(record.prompt, source) for record in made] if kind == "prompt" else made


_NATIVE: dict[Kind, Callable[[Mapping[str, Any], Source], Record]] = {
    "demonstration": formats.demonstration,
    "ranking": formats.ranking,
    "comparison": formats.comparison,
    "prompt": formats.prompt_row,
}


def _is_export(row: Mapping[str, Any]) -> bool:
    return exports.is_argilla(row) or exports.is_label_studio(row)


def _nothing_found(reading: _Reading) -> str:
    wanted = _WANTED[reading.kind or "prompt"]
    if reading.rows == 0:
        return f"{reading.path} is empty. Give a file with one row a line: {wanted}."
    if reading.criterion is not None and reading.criteria:
        found = ", ".join(f"{name} ({count})" for name, count in reading.criteria.most_common())
        return f"{reading.path} has no row with criterion={reading.criterion}. It has: {found}."
    why = ", ".join(f"{cause}: {count}" for cause, count in reading.skipped.most_common()) or "no row was kept"
    return f"None of the {reading.rows} rows of {reading.path} can be used ({why}). Needed: {wanted}."


def _counts(reading: _Reading, records: list[Any]) -> dict[str, int]:
    duplicates = find_duplicates(records)
    repeats = reading.made - len(reading.records) if reading.kind == "prompt" else 0
    counts = {
        "rows": len(records),
        "prompts": len({prompt_key(record.prompt) for record in records}),
        "duplicates": repeats + sum(not duplicate.opposite for duplicate in duplicates),
    }
    if reading.kind in ("ranking", "comparison"):
        counts["opposite_duplicates"] = sum(duplicate.opposite for duplicate in duplicates)
        counts |= count_judgments(records)
    for cause, count in (reading.problems.dropped + reading.skipped).items():
        counts[f"dropped: {cause}"] = count
    return counts


def _notes(reading: _Reading, counts: Mapping[str, int]) -> list[str]:
    told = {
        "duplicates": "rows repeat an earlier one",
        "opposite_duplicates": "rows repeat an earlier one of the same labeler with the opposite judgment",
        "all_tied": "rows are ties throughout and teach nothing",
        "same_text_apart": "rows prefer one of two identical texts",
        "opposite_pairs": f"of {counts.get('judged_pairs', 0)} pairs were judged in both directions",
        "self_contradictions": "times a labeler judged the same pair in both directions",
    }
    notes = [f"{counts[name]} {meaning}" for name, meaning in told.items() if counts.get(name)]
    notes += [f"{count} dropped ({name.removeprefix('dropped: ')})" for name, count in counts.items() if ": " in name]
    if reading.criterion is None and len(reading.criteria) > 1:
        found = ", ".join(f"{name} ({count})" for name, count in reading.criteria.most_common())
        notes.append(f"several criteria are mixed: {found}; choose one with criterion=")
    if reading.ignored:
        notes.append(f"fields not used: {', '.join(reading.ignored)}")
    return notes
