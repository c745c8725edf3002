"""Everything that a set of judgments says about itself, by criterion: data for JSON, pages and text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from plaudit.core.errors import DataError
from plaudit.feedback.bias.groups import SMALLEST
from plaudit.feedback.bias.report import BiasAudit, audit
from plaudit.feedback.bias.scores import Scores
from plaudit.feedback.quality.agreement import Agreement, agreement
from plaudit.feedback.quality.drift import Drift, drift
from plaudit.feedback.quality.labeler_pairs import LabelerPair, labeler_pairs
from plaudit.feedback.quality.labelers import LabelerCard, labeler_cards
from plaudit.feedback.quality.outcomes import first_judgments, outcomes
from plaudit.feedback.quality.records import Judgment
from plaudit.feedback.quality.reliability import Reliability, reliability


@dataclass(frozen=True, slots=True)
class Quality:
    """The statistics of the judgments of one criterion.

    counts: judgments, repeats, items, prompts, labelers, pairs, and judgments by kind of labeler.
    """

    criterion: str | None
    counts: dict[str, int]
    agreement: Agreement
    labelers: tuple[LabelerCard, ...]
    labeler_pairs: tuple[LabelerPair, ...]
    reliability: Reliability
    drift: Drift
    bias: BiasAudit

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON takes it."""
        return asdict(self)


def report(
    judgments: Sequence[Judgment],
    *,
    suggestions: Scores | None = None,
    reward: Scores | None = None,
    answers: Mapping[str, Mapping[str, str]] | None = None,
    smallest_group: int = SMALLEST,
    seed: int = 0,
) -> list[Quality]:
    """One result a criterion, in the order of their names. Arguments as of `bias.report.audit`.

    Raises:
        DataError: no judgments.
    """
    if not judgments:
        raise DataError("There are no judgments: statistics need at least one ranking by a named labeler.")
    criteria = sorted({judgment.criterion for judgment in judgments}, key=lambda name: (name is not None, name or ""))
    return [
        _of_criterion(
            name,
            [judgment for judgment in judgments if judgment.criterion == name],
            suggestions=suggestions,
            reward=reward,
            answers=answers,
            smallest_group=smallest_group,
            seed=seed,
        )
        for name in criteria
    ]


def _of_criterion(
    criterion: str | None,
    judgments: Sequence[Judgment],
    *,
    suggestions: Scores | None,
    reward: Scores | None,
    answers: Mapping[str, Mapping[str, str]] | None,
    smallest_group: int,
    seed: int,
) -> Quality:
    firsts = first_judgments(judgments)
    table = outcomes(firsts)
    counts = {
        "judgments": len(judgments),
        "repeats": len(judgments) - len(firsts),
        "items": len({judgment.item for judgment in judgments}),
        "prompts": table.prompts,
        "labelers": len(table.labelers),
        "pairs": len(table),
        **{f"by_{kind}": count for kind, count in sorted(Counter(judgment.kind for judgment in judgments).items())},
    }
    return Quality(
        criterion=criterion,
        counts=counts,
        agreement=agreement(firsts, table),
        labelers=tuple(labeler_cards(judgments, table)),
        labeler_pairs=tuple(labeler_pairs(table)),
        reliability=reliability(firsts, table, seed=seed),
        drift=drift(firsts, table),
        bias=audit(
            firsts, table, suggestions=suggestions, reward=reward, answers=answers, smallest_group=smallest_group
        ),
    )
