"""The headline of runs as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from plaudit.reports.figures import spoken
from plaudit.reports.folders import read_folders
from plaudit.reports.markup import plain
from plaudit.reports.stages import STAGE_NAMES, facts


def overview(folders: Sequence[Path]) -> Table:
    """One line a measured number: stage, run, what was measured, the number with its interval.

    Names come from files, so they are shown as text: neither markup nor terminal control codes in them do anything.

    Raises:
        RunError: no run folder there, or a damaged file.
    """
    table = Table(caption="In brackets: 95 % intervals.", caption_justify="left", box=None, pad_edge=False)
    table.add_column("Stage")
    table.add_column("Measured", ratio=1)
    table.add_column("Result", justify="right", no_wrap=True)
    for folder in read_folders(folders):
        stage = STAGE_NAMES.get(folder.stage, folder.stage)
        told = facts(folder)
        if not told:
            table.add_row(_safe(stage), _safe(folder.name), _safe("no result yet" if not folder.finished else "–"))
        for fact in told:
            result = Text(spoken(fact.found, share=fact.share), style="bold" if fact.independent else "dim")
            table.add_row(_safe(stage), _safe(fact.subject), result)
            stage = ""
    return table


def _safe(value: str) -> Text:
    return Text(plain(value))
