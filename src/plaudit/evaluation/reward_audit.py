"""What a reward model is worth: accuracy on unseen prompts beside what it has to beat and what it can reach.

Accuracy counts strict judgments only: pairs a labeler called a tie have no right answer. A tie of the scores counts one
half. Every judgment of every labeler is one pair, and intervals are clustered by prompt, since the pairs of a
prompt are not independent. Nothing is read on prompts that were trained on or that chose the checkpoint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from plaudit.algorithms import calibration
from plaudit.core.errors import DataError
from plaudit.datasets.judgments import JudgedPrompt, ScoredPrompt, keep_texts
from plaudit.evaluation.reward_baselines import fit_bag_of_words, longer_is_better
from plaudit.evaluation.statistics import Interval, clustered_mean, clustered_proportion

Floats = NDArray[np.float64]


class Pairs(NamedTuple):
    """The judged pairs of many prompts as columns, the preferred text first; (P,) each."""

    prompt: NDArray[np.int64]  # index of the prompt: the cluster
    first: NDArray[np.int64]  # index of the text within its prompt
    second: NDArray[np.int64]
    label: Floats  # probability that `first` is better, at least 0.5
    margin: Floats
    gap: Floats  # difference of ranks
    labeler: NDArray[np.object_]  # None where the data names nobody

    @property
    def strict(self) -> NDArray[np.bool_]:
        """(P,) the pairs that have a right answer."""
        return self.label != 0.5

    def where(self, keep: NDArray[np.bool_]) -> Pairs:
        """The pairs of a (P,) mask."""
        return Pairs(
            self.prompt[keep],
            self.first[keep],
            self.second[keep],
            self.label[keep],
            self.margin[keep],
            self.gap[keep],
            self.labeler[keep],
        )


def pair_table(judged: Sequence[JudgedPrompt]) -> Pairs:
    """All pairs of all judgments, in order; pairs of identical texts are left out."""
    return _table(
        [
            (index, pair.first, pair.second, pair.label, pair.margin, pair.gap, judgment.labeler)
            for index, one in enumerate(judged)
            for judgment, pair in one.pairs()
        ]
    )


def _table(rows: list[tuple[int, int, int, float, float, int, str | None]]) -> Pairs:
    prompt, first, second, label, margin, gap, labeler = zip(*rows, strict=True) if rows else ((),) * 7
    return Pairs(
        np.array(prompt, np.int64),
        np.array(first, np.int64),
        np.array(second, np.int64),
        np.array(label, np.float64),
        np.array(margin, np.float64),
        np.array(gap, np.float64),
        np.array(labeler, np.object_),
    )


def majority_table(pairs: Pairs) -> tuple[Pairs, Floats]:
    """One row per pair of texts that more labelers ordered one way than the other, and its vote share (P,).

    A tie is half a vote for either side, a soft label is the vote it says; an even vote has no majority and is left
    out. The margin is the mean of the votes' margins.
    """
    votes: dict[tuple[int, int, int], list[tuple[float, float]]] = defaultdict(list)
    for prompt, first, second, label, margin in zip(
        pairs.prompt, pairs.first, pairs.second, pairs.label, pairs.margin, strict=True
    ):
        turned = first > second
        key = (int(prompt), int(min(first, second)), int(max(first, second)))
        votes[key].append((1 - label, -margin) if turned else (label, margin))
    rows: list[tuple[int, int, int, float, float, int, str | None]] = []
    shares: list[float] = []
    for (prompt, a, b), cast in votes.items():
        share, margin = (float(np.mean(column)) for column in zip(*cast, strict=True))
        if abs(share - 0.5) < 1e-9:
            continue
        rows.append((prompt, a, b, 1.0, margin, 1, None) if share > 0.5 else (prompt, b, a, 1.0, -margin, 1, None))
        shares.append(max(share, 1 - share))
    return _table(rows), np.array(shares)


def deltas(pairs: Pairs, scores: Sequence[Sequence[float] | Floats]) -> Floats:
    """(P,) score of the preferred text minus score of the other."""
    return np.array(
        [scores[p][a] - scores[p][b] for p, a, b in zip(pairs.prompt, pairs.first, pairs.second, strict=True)],
        np.float64,
    )


def correct(delta: Floats) -> Floats:
    """(P,) 1 where the preferred text scores higher, 0.5 where the scores are equal, else 0."""
    return 0.5 * (1.0 + np.sign(delta))


def labeler_agreement(pairs: Pairs) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """How often two different labelers order a pair the same way, where both order it strictly.

    Returns (C,) 1 or 0 for each two labelers and pair, (C,) its prompt, and (P,) which of `pairs` took part.
    """
    same: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for row in np.flatnonzero(pairs.strict):
        if pairs.labeler[row] is not None:
            ends = sorted((int(pairs.first[row]), int(pairs.second[row])))
            same[(int(pairs.prompt[row]), ends[0], ends[1])].append(int(row))
    agree, prompts = [], []
    part = np.zeros(len(pairs.label), np.bool_)
    for (prompt, _, _), rows in same.items():
        for x, y in combinations(rows, 2):
            if pairs.labeler[x] != pairs.labeler[y]:
                agree.append(float(pairs.first[x] == pairs.first[y]))
                prompts.append(prompt)
                part[[x, y]] = True
    return np.array(agree), np.array(prompts, np.int64), part


def audit(held_out: Sequence[ScoredPrompt], train: Sequence[JudgedPrompt] = ()) -> dict[str, Any]:
    """Every measurement of a reward model, as the summary of a run folder holds it.

    Args:
        held_out: judged prompts that were neither trained on nor used to choose anything, with their scores.
        train: the judgments that were trained on; the baselines learn from them. Without them there are no baselines.

    Raises:
        DataError: no scored pair with a strict label is left.
    """
    scored = [_drop_unscored(one) for one in held_out]
    everything = pair_table([one.judged for one in held_out])
    pairs = pair_table([one.judged for one in scored])
    strict = pairs.where(pairs.strict)
    if not len(strict.label):
        raise DataError(
            f"Of {len(everything.label)} held-out pairs none has both texts scored and a strict preference, so there "
            "is nothing to measure accuracy on. Hold out more prompts (held_out=0.2)."
        )
    scores = [np.array(one.scores, np.float64) for one in scored]
    delta = deltas(strict, scores)
    right = correct(delta)
    majority, share = majority_table(pairs)
    majority_right = correct(deltas(majority, scores))
    return {
        "held_out": {
            "prompts": len(np.unique(pairs.prompt)),
            "texts": sum(len(one.scores) for one in scored),
            "pairs": len(pairs.label),
            "strict_pairs": len(strict.label),
            "majority_pairs": len(majority.label),
            "unscored_texts": sum(score is None for one in held_out for score in one.scores),
            "unscored_pairs": len(everything.label) - len(pairs.label),
        },
        "accuracy": _accuracy(right, strict.prompt),
        "majority_accuracy": _accuracy(majority_right, majority.prompt),
        "baselines": _baselines(strict, majority, scored, train, right, majority_right) if train else {},
        "labelers": _labelers(pairs, scores),
        "calibration": _calibration(delta, strict.label),
        "accuracy_by": {
            "vote_share": _by(share, majority_right, majority.prompt),
            "rank_gap": _by(strict.gap, right, strict.prompt),
            "margin": _by(strict.margin, right, strict.prompt),
            "score_gap": _by_quartile(np.abs(delta), right, strict.prompt),
        },
        "length": _length(scored, scores),
        "ensemble": _ensemble(strict, scored, right),
    }


def _drop_unscored(one: ScoredPrompt) -> ScoredPrompt:
    """Without the texts that have no score."""
    kept = [item for item, score in enumerate(one.scores) if score is not None]
    members = tuple(tuple(member[item] for item in kept) for member in one.members)
    return ScoredPrompt(keep_texts(one.judged, kept), tuple(one.scores[item] for item in kept), members)


def _baselines(
    strict: Pairs,
    majority: Pairs,
    scored: Sequence[ScoredPrompt],
    train: Sequence[JudgedPrompt],
    right: Floats,
    majority_right: Floats,
) -> dict[str, Any]:
    direction = longer_is_better(train)
    words = fit_bag_of_words(train)
    lengths = [np.array([len(text) for text in one.judged.texts], np.float64) for one in scored]
    rules = {
        "longer_wins": lengths,
        "length": [direction * length for length in lengths],
        "bag_of_words": [words.scores(one.judged.texts) for one in scored],
    }
    report: dict[str, Any] = {"length_direction": "longer" if direction > 0 else "shorter"}
    for name, rule in rules.items():
        own, own_majority = correct(deltas(strict, rule)), correct(deltas(majority, rule))
        report[name] = {
            "accuracy": _accuracy(own, strict.prompt),
            "majority_accuracy": _accuracy(own_majority, majority.prompt),
            # Paired on the same pairs: much narrower than the two intervals side by side.
            "model_gain": _gain(right - own, strict.prompt),
            "model_gain_majority": _gain(majority_right - own_majority, majority.prompt),
        }
    return report


def _labelers(pairs: Pairs, scores: Sequence[Floats]) -> dict[str, Any]:
    """Agreement between labelers, and of the model with one labeler on the very pairs that two labelers ordered."""
    agree, prompts, part = labeler_agreement(pairs)
    shared = pairs.where(part)
    agreement = _accuracy(agree, prompts)
    ceiling = None
    if agreement is not None and agreement["value"] > 0.5:
        # Two independent labelers who are right with probability q agree with probability q^2 + (1 - q)^2; a model
        # that knows the truth then agrees with one of them with probability q.
        ceiling = 0.5 * (1.0 + np.sqrt(2.0 * agreement["value"] - 1.0))
    return {
        "count": len({name for name in pairs.labeler if name is not None}),
        "agreement": agreement,
        "model_agreement": _accuracy(correct(deltas(shared, scores)), shared.prompt),
        "ceiling_if_independent": None if ceiling is None else float(ceiling),
    }


def _calibration(delta: Floats, label: Floats) -> dict[str, Any]:
    """Whether sigma(delta) is a probability. The temperature is what would fit best here; nothing above uses it."""
    lead, said = torch.from_numpy(delta), torch.from_numpy(label)
    bins = calibration.reliability_equal_mass(lead, said, bins=10)
    try:
        temperature = calibration.fit_temperature(lead, said)
    except ValueError:  # no finite positive temperature is best: see there
        temperature = None
    return {
        "ece": float(calibration.expected_calibration_error(bins)),
        "brier": float(calibration.brier(lead, said)),
        "nll": float(calibration.negative_log_likelihood(lead, said)),
        "temperature": temperature,
        "bins": [
            {"confidence": confidence, "frequency": frequency, "count": int(count)}
            for confidence, frequency, count in zip(*(column.tolist() for column in bins), strict=True)
        ],
    }


def _by(keys: Floats, right: Floats, prompts: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Accuracy at each value of `keys`; one value alone tells nothing and gives an empty list."""
    values = np.unique(np.round(keys, 6))
    if len(values) < 2:
        return []
    if len(values) > 10:
        return _by_quartile(keys, right, prompts)
    return [{"at": float(value), **_at(np.round(keys, 6) == value, right, prompts)} for value in values]


