"""Where the numbers come from: data, warnings, time, machine, lineage, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plaudit.core.config import flatten
from plaudit.core.files import sha256_file, sha256_tree
from plaudit.core.yaml12 import dump_yaml, inline_yaml
from plaudit.reports.figures import is_number
from plaudit.reports.folders import Folder
from plaudit.reports.markup import Html, about, folded, join, listing, paragraph, table, tag, text
from plaudit.reports.scales import duration, percent
from plaudit.reports.stages import STAGE_NAMES, is_duration, total_seconds

SHORT_HASH = 12
LOGS = {"metrics.jsonl", "timings.jsonl", "samples.jsonl"}


def data_counts(folders: Sequence[Folder]) -> Html:
    """What each run counted of its data: rows used, and rows left out or shortened with the cause."""
    rows = [
        [text(folder.name), text(name), _counts(counts), _causes(counts)]
        for folder in folders
        for name, counts in _data_sets(folder.summary.get("data"))
    ]
    if not rows:
        return Html("")
    notes = [about(f"{f.name}:", note) for f in folders for note in (f.summary.get("data") or {}).get("notes") or []]
    shown = table("Rows of each data set", ["Run", "Data", "Counts", "Left out or shortened, by cause"], rows)
    return join([shown, listing(notes) if notes else Html("")])


def warnings(folders: Sequence[Folder]) -> Html:
    """What the doctor had to say, run by run; a clean bill is said as well."""
    said: list[Html] = []
    for folder in folders:
        said += [_warning(folder, found) for found in folder.summary.get("warnings") or []]
        if not folder.finished:
            said.append(about(f"{folder.name}:", "not finished; its numbers are those logged so far."))
    if said:
        return tag("div", listing(said), class_="notice")
    return paragraph(text("None: every check that ran during these stages passed."))


def timings(folders: Sequence[Folder]) -> Html:
    """Seconds by phase, the longest first."""
    rows = []
    for folder in folders:
        phases: dict[str, float] = {}
        for row in folder.timings:
            for key, value in row.items():
                if is_number(value) and is_duration(key):
                    phases[key] = phases.get(key, 0.0) + float(value)
        total = total_seconds(folder)
        for phase, seconds in sorted(phases.items(), key=lambda item: -item[1]):
            share = percent(seconds / total, 0) if total else "–"
            rows.append(
                [
                    text(folder.name),
                    text(phase.removesuffix("_seconds").replace("_", " ")),
                    text(duration(seconds)),
                    text(share),
                ]
            )
    if not rows:
        return Html("")
    return table(
        "Wall-clock time of what was timed, by phase",
        ["Run", "Phase", "Time", "Share of the run"],
        rows,
        numeric=[2, 3],
    )


def environment(folders: Sequence[Folder]) -> Html:
    """Versions and machine; what is the same for all runs is told once."""
    flat = {folder.name: _flat(folder.environment) for folder in folders}
    keys = list(dict.fromkeys(key for found in flat.values() for key in found))
    common, differing = [], []
    for key in keys:
        values = {name: found.get(key, "–") for name, found in flat.items()}
        if len(set(values.values())) == 1:
            common.append((key, next(iter(values.values()))))
        else:
            differing.append([text(key), *(text(value) for value in values.values())])
    parts = (
        [tag("dl", *(join([tag("dt", text(key)), tag("dd", text(value))]) for key, value in common))] if common else []
    )
    if differing:
        shown = table("What differs between the runs", ["", *flat], differing)
        parts.append(folded("What differs between the runs", shown))
    return join(parts)


def lineage(folders: Sequence[Folder]) -> Html:
    """Each run with what went into it and what it made; an input that another run of this page made names its maker."""
    made = {folder.name: _made(folder) for folder in folders}
    maker = {content: f"{run}, {name}" for run, results in made.items() for name, content in results.items()}
    items: list[Html] = []
    for folder in folders:
        inputs = [_input(folder, name, content, maker) for name, content in folder.inputs.items()]
        outputs = [join([text(f"{name} "), _hash(content)]) for name, content in made[folder.name].items()]
        items.append(paragraph(about(folder.name, f"({STAGE_NAMES.get(folder.stage, folder.stage)}), from")))
        items.append(listing(inputs or [text("no recorded inputs")]))
        if outputs:
            items += [paragraph(text("made")), listing(outputs)]
    note = paragraph(
        text("The first digits of SHA-256 over the content of a file, or of a model folder as it is now."),
        class_="note",
    )
    return tag("div", *items, note, class_="lineage")


def settings(folders: Sequence[Folder]) -> Html:
    return join(
        folded(f"Settings of {f.name} ({STAGE_NAMES.get(f.stage, f.stage)})", tag("pre", text(dump_yaml(f.config))))
        for f in folders
    )


def _warning(folder: Folder, found: Any) -> Html:
    """A sentence, or what a check found: `{"check", "first_step", "steps", "message"}`."""
    if not isinstance(found, Mapping):
        return about(f"{folder.name}:", found)
    when = f"(first at step {found.get('first_step')}, {found.get('steps')} times)"
    return about(f"{folder.name}:", f"{found.get('message', '')} {when}")


def _data_sets(found: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """One set of counts, or several by name."""
    if not isinstance(found, Mapping):
        return []
    if any(is_number(value) for value in found.values()):
        return [("data", found)]
    return [(name.replace("_", " "), counts) for name, counts in found.items() if isinstance(counts, Mapping)]


def _counts(counts: Mapping[str, Any]) -> Html:
    told = [f"{value:,} {key.replace('_', ' ')}" for key, value in counts.items() if is_number(value)]
    return text(", ".join(told) or "–")


def _causes(counts: Mapping[str, Any]) -> Html:
    """The `{cause: number}` tables among the counts."""
    tables = [value for value in counts.values() if isinstance(value, Mapping)]
    told = [text(f"{n:,}: {cause}") for found in tables for cause, n in found.items() if is_number(n) and n]
    return join(told, "<br>") if told else text("none")


def _made(folder: Folder) -> dict[str, str]:
    """Content hash of every model folder and data file that the run left."""
    models = [path for path in sorted(folder.path.glob("model*")) if path.is_dir()]
    files = [path for path in sorted(folder.path.glob("*.jsonl")) if path.name not in LOGS]
    return {path.name: sha256_tree(path) for path in models} | {path.name: sha256_file(path) for path in files}


def _input(folder: Folder, name: str, content: str, maker: Mapping[str, str]) -> Html:
    """An input with its place and hash; what has no content to hash, as a hub name, is written as it is."""
    where = folder.config.get(name)
    shown = f"{name} {folder.called(where)} " if isinstance(where, str) else f"{name} "
    origin = f" made by {maker[content]}" if content in maker else ""
    return join([text(shown), _hash(content), text(origin)])


def _hash(content: str) -> Html:
    is_digest = len(content) == 64 and all(c in "0123456789abcdef" for c in content)
    return tag("code", text(content[:SHORT_HASH] if is_digest else content), title=content)


def _flat(found: Mapping[str, Any]) -> dict[str, str]:
    words = {key: value for key, value in found.items() if key not in ("continued", "command")}
    flat = {key: inline_yaml(value) for key, value in flatten(words).items() if value is not None}
    if isinstance(found.get("command"), list):
        flat["command"] = " ".join(map(str, found["command"]))
    if found.get("continued"):
        flat["continued"] = f"{len(found['continued'])} times after an interruption"
    return flat
