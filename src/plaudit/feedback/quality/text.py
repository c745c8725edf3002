"""Statistics of judgments as lines of plain text, for a terminal."""

from collections.abc import Iterable

from plaudit.feedback.bias.effects import Effect
from plaudit.feedback.quality.intervals import Estimate
from plaudit.feedback.quality.labelers import LabelerCard
from plaudit.feedback.quality.report import Quality

MOST_LABELERS = 15
_FIGURES = {
    "strict": ("two labelers agree, strictly ranked pairs", True),
    "with_ties": ("… all pairs, a tie being an answer", True),
    "half_credit": ("… a tie against a preference counting half", True),
    "ceiling": ("a labeler agrees with the others' majority", True),
    "tie_rate": ("pairs called equal", True),
    "alpha_nominal": ("Krippendorff's alpha, nominal", False),
    "alpha_ordinal": ("Krippendorff's alpha, ordinal", False),
    "fleiss_kappa": ("Fleiss' kappa", False),
    "tau_b": ("Kendall's tau-b, mean of two labelers", False),
    "kendall_w": ("Kendall's W, three labelers or more", False),
}


def describe(quality: Quality) -> str:
    """One criterion: counts, agreement, labelers who stand out, weights, drift, bias."""
    counts = quality.counts
    title = f"Criterion {quality.criterion}" if quality.criterion else "Judgments"
    lines = [
        f"{title}: {counts['judgments']} judgments of {counts['items']} items ({counts['prompts']} prompts) "
        f"by {counts['labelers']} labelers; {counts['pairs']} judged pairs",
        "",
        "Agreement",
    ]
    for name, (label, share) in _FIGURES.items():
        lines.append(f"  {label:<46} {shown(getattr(quality.agreement, name), share=share)}")
    lines += ["", *_labelers(quality), "", *_weights(quality), "", *_drift(quality), "", *_bias(quality)]
    return "\n".join(lines)


def shown(estimate: Estimate, *, share: bool) -> str:
    """An estimate in words: value, interval, n; or why there is none."""
    if estimate.value is None:
        return f"none: {estimate.reason}"
    interval = f" ({estimate.reason})"
    if estimate.low is not None and estimate.high is not None:
        interval = f" (95 % {_number(estimate.low, share)} to {_number(estimate.high, share)}, n = {estimate.n})"
    return f"{_number(estimate.value, share)}{' %' if share else ''}{interval}"


def notable(cards: Iterable[LabelerCard]) -> list[tuple[LabelerCard, list[str]]]:
    """Labelers to talk to, with what stands out; nothing here proves carelessness."""
    found: list[tuple[LabelerCard, list[str]]] = []
    for card in cards:
        reasons: list[str] = []
        if card.all_equal.low is not None and card.all_equal.low > 0.5:
            reasons.append(f"calls everything equal in {shown(card.all_equal, share=True)} of judgments")
        if card.too_fast.low is not None and card.too_fast.low > 0.2:
            reasons.append(f"is too fast to have read in {shown(card.too_fast, share=True)} of judgments")
        if card.majority.high is not None and card.majority.high < 0.5:
            reasons.append(f"agrees with the others' majority on {shown(card.majority, share=True)} of strict pairs")
        if card.gold_alarm:
            reasons.append(f"passes {shown(card.gold, share=True)} of gold questions")
        if reasons:
            found.append((card, reasons))
    return found


def _labelers(quality: Quality) -> list[str]:
    lines = [f"Labelers (the {MOST_LABELERS} with most judgments; agreement with the others' majority on strict pairs)"]
    for card in quality.labelers[:MOST_LABELERS]:
        pace = "" if card.seconds is None else f", {card.seconds:.0f} s a judgment"
        lines.append(f"  {card.labeler:<20} {card.judgments:>5} judgments  {shown(card.majority, share=True)}{pace}")
    stand_out = notable(quality.labelers)
    lines.append(f"Worth a talk: {len(stand_out)} of {len(quality.labelers)} labelers")
    lines += [f"  {card.labeler}: {'; '.join(reasons)}" for card, reasons in stand_out[:MOST_LABELERS]]
    return lines


def _weights(quality: Quality) -> list[str]:
    gain = quality.reliability.gain
    advice = "recommended" if quality.reliability.recommended else "not recommended"
    return [
        f"Weights by reliability: {advice}. Held-out judgments predicted better than with equal weights, in points: "
        f"{shown(gain, share=True)}"
    ]


def _drift(quality: Quality) -> list[str]:
    if quality.drift.reason:
        return [f"Drift: no figure: {quality.drift.reason}"]
    lines = ["Drift, last eighth of the judgments minus first"]
    for change in quality.drift.changes:
        adjusted = "" if change.p is None else f", adjusted p = {change.p:.3f}"
        share = change.figure != "seconds"
        lines.append(f"  {change.figure:<10} {shown(change.difference, share=share)}{adjusted}")
    return lines


def _bias(quality: Quality) -> list[str]:
    everybody = [effect for effect in quality.bias.effects if effect.labeler == "everybody"]
    single = [effect for effect in quality.bias.effects if effect.labeler != "everybody"]
    found = [effect for effect in single if effect.found]
    tested = sum(effect.p is not None for effect in single)
    lines = ["Bias, all labelers together (a taste for long answers may be right)", *_sentences(everybody)]
    lines.append(f"Bias of single labelers, against the others: {len(found)} of {tested} tests found an effect")
    lines += _sentences(found)
    if quality.bias.groups:
        lines += ["Groups", *_sentences([result.effect for result in quality.bias.groups])]
    if quality.bias.reward:
        lines += ["Reward model, and people on the same pairs", *_sentences(quality.bias.reward)]
    return lines


def _sentences(effects: Iterable[Effect]) -> list[str]:
    return [f"  {effect.sentence}" for effect in effects]


def _number(value: float, share: bool) -> str:
    return (f"{100 * value:.1f}" if share else f"{value:.3f}").replace("-", "−")
