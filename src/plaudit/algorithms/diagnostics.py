"""Signs of degenerate text, on token ids: repetition, length, collapse of variety."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Lengths(NamedTuple):
    """Response lengths in tokens."""

    mean: float
    median: float
    largest: int
    at_limit: float
    """Share of responses that reached the limit, and so were probably cut."""


def distinct(sequences: Sequence[Sequence[int]], *, n: int) -> float:
    """Distinct n-grams over all n-grams of the whole set: 1 is all different. Li et al. 2016 (arXiv 1510.03055).

    Falls with the amount of text, so compare sets of equal size.

    Raises:
        ValueError: no sequence has n tokens.
    """
    counts = _ngram_counts(sequences, n)
    return len(counts) / counts.total()


def repetition(sequence: Sequence[int], *, n: int) -> float:
    """Share of n-grams that repeat an earlier one of the same sequence; 0 for one shorter than n tokens."""
    total = max(len(sequence) - n + 1, 0)
    return 1 - len(set(_ngrams(sequence, n))) / total if total else 0.0


def ngram_entropy(sequences: Sequence[Sequence[int]], *, n: int) -> float:
    """Entropy, in nats, of the set's n-gram frequencies (n = 1: token frequencies). A collapsed policy nears 0.

    Raises:
        ValueError: no sequence has n tokens.
    """
    counts = _ngram_counts(sequences, n)
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values())


def length_summary(lengths: Sequence[int], *, limit: int) -> Lengths:
    """Mean, median, largest, and the share at `limit` tokens.

    Raises:
        ValueError: no lengths.
    """
    if not lengths:
        raise ValueError("no responses to measure")
    ordered = sorted(lengths)
    middle = len(ordered) // 2
    return Lengths(
        mean=sum(ordered) / len(ordered),
        median=(ordered[middle] + ordered[-middle - 1]) / 2,
        largest=ordered[-1],
        at_limit=sum(length >= limit for length in ordered) / len(ordered),
    )


def _ngrams(sequence: Sequence[int], n: int) -> Iterator[tuple[int, ...]]:
    return (tuple(sequence[start : start + n]) for start in range(len(sequence) - n + 1))


def _ngram_counts(sequences: Sequence[Sequence[int]], n: int) -> Counter[tuple[int, ...]]:
    counts = Counter(gram for sequence in sequences for gram in _ngrams(sequence, n))
    if not counts:
        raise ValueError(f"no sequence has {n} tokens: there are no {n}-grams to count")
    return counts
