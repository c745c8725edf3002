"""Quality: do labelers agree, who stands apart, does it change?"""

from typing import Final, NamedTuple

from fastapi import APIRouter
from markupsafe import Markup
from starlette.responses import Response

from plaudit.feedback.quality.drift import Change
from plaudit.feedback.quality.intervals import Estimate
from plaudit.feedback.quality.report import Quality
from plaudit.feedback.quality.text import notable, shown
from plaudit.web.figures import bar_chart, count
from plaudit.web.pages.statistics_filter import chosen_criterion, read_filter, statistics
from plaudit.web.quality_plots import agreement_of_labelers, agreement_of_pairs, drift_charts
from plaudit.web.visit import Admin

router = APIRouter(prefix="/admin/quality")

KIND_WORDS: Final = {"person": "people", "simulated": "simulated labelers", "ai": "AI labelers"}


class Explained(NamedTuple):
    """A figure of agreement: its field, its name, whether it is a share, and what it means."""

    name: str
    label: str
    share: bool
    words: str


class AgreementRow(NamedTuple):
    """A figure as a row of the table."""

    label: str
    words: str
    share: bool
    estimate: Estimate


AGREEMENT: Final = (
    Explained("strict", "Two labelers agree", True, "On pairs that both ranked strictly; the figure papers report."),
    Explained("with_ties", "… with ties as answers", True, "All pairs; equal counts as an answer like the others."),
    Explained("half_credit", "… with half credit", True, "A tie against a preference counts as half an agreement."),
    Explained(
        "ceiling",
        "One labeler with the others' majority",
        True,
        "What a reward model could reach on these pairs if it were as good as one more labeler.",
    ),
    Explained("tie_rate", "Pairs called equal", True, "Many ties: the answers are alike, or nobody looks closely."),
    Explained("alpha_nominal", "Krippendorff's alpha, nominal", False, "Above chance: 0 is chance, 1 is always."),
    Explained(
        "alpha_ordinal", "Krippendorff's alpha, ordinal", False, "The same; a tie is half way to the other side."
    ),
    Explained("fleiss_kappa", "Fleiss' kappa", False, "Above chance, for several labelers a pair."),
    Explained("tau_b", "Kendall's tau-b", False, "Of whole rankings, two labelers at a time: −1 to 1."),
    Explained("kendall_w", "Kendall's W", False, "Of whole rankings by three labelers or more: 0 to 1."),
)
FIGURES: Final = {"majority": "agreement with the others", "tie_rate": "share of ties", "seconds": "seconds a judgment"}


@router.get("")
def quality(member: Admin, batch: str = "", kind: str = "", criterion: str = "") -> Response:
    """The figures of one kind of labelers."""
    asked = read_filter(member, batch, kind)
    found = statistics(member, asked.asked)
    chosen, criteria = chosen_criterion(found, criterion)
    shared = {"asked": asked.asked, "batches": asked.batches, "kinds": asked.kinds, "criteria": criteria}
    if chosen is None:
        return member.page("admin_quality.html", quality=None, **shared)
    rows = [AgreementRow(one.label, one.words, one.share, getattr(chosen.agreement, one.name)) for one in AGREEMENT]
    return member.page(
        "admin_quality.html",
        quality=chosen,
        found=found,
        lead=lead(chosen, asked.asked.kind),
        notable=notable(chosen.labelers),
        changes=[
            change_in_words(change) for change in chosen.drift.changes if change.p is not None and change.p < 0.05
        ],
        agreement_rows=rows,
        agreement_chart=bar_chart(
            "How often labelers agree",
            "share of judgments or pairs",
            [(row.label, row.estimate) for row in rows if row.share],
        ),
        labeler_charts=[Markup(agreement_of_labelers(chosen)), Markup(agreement_of_pairs(chosen))],
        repeated=any(card.consistency.value is not None for card in chosen.labelers),
        weights={one.labeler: one.weight for one in chosen.reliability.labelers},
        drift_charts=[Markup(chart) for chart in drift_charts(chosen)],
        **shared,
    )


def lead(found: Quality, kind: str) -> str:
    """The most important figure in a sentence."""
    counts = found.counts
    strict = shown(found.agreement.strict, share=True)
    agree = (
        f"Two of them put {strict} of the pairs that both ranked strictly in the same order."
        if found.agreement.strict.value is not None
        else f"How often two of them agree cannot be said: {found.agreement.strict.reason}."
    )
    return (
        f"{count(counts['judgments'])} rankings of {count(counts['items'])} tasks by {count(counts['labelers'])} "
        f"{KIND_WORDS[kind]}. {agree}"
    )


def change_in_words(change: Change) -> str:
    """A change that is more than chance, from the first to the last period."""
    of_time = change.figure == "seconds"
    words = shown(change.difference, share=not of_time).replace(" %", "", 1)
    unit = "seconds" if of_time else "points"
    return f"the {FIGURES[change.figure]} changed by {words} {unit} from the first period to the last."
