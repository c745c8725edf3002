"""Checks of a data set."""

from collections.abc import Iterator, Sequence
from typing import Any

from plaudit.cli.checks import Check, error, ok, warning
from plaudit.core.records import Comparison, Demonstration, Ranking

MAX_OPPOSITE = 0.3


def check(path: str, model: str | None) -> Iterator[Check]:
    """Counts, duplicates, contradictions and lengths; in tokens if a model is named."""
    from plaudit.datasets.read import read_any

    found = read_any(path)
    counts = found.counts
    yield ok("kind", f"{found.kind}, {counts['rows']} rows over {counts['prompts']} prompts")
    for note in found.notes:
        yield warning("rows", note, "Look at these rows; they are used as they stand.")
    pairs, opposite = counts.get("judged_pairs", 0), counts.get("opposite_pairs", 0)
    if pairs and opposite > MAX_OPPOSITE * pairs:
        yield error(
            "agreement",
            f"{opposite / pairs:.0%} of the pairs were judged in both directions",
            "No reward model can be right more often than people agree: check what `ranks` means, or the guidelines.",
        )
    elif pairs:
        yield ok("agreement", f"{opposite} of {pairs} pairs judged in both directions")
    answers = [text for row in found.rows for text in _answers(row)]
    if answers:
        yield ok("answer length", _spread([len(text) for text in answers], "characters"))
    if model is not None:
        yield from _check_tokens(found.rows, model)


def _check_tokens(rows: Sequence[Any], model: str) -> Iterator[Check]:
    from transformers import AutoConfig

    from plaudit.datasets.render import Renderer
    from plaudit.models.load import load_tokenizer, resolve_model

    folder = resolve_model(model)
    renderer = Renderer(load_tokenizer(folder))
    context = getattr(AutoConfig.from_pretrained(folder), "max_position_embeddings", None)
    groups = [renderer.group(row.prompt, _answers(row)) for row in rows]
    lengths = [len(group.prompt) + max(map(len, group.responses), default=0) for group in groups]
    yield ok("tokens", _spread(lengths, "tokens, prompt with its longest answer"))
    long = sum(length > context for length in lengths) if context else 0
    if long:
        worst = lengths.index(max(lengths))
        yield error(
            "context",
            f"{long} rows are longer than the {context} tokens of {model}; the longest is {rows[worst].source}",
            "They are left out of training. Shorten them, or use a model with a longer context.",
        )


def _answers(row: Any) -> tuple[str, ...]:
    match row:
        case Demonstration():
            return (row.response,)
        case Comparison():
            return (row.chosen, row.rejected)
        case Ranking():
            return row.responses
        case _:
            return ()


def _spread(lengths: Sequence[int], unit: str) -> str:
    ordered = sorted(lengths)
    return f"median {ordered[len(ordered) // 2]}, longest {ordered[-1]} {unit}"
