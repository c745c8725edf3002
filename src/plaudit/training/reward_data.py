"""The data of a reward run: judgments read, merged, split by prompt and turned into token groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from plaudit.core.errors import DataError
from plaudit.core.records import Demonstration, TokenGroup
from plaudit.core.seeding import derive
from plaudit.datasets.fit import fit_groups
from plaudit.datasets.judgments import JudgedPrompt, keep_texts, merge_judgments
from plaudit.datasets.read import Rows, read_demonstrations
from plaudit.datasets.render import Renderer
from plaudit.datasets.splits import check_leaks, split_by_prompt
from plaudit.training.judged import Judged, read_judged, split_group
from plaudit.training.reward_config import RewardConfig

ZERO_DEMONSTRATIONS = 256  # the mean needs no more (Ziegler et al. 2019 take as many), and each costs a whole pass


class Judgments(NamedTuple):
    """Prompts to train on, to choose the epoch on (maybe none), and to measure on. No prompt is in two of them."""

    train: list[JudgedPrompt]
    choose: list[JudgedPrompt]
    held_out: list[JudgedPrompt]
    zero_on: list[Demonstration]  # whose mean score is to be 0; none takes the training texts
    counts: dict[str, int]
    hashes: dict[str, str]
    notes: list[str]


class Examples(NamedTuple):
    """Judged prompts beside their token ids: response i of a group is text i of its prompt."""

    prompts: list[JudgedPrompt]
    groups: list[TokenGroup]
    lost: dict[str, int]  # texts left out, by cause, and pairs lost with them, by side

    @property
    def texts(self) -> int:
        """Number of texts."""
        return sum(len(group.responses) for group in self.groups)


def read_judgments(config: RewardConfig) -> Judgments:
    """Read, split by prompt, merge.

    Raises:
        DataError: the file holds no judgments, several criteria and none is chosen, no strict pair is left to train
            or to measure on, or eval_data shares prompts with data.
    """
    found = _read(config.data, config, limit=config.limit)
    hashes, notes = found.inputs("data"), list(found.notes)
    if config.eval_data is None:
        train, held_out = _split(found.rows, config.held_out, config.seed)
    else:
        measured = _read(config.eval_data, config, limit=None)
        check_leaks(found.rows, measured.rows)
        hashes |= measured.inputs("eval_data")
        notes += measured.notes
        train, held_out = found.rows, measured.rows
    choose: list[Judged] = []
    if config.choose_epoch:
        train, choose = _split(train, config.held_out, derive(config.seed, "choose"))
    zero_on: list[Demonstration] = []
    if config.normalise_on is not None:
        demonstrations = read_demonstrations(config.normalise_on)
        hashes |= demonstrations.inputs("normalise_on")
        by_number = sorted(demonstrations.rows, key=lambda row: derive(config.seed, "zero", str(row.source)))
        zero_on = by_number[:ZERO_DEMONSTRATIONS]
    learned, choosing, measured_on = (
        [one for one in merge_judgments(part) if _teaches(one, config)] for part in (train, choose, held_out)
    )
    _require_strict(learned, "train on", config)
    _require_strict(measured_on, "measure accuracy on", config)
    return Judgments(learned, choosing, measured_on, zero_on, _counts(learned, measured_on), hashes, notes)


def _read(path: str, config: RewardConfig, *, limit: int | None) -> Rows[Judged]:
    return read_judged(path, learner="a reward model", criterion=config.criterion, limit=limit)


def _split(rows: list[Judged], held_out: float, seed: int) -> tuple[list[Judged], list[Judged]]:
    split = split_by_prompt(rows, held_out=held_out, seed=seed)
    return split.train, split.held_out


def _teaches(one: JudgedPrompt, config: RewardConfig) -> bool:
    """Whether a prompt has a pair to learn from."""
    return any(judgment.weight > 0 and (config.ties != "drop" or pair.label != 0.5) for judgment, pair in one.pairs())


def _require_strict(prompts: Sequence[JudgedPrompt], purpose: str, config: RewardConfig) -> None:
    if not any(pair.label != 0.5 for one in prompts for _, pair in one.pairs()):
        raise DataError(
            f"{config.data}: no pair with a preference is left to {purpose}: {len(prompts)} prompts, and every pair is "
            "a tie or of identical texts. Add judgments that prefer one answer, or change held_out."
        )


def _counts(train: Sequence[JudgedPrompt], held_out: Sequence[JudgedPrompt]) -> dict[str, int]:
    pairs = [pair for one in train for _, pair in one.pairs()]
    everybody = [j for one in (*train, *held_out) for j in one.judgments]
    return {
        "train_prompts": len(train),
        "held_out_prompts": len(held_out),
        "train_texts": sum(len(one.texts) for one in train),
        "train_judgments": sum(len(one.judgments) for one in train),
        "train_pairs": len(pairs),
        "train_ties": sum(pair.label == 0.5 for pair in pairs),
        "labelers": len({j.labeler for j in everybody if j.labeler is not None}),
    }


def read_examples(
    prompts: Sequence[JudgedPrompt], renderer: Renderer, config: RewardConfig, *, split: bool
) -> Examples:
    """Token groups of judged prompts. With `split`, a prompt too large for one row is split by its judgments.

    Raises:
        DataError: more texts than `fit_groups` allows are longer than max_tokens.
    """
    if not prompts:
        return Examples([], [], {})
    fitted = fit_groups([renderer.group(one.prompt, one.texts) for one in prompts], config.max_tokens)
    lost = Counter(fitted.by_cause)
    kept: list[tuple[JudgedPrompt, TokenGroup]] = []
    for index, texts, group in zip(fitted.indices, fitted.responses, fitted.kept, strict=True):
        lost.update(_lost_sides(prompts[index], set(texts)))
        one = keep_texts(prompts[index], texts)
        parts = split_group(one, group, config.micro_tokens) if split else [(one, group)]
        kept.extend((part, tokens) for part, tokens in parts if _teaches(part, config))
    return Examples([one for one, _ in kept], [group for _, group in kept], dict(lost))


def _lost_sides(judged: JudgedPrompt, kept: set[int]) -> dict[str, int]:
    """Strict pairs lost with a text that is too long: was it the better one, or the other?"""
    strict = [pair for _, pair in judged.pairs() if pair.label != 0.5]
    lost = {
        "pairs lost, better text too long": sum(pair.first not in kept for pair in strict),
        "pairs lost, worse text too long": sum(pair.second not in kept for pair in strict),
    }
    return {name: count for name, count in lost.items() if count}
