"""A machine's scores of responses, from the file that `plaudit score out=…` writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from plaudit.core.errors import DataError
from plaudit.core.records import Prompt
from plaudit.datasets.formats import prompt_row
from plaudit.datasets.problems import RowProblem
from plaudit.datasets.sources import raw_rows
from plaudit.feedback.quality.outcomes import Floats, Outcomes
from plaudit.feedback.quality.records import Judgment

Scores = Mapping[tuple[Prompt, str], float]


def read_scores(path: str | Path) -> Scores:
    """Score of each (prompt, response); unscored ones are left out.

    Rows hold `prompt`, `responses` and `scores`, or a comparison with `chosen_score` and `rejected_score`.

    Raises:
        DataError: a row without scores, or as many scores as it has no responses.
    """
    found: dict[tuple[Prompt, str], float] = {}
    for source, row in raw_rows(str(path)):
        if isinstance(row, RowProblem) or not isinstance(row, dict):
            raise DataError(f"{source}: {row}; write one JSON object a line with `prompt`, `responses` and `scores`.")
        fields = cast(dict[str, Any], row)
        try:
            prompt = prompt_row(fields, source).prompt
        except RowProblem as problem:
            raise DataError(f"{source}: {problem}.") from problem
        texts, scores = _scored(fields)
        if not scores or len(texts) != len(scores):
            raise DataError(
                f"{source}: {len(texts)} responses and {len(scores)} scores; make the file with plaudit score out=…"
            )
        found |= {(prompt, text): float(score) for text, score in zip(texts, scores, strict=True) if score is not None}
    return found


def _scored(row: Mapping[str, Any]) -> tuple[list[str], list[float | None]]:
    if "chosen_score" in row:
        return [row.get("chosen", ""), row.get("rejected", "")], [row["chosen_score"], row.get("rejected_score")]
    items = cast(list[str | dict[str, str]], row.get("responses", []))
    texts = [item if isinstance(item, str) else item.get("text", "") for item in items]
    return texts, list(cast(list[float | None], row.get("scores", [])))


def machine_outcomes(judgments: Sequence[Judgment], table: Outcomes, scores: Scores) -> Floats:
    """(n,): 1, 0, -1 as the machine scores the first response above, equal to or below the second; NaN if unscored."""
    widest = max((len(judgment.responses) for judgment in judgments), default=0)
    values = np.full((len(judgments), widest), np.nan)
    for number, judgment in enumerate(judgments):
        for place, text in enumerate(judgment.responses):
            values[number, place] = scores.get((judgment.prompt, text), np.nan)
    return np.sign(values[table.judgment, table.first] - values[table.judgment, table.second])
