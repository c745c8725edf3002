"""Where the numbers come from: data, warnings, time, machine, lineage, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plaudit.core.config import flatten
from plaudit.core.yaml12 import dump_yaml, inline_yaml
from plaudit.reports.figures import is_number
from plaudit.reports.folders import Folder
from plaudit.reports.markup import Html, about, folded, join, listing, paragraph, table, tag, text
from plaudit.reports.scales import duration, percent
from plaudit.reports.stages import STAGE_NAMES, is_duration, total_seconds

SHORT_HASH = 12


def data_counts(folders: Sequence[Folder]) -> Html:
    """Rows used and left out, and why, for every data set that a summary counts."""
    sets = [(folder, name, counts) for folder in folders for name, counts in _data_sets(folder.summary.get("data"))]
    if not sets:
        return Html("")
    columns = list(dict.fromkeys(key for _, _, counts in sets for key, value in counts.items() if is_number(value)))
    rows = [
        [text(folder.name), text(name), *(_count(counts.get(key)) for key in columns)] for folder, name, counts in sets
    ]
    header = ["Run", "Data", *(key.replace("_", " ") for key in columns)]
    shown = table("Rows of each data set", header, rows, numeric=range(2, 2 + len(columns)))
    causes = [text(line) for folder, name, counts in sets for line in _causes(f"{folder.name}, {name}", counts)]
    notes = [text(f"{f.name}: {note}") for f in folders for note in (f.summary.get("data") or {}).get("notes") or []]
    if not causes:
        causes = [text("No row was truncated or left out.")]
    return join([shown, tag("h3", text("Left out or shortened, by cause")), listing([*causes, *notes])])


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
            rows.append([text(folder.name), text(phase.replace("_", " ")), text(duration(seconds)), text(share)])
    if not rows:
        return Html("")
    return table("Wall-clock time by phase", ["Run", "Phase", "Time", "Share of the run"], rows, numeric=[2, 3])


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
    """Each run with what went into it; an input that another run of this page made is linked by its content hash."""
    made = {hash_: folder.name for folder in folders for hash_ in _outputs(folder)}
    items = []
    for folder in folders:
        inputs = []
        for name, content in folder.inputs.items():
            maker = made.get(content)
            origin = text(f" made by {maker}") if maker and maker != folder.name else text("")
            inputs.append(join([text(f"{name}{_named(folder, name)} "), _hash(content), origin]))
        outputs = [join([text("model "), _hash(hash_)]) for hash_ in _outputs(folder)]
        head = join([tag("strong", text(folder.name)), text(f" ({STAGE_NAMES.get(folder.stage, folder.stage)}), from")])
        items.append(join([paragraph(head), listing(inputs or [text("no recorded inputs")])]))
        if outputs:
            items.append(join([paragraph(text("made")), listing(outputs)]))
    return tag("div", *items, class_="lineage")


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


def _causes(where: str, counts: Mapping[str, Any]) -> list[str]:
    """`{cause: number}` tables among the counts, as sentences."""
    tables = [value for value in counts.values() if isinstance(value, Mapping)]
    return [f"{where}: {cause}: {n:,}" for found in tables for cause, n in found.items() if is_number(n) and n]


def _count(value: Any) -> Html:
    return text(f"{value:,}" if is_number(value) else "–")


def _outputs(folder: Folder) -> list[str]:
    made = folder.summary.get("model_sha256")
    return [made] if isinstance(made, str) else []


def _named(folder: Folder, key: str) -> str:
    value = folder.config.get(key)
    return f" = {value}" if isinstance(value, str) else ""


def _hash(content: str) -> Html:
    return tag("code", text(content[:SHORT_HASH]), title=content)


def _flat(found: Mapping[str, Any]) -> dict[str, str]:
    words = {key: value for key, value in found.items() if key not in ("continued", "command")}
    flat = {key: inline_yaml(value) for key, value in flatten(words).items() if value is not None}
    if isinstance(found.get("command"), list):
        flat["command"] = " ".join(map(str, found["command"]))
    if found.get("continued"):
        flat["continued"] = f"{len(found['continued'])} times after an interruption"
    return flat
