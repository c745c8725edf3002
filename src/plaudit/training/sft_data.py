"""Demonstrations on their way into the model: read, split by prompt, rendered to token ids, fitted, counted."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from plaudit.core.records import Demonstration, TokenGroup, prompt_key
from plaudit.core.seeding import derive
from plaudit.datasets.fit import Fitted, fit_groups
from plaudit.datasets.read import read_demonstrations
from plaudit.datasets.render import Renderer
from plaudit.datasets.splits import check_leaks, split_by_prompt
from plaudit.models.packing import packed_length
from plaudit.training.sft_config import SFTConfig


class Demonstrations(NamedTuple):
    """Rows to train and to measure on, without a prompt in common, and the hashes of their files."""

    train: list[Demonstration]
    held_out: list[Demonstration]
    hashes: dict[str, str]
    notes: list[str]


class Examples(NamedTuple):
    """Rows as token ids."""

    train: Fitted
    held_out: Fitted


def read_data(config: SFTConfig) -> Demonstrations:
    """Read `data`, and `eval_data` or a held-out share of the prompts.

    Raises:
        DataError: a bad row, or prompts to measure on that are also trained on.
    """
    rows = read_demonstrations(config.data, limit=config.limit)
    if config.eval_data is None:
        split = split_by_prompt(rows.rows, held_out=config.held_out, seed=derive(config.seed, "held out"))
        return Demonstrations(split.train, split.held_out, rows.inputs("data"), rows.notes)
    measured = read_demonstrations(config.eval_data)
    check_leaks(rows.rows, measured.rows)
    hashes = rows.inputs("data") | measured.inputs("eval_data")
    return Demonstrations(rows.rows, measured.rows, hashes, [*rows.notes, *measured.notes])


def encode(data: Demonstrations, renderer: Renderer, config: SFTConfig) -> Examples:
    """Token ids of all rows; the held-out ones limited to `eval_limit` prompts, drawn by the seed.

    Raises:
        DataError: more rows than tolerable are longer than max_tokens.
    """
    order = {prompt_key(row.prompt): derive(config.seed, "held out", prompt_key(row.prompt)) for row in data.held_out}
    chosen = set(sorted(order, key=order.__getitem__)[: config.eval_limit])
    measured = [row for row in data.held_out if prompt_key(row.prompt) in chosen]
    return Examples(_encode(data.train, renderer, config), _encode(measured, renderer, config))


def merge_prompts(groups: Sequence[TokenGroup], *, max_tokens: int) -> list[TokenGroup]:
    """Groups of the same prompt as one, so that the prompt is computed once; none grows beyond `max_tokens`."""
    open_groups: dict[tuple[int, ...], TokenGroup] = {}
    full: list[TokenGroup] = []
    for group in groups:
        before = open_groups.get(group.prompt)
        merged = group if before is None else TokenGroup(group.prompt, before.responses + group.responses)
        if before is not None and packed_length(merged) > max_tokens:
            full.append(before)
            merged = group
        open_groups[group.prompt] = merged
    return [*full, *open_groups.values()]


def count_data(data: Demonstrations, examples: Examples) -> dict[str, Any]:
    """Rows and prompts of both sides, and what was left out, by cause."""
    sides = {"train": (data.train, examples.train), "held_out": (data.held_out, examples.held_out)}
    return {
        name: {
            "rows": len(rows),
            "prompts": len({prompt_key(row.prompt) for row in rows}),
            "used": len(fitted.kept),
            "left_out": fitted.by_cause,
        }
        for name, (rows, fitted) in sides.items()
    } | {"notes": data.notes}


def describe_data(data: Demonstrations, examples: Examples) -> str:
    """The counts in a line for the start of the run."""
    counts = count_data(data, examples)
    parts = [
        f"{counts[side]['used']:,} demonstrations of {counts[side]['prompts']:,} prompts {verb}"
        for side, verb in (("train", "to train on"), ("held_out", "held out"))
    ]
    for cause in dict.fromkeys([*examples.train.by_cause, *examples.held_out.by_cause]):
        lost = [fitted.by_cause.get(cause, 0) for fitted in examples]
        parts.append(f"{sum(lost)} left out, {cause}")
    return "; ".join([*parts, *data.notes])


def _encode(rows: Sequence[Demonstration], renderer: Renderer, config: SFTConfig) -> Fitted:
    groups = [renderer.group(row.prompt, [row.response]) for row in rows]
    if config.loss_on == "all":
        groups = [_supervise_everything(group) for group in groups]
    return fit_groups(groups, config.max_tokens)


def _supervise_everything(group: TokenGroup) -> TokenGroup:
    """All but the first token as response: the first has no state before it that could predict it."""
    return TokenGroup(group.prompt[:1], tuple(group.prompt[1:] + response for response in group.responses))