def _by_quartile(keys: Floats, right: Floats, prompts: NDArray[np.int64]) -> list[dict[str, Any]]:
    edges = np.quantile(keys, [0.25, 0.5, 0.75])
    quarter = np.searchsorted(edges, keys)
    rows = []
    for n in range(4):
        mask = quarter == n
        if mask.any():
            inside = keys[mask]
            rows.append({"from": float(inside.min()), "to": float(inside.max()), **_at(mask, right, prompts)})
    return rows


def _at(mask: NDArray[np.bool_], right: Floats, prompts: NDArray[np.int64]) -> dict[str, Any]:
    return _accuracy(right[mask], prompts[mask]) or {}


def _length(scored: Sequence[ScoredPrompt], scores: Sequence[Floats]) -> dict[str, Any]:
    """Correlation of score and length in characters: over all texts, and among the texts of one prompt."""
    lengths = [np.array([len(text) for text in one.judged.texts], np.float64) for one in scored]
    several = [n for n, score in enumerate(scores) if len(score) > 1]
    within = [(scores[n] - scores[n].mean(), lengths[n] - lengths[n].mean()) for n in several]
    return {
        "correlation": _correlation(np.concatenate(list(scores)), np.concatenate(lengths)),
        "correlation_within_prompt": _correlation(
            np.concatenate([score for score, _ in within]), np.concatenate([length for _, length in within])
        ),
    }


