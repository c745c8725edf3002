"""Judged pairs on their way into the policy: read, split by prompt, merged, rendered to token ids, fitted, counted."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from plaudit.core.errors import ConfigError, DataError
from plaudit.core.records import TokenGroup
from plaudit.core.seeding import derive
from plaudit.datasets.fit import fit_groups
from plaudit.datasets.judgments import JudgedPrompt, keep_texts, merge_judgments
from plaudit.datasets.read import Rows
from plaudit.datasets.render import Renderer
from plaudit.datasets.splits import check_leaks, split_by_prompt
from plaudit.training.dpo_config import DPOConfig
from plaudit.training.judged import Judged, read_judged, split_group


class Preferences(NamedTuple):
    """Prompts to train and to measure on, each with a strict preference, and the hashes of their files."""

    train: list[JudgedPrompt]
    held_out: list[JudgedPrompt]
    hashes: dict[str, str]
    notes: list[str]


class Examples(NamedTuple):
    """Judged prompts beside their token ids: response i of a group is text i of its prompt."""

    prompts: list[JudgedPrompt]
    groups: list[TokenGroup]
    left_out: dict[str, int]
    """Texts by cause."""


def read_preferences(config: DPOConfig) -> Preferences:
    """Read `data`, and `eval_data` or a held-out share of the prompts.

    Raises:
        DataError: a bad row, no judgments, several criteria, no strict preference on a side, or prompts to measure on
            that are also trained on.
        ConfigError: the data has margins and the loss has a target of its own.
    """
    rows = _read(config.data, config, limit=config.limit)
    hashes = rows.inputs("data")
    if config.eval_data is None:
        split = split_by_prompt(rows.rows, held_out=config.held_out, seed=derive(config.seed, "held out"))
        train, held_out = split.train, split.held_out
    else:
        measured = _read(config.eval_data, config, limit=None)
        check_leaks(rows.rows, measured.rows)
        hashes |= measured.inputs("eval_data")
        train, held_out = rows.rows, measured.rows
    learned = _with_preferences(train, "train on", config)
    measured_on = _with_preferences(held_out, "measure on", config)
    _check_margins([*learned, *measured_on], config)
    return Preferences(learned, measured_on, hashes, rows.notes)


def encode(prompts: Sequence[JudgedPrompt], renderer: Renderer, config: DPOConfig) -> Examples:
    """Token groups of judged prompts; a prompt whose texts overflow a pass is split by its judgments.

    Raises:
        DataError: more texts than tolerable are longer than max_tokens.
    """
    fitted = fit_groups([renderer.group(one.prompt, one.texts) for one in prompts], config.max_tokens)
    kept: list[tuple[JudgedPrompt, TokenGroup]] = []
    for index, texts, group in zip(fitted.indices, fitted.responses, fitted.kept, strict=True):
        parts = split_group(keep_texts(prompts[index], texts), group, config.micro_tokens)
        kept += [(part, tokens) for part, tokens in parts if _has_preference(part)]
    return Examples([one for one, _ in kept], [group for _, group in kept], fitted.by_cause)


def count_data(examples: Examples) -> dict[str, int | dict[str, int]]:
    """Prompts, texts, strict pairs and ties, and texts left out by cause."""
    pairs = Counter(pair.label != 0.5 for one in examples.prompts for _, pair in one.pairs())
    return {
        "prompts": len({one.key for one in examples.prompts}),
        "texts": sum(len(group.responses) for group in examples.groups),
        "pairs": pairs[True],
        "ties_not_used": pairs[False],
        "left_out": examples.left_out,
    }


def describe_data(learn: Examples, measure: Examples, notes: Sequence[str]) -> str:
    """The counts in a line for the start of the run."""
    parts: list[str] = []
    for examples, verb in ((learn, "to train on"), (measure, "held out")):
        counts = count_data(examples)
        parts.append(f"{counts['pairs']:,} pairs of {counts['texts']:,} texts for {counts['prompts']:,} prompts {verb}")
        if counts["ties_not_used"]:
            parts.append(f"{counts['ties_not_used']:,} ties not used")
        parts += [f"{count:,} texts left out, {cause}" for cause, count in examples.left_out.items()]
    return "; ".join([*parts, *notes])


def _read(path: str, config: DPOConfig, *, limit: int | None) -> Rows[Judged]:
    return read_judged(path, learner="DPO", criterion=config.criterion, limit=limit)


def _with_preferences(rows: Sequence[Judged], purpose: str, config: DPOConfig) -> list[JudgedPrompt]:
    prompts = [one for one in merge_judgments(rows) if _has_preference(one)]
    if not prompts:
        raise DataError(
            f"{config.data}: no pair with a preference is left to {purpose}: every pair is a tie or of identical "
            "texts. Add judgments that prefer one answer, or change held_out."
        )
    return prompts


def _has_preference(one: JudgedPrompt) -> bool:
    return any(judgment.weight > 0 and pair.label != 0.5 for judgment, pair in one.pairs())


def _check_margins(prompts: Sequence[JudgedPrompt], config: DPOConfig) -> None:
    margins = sum(bool(judgment.margin) for one in prompts for judgment in one.judgments)
    if margins and config.loss in ("ipo", "ipo_sum"):
        raise ConfigError(
            f"loss={config.loss} has a target of its own and no use for margins, but {margins} comparisons of "
            f"{config.data} have one. Use loss=sigmoid, or remove the field `margin`."
        )
