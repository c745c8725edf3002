"""Run folders to one HTML page that needs nothing else: no network, no script, no file beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from plaudit.core.files import atomic_write
from plaudit.reports import audit, curves, hacking, provenance, samples
from plaudit.reports.folders import Folder, read_folders
from plaudit.reports.markup import Html, Section, about, join, label, listing, paragraph, tag, text
from plaudit.reports.stages import STAGE_NAMES, comparisons, headline, stage_table

HEADLINES = 6
JUDGE_DOES = "which chose the checkpoint and is no part of the training reward."
NO_JUDGE = "has no independent judge: nothing here shows that a higher reward is a better answer."


def build(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of one run, or of a loop of runs, and return where it is.

    Args:
        folders: run folders, or folders that hold run folders.
        out: the HTML file. Left out: `report.html` in the only folder, or in the folder above several.

    Raises:
        RunError: no run folder there, a damaged file, or nowhere to write.
    """
    runs = read_folders(folders)
    if out is None:
        out = folders[0] / "report.html" if len(folders) == 1 else runs[0].path.parent / "report.html"
    atomic_write(out, render(runs))
    return out


def render(runs: Sequence[Folder]) -> str:
    """The page as text."""
    name = runs[0].name if len(runs) == 1 else runs[0].path.parent.name
    sections = [
        Section("judges", "Who judges", _judges(runs)),
        Section("stages", "Stages", stage_table(runs)),
        Section("curves", "Curves", _by_run(runs, curves.curves)),
        Section("over-optimisation", "Reward and judge against the KL", hacking.over_optimisation(runs)),
        Section("reward-model", "Audit of the reward model", _by_run(runs, audit.reward_audit)),
        Section("data", "Data", provenance.data_counts(runs)),
        Section("samples", "Answers side by side", samples.answers(runs)),
        Section("warnings", "Warnings", provenance.warnings(runs)),
        Section("time", "Time", provenance.timings(runs)),
        Section("environment", "Environment", provenance.environment(runs)),
        Section("lineage", "Lineage", provenance.lineage(runs)),
        Section("settings", "Settings", provenance.settings(runs)),
    ]
    shown = [part for part in sections if part.body]
    links = [tag("a", text(part.title), href=f"#{part.identity}") for part in shown]
    contents = tag("nav", *links, class_="contents", aria_label="Contents")
    header = tag("header", tag("h1", text(f"Plaudit report: {name}")), _headline(runs), _notices(runs), contents)
    footer = tag("footer", text("Made from run folders alone. This page loads nothing and runs no script."))
    return _document(f"Plaudit report: {name}", join([header, tag("main", *(part.html() for part in shown)), footer]))


def _document(title: str, body: Html) -> str:
    style = resources.files("plaudit.reports").joinpath("page.css").read_text(encoding="utf-8")
    # Model text is hostile. Escaping stops it; should that ever fail, the browser refuses all but this style sheet.
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("title", label(title)),
            Html(f"<style>{style}</style>"),
        ]
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _headline(runs: Sequence[Folder]) -> Html:
    told = headline(runs)
    if not told:
        return tag("div", paragraph(text("These runs have not measured a result yet.")), class_="headline")
    sentences = [paragraph(fact.html()) for fact in told[:HEADLINES]]
    return tag("div", *sentences, paragraph(text("In brackets: 95 % intervals."), class_="meta"), class_="headline")


def _notices(runs: Sequence[Folder]) -> Html:
    """What must be read together with the result, as a run's summary says it: that the labelers are simulated, say."""
    said = dict.fromkeys(str(run.summary["notice"]) for run in runs if run.summary.get("notice"))
    return tag("div", *(paragraph(text(notice)) for notice in said), class_="notice") if said else Html("")


def _judges(runs: Sequence[Folder]) -> Html:
    """What judged the policies and what trained them, said apart: the same number must not do both."""
    judged, trained = [], []
    for run in runs:
        if run.stage == "ppo":
            judge = _names(run, run.config.get("judge") or "none")
            judged.append(about(run.name, NO_JUDGE if judge == "none" else f"is judged by {judge}, {JUDGE_DOES}"))
            trained.append(
                about(run.name, f"is trained to raise the score of {_names(run, run.config.get('reward'))}.")
            )
        scorers: dict[tuple[str, bool, str], list[str]] = {}
        for found in comparisons(run):
            scorer = (run.called(found.get("judge")), bool(found.get("independent")), str(found.get("note") or ""))
            scorers.setdefault(scorer, []).append(f"{found.get('a')} with {found.get('b')}")
        for (name, independent, note), sides in scorers.items():
            who = f"({note}) " if note else ""
            (judged if independent else trained).append(about(name, f"{who}compares {', and '.join(sides)}."))
    parts = []
    if judged:
        told = " decide whether a policy is better:"
        parts += [paragraph(tag("strong", text("Independent judges")), text(told)), listing(judged)]
    if trained:
        told = " are what training maximises. They rise by design, and prove nothing by themselves:"
        parts += [paragraph(tag("strong", text("Training rewards")), text(told)), listing(trained)]
    return join(parts)


def _names(run: Folder, found: object) -> str:
    several = found if isinstance(found, list | tuple) else [found]
    return " and ".join(map(run.called, several))


def _by_run(runs: Sequence[Folder], part: Callable[[Folder], Html]) -> Html:
    """A part of every run that has it, under the run's name when there are several."""
    shown = [(run, found) for run in runs if (found := part(run))]
    if len(runs) == 1:
        return join(found for _, found in shown)
    return join(tag("h3", text(f"{STAGE_NAMES.get(run.stage, run.stage)}: {run.name}")) + found for run, found in shown)