def _correlation(x: Floats, y: Floats) -> float | None:
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _ensemble(strict: Pairs, scored: Sequence[ScoredPrompt], right: Floats) -> dict[str, Any] | None:
    """Members one by one, and whether their disagreement tells where the mean is wrong."""
    count = min((len(one.members) for one in scored), default=0)
    if count < 2:
        return None
    each = [deltas(strict, [np.array(one.members[m]) for one in scored]) for m in range(count)]
    table = np.stack(each)  # (members, P)
    unanimous = np.abs(np.sign(table).sum(axis=0)) == count
    spread = np.concatenate([np.array(one.members).std(axis=0) for one in scored])
    return {
        "members": count,
        "accuracy": [_accuracy(correct(delta), strict.prompt) for delta in table],
        "score_spread": float(spread.mean()),
        "delta_spread": float(table.std(axis=0).mean()),
        "unanimous_share": float(unanimous.mean()),
        "accuracy_unanimous": _accuracy(right[unanimous], strict.prompt[unanimous]),
        "accuracy_divided": _accuracy(right[~unanimous], strict.prompt[~unanimous]),
    }


def _accuracy(right: Floats, prompts: NDArray[np.int64]) -> dict[str, Any] | None:
    """A share with its 95 % interval, clustered by prompt; None without values."""
    return _named(clustered_proportion(right, prompts)) if len(right) else None


def _gain(difference: Floats, prompts: NDArray[np.int64]) -> dict[str, Any] | None:
    """A mean difference with its 95 % interval, clustered by prompt; None without values."""
    return _named(clustered_mean(difference, prompts)) if len(difference) else None


def _named(interval: Interval) -> dict[str, Any]:
    return interval._asdict()
