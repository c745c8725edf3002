"""Labels saved by choosing what to label next, against choosing at random, at equal reward accuracy.

    python benchmarks/selection.py --rankings shared/data/e2e/rankings.jsonl.gz --criterion quality

A simulation on recorded rankings of people: prompts whose labels are known play the unlabeled pool. In each round a
policy asks for the labels of some more prompts, a cheap reward model is trained on all labels so far, and its accuracy
is measured on prompts that no policy may ask for. The reward model is logistic regression on differences of word and
word-pair counts; its uncertainty is the spread of an ensemble trained on bootstrap samples of the labeled prompts.

Policies: "random"; "uncertainty", which is `plaudit.feedback.tasks.selection.choose` as the platform uses it, with its
share at random; "greedy", the same without that share, to see what the share costs. All start with the same first
prompts, and every seed has another split. Prints one JSON object: accuracies by number of labeled prompts, and for each
policy the prompts it needs to reach what random choice reaches at each budget, as a ratio with a bootstrap interval
over seeds. Below 1 is saved, above 1 is lost.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from plaudit.core.seeding import derive
from plaudit.datasets.judgments import JudgedPrompt, merge_judgments
from plaudit.datasets.read import read_rankings
from plaudit.feedback.tasks.selection import Scored, SelectionConfig, choose, ensemble_spread

Floats = NDArray[np.float64]
HELD_OUT = 0.25
MEMBERS = 5
SHARE = 0.25  # at random, as `plaudit tasks` has it


@dataclass(frozen=True)
class Pool:
    """Prompts with features of their texts, and the strict judgments of each: rows of features (better, worse)."""

    features: Any  # a sparse matrix
    texts: list[NDArray[np.int64]]
    pairs: list[NDArray[np.int64]]


def main() -> None:
    options = parse()
    pool = load(options.rankings, options.criterion)
    runs = [simulate(pool, options, seed) for seed in range(options.seeds)]
    print(json.dumps(summarise(runs, options, pool), indent=2), flush=True)


def load(path: str, criterion: str | None) -> Pool:
    """The recorded judgments: a pair counts as often as somebody put it in an order."""
    judged = [one for one in merge_judgments(read_rankings(path, criterion=criterion).rows) if strict(one)]
    flat = [text for one in judged for text in one.texts]
    features: Any = CountVectorizer(ngram_range=(1, 2), binary=True, min_df=2).fit_transform(flat)
    texts: list[NDArray[np.int64]] = []
    pairs: list[NDArray[np.int64]] = []
    start = 0
    for one in judged:
        texts.append(np.arange(start, start + len(one.texts)))
        pairs.append(np.array(strict(one)) + start)
        start += len(one.texts)
    return Pool(features, texts, pairs)


def strict(one: JudgedPrompt) -> list[tuple[int, int]]:
    """(better, worse) of every pair that somebody put in an order."""
    return [(pair.first, pair.second) for _, pair in one.pairs() if pair.label > 0.5]


def simulate(pool: Pool, options: argparse.Namespace, seed: int) -> dict[str, list[float]]:
    """Accuracy after each round, by policy."""
    generator = np.random.default_rng(derive(seed, "split"))
    order = generator.permutation(len(pool.pairs))
    cut = int(HELD_OUT * len(order))
    held, free = order[:cut], order[cut:]
    start = list(map(int, free[: options.start]))
    return {name: curve(pool, start, free, held, policy, options, seed) for name, policy in POLICIES.items()}


def curve(
    pool: Pool,
    start: list[int],
    free: NDArray[np.int64],
    held: NDArray[np.int64],
    policy: "Policy",
    options: argparse.Namespace,
    seed: int,
) -> list[float]:
    """Accuracies while labels grow from `start` by `options.step` prompts a round."""
    labeled = list(start)
    accuracies = [accuracy(pool, fit(pool, labeled), held)]
    for number in range(options.rounds):
        left = [int(prompt) for prompt in free if prompt not in set(labeled)]
        labeled += policy(pool, labeled, left, options.step, derive(seed, "round", number))
        accuracies.append(accuracy(pool, fit(pool, labeled), held))
    return accuracies


def fit(pool: Pool, prompts: Sequence[int]) -> Floats:
    """Weights of a Bradley-Terry model that is linear in the features."""
    pairs = np.concatenate([pool.pairs[prompt] for prompt in prompts])
    difference = pool.features[pairs[:, 0]] - pool.features[pairs[:, 1]]
    sign = np.tile([1.0, -1.0], len(pairs))[: len(pairs)]  # both classes, for the library's sake
    rows = difference.multiply(sign[:, None]).tocsr()
    model = LogisticRegression(C=0.1, fit_intercept=False, max_iter=300)
    return model.fit(rows, sign > 0).coef_[0]


def accuracy(pool: Pool, weights: Floats, prompts: NDArray[np.int64]) -> float:
    """Share of strict judgments on these prompts that the weights get right; equal scores are half right."""
    scores = pool.features @ weights
    pairs = np.concatenate([pool.pairs[prompt] for prompt in prompts])
    return float((np.sign(scores[pairs[:, 0]] - scores[pairs[:, 1]]) / 2 + 0.5).mean())


Policy = Callable[[Pool, list[int], list[int], int, int], list[int]]


def at_random(_pool: Pool, _labeled: list[int], left: list[int], count: int, seed: int) -> list[int]:
    return [int(prompt) for prompt in np.random.default_rng(seed).choice(left, count, replace=False)]


def spreads(pool: Pool, labeled: list[int], left: list[int], seed: int) -> list[float]:
    """How far the members of a bootstrap ensemble are apart on each prompt."""
    generator = np.random.default_rng(derive(seed, "ensemble"))
    members = [
        pool.features @ fit(pool, [labeled[at] for at in generator.integers(len(labeled), size=len(labeled))])
        for _ in range(MEMBERS)
    ]
    return [ensemble_spread([member[pool.texts[prompt]].tolist() for member in members]) for prompt in left]


def uncertain(pool: Pool, labeled: list[int], left: list[int], count: int, seed: int) -> list[int]:
    scored = [
        Scored(str(prompt), spread) for prompt, spread in zip(left, spreads(pool, labeled, left, seed), strict=True)
    ]
    settings = SelectionConfig.model_validate({"count": count, "random_share": SHARE, "seed": seed % 2**31})
    return [int(one.prompt_id) for one in choose(scored, settings)]


def greedy(pool: Pool, labeled: list[int], left: list[int], count: int, seed: int) -> list[int]:
    found = np.argsort(-np.array(spreads(pool, labeled, left, seed)), kind="stable")
    return [left[at] for at in found[:count]]


POLICIES: dict[str, Policy] = {"random": at_random, "uncertainty": uncertain, "greedy": greedy}


def summarise(runs: Sequence[dict[str, list[float]]], options: argparse.Namespace, pool: Pool) -> dict[str, Any]:
    """Means over seeds, and how many labels each policy needs for what random choice reaches."""
    budgets = [options.start + options.step * number for number in range(options.rounds + 1)]
    table = {name: np.array([run[name] for run in runs]) for name in POLICIES}
    return {
        "prompts": len(pool.pairs),
        "seeds": len(runs),
        "budgets": budgets,
        "accuracy": {name: np.round(values.mean(axis=0), 4).tolist() for name, values in table.items()},
        "difference_to_random": {
            name: interval(lambda rows, n=name: float((table[n] - table["random"])[rows, 1:].mean()), len(runs))
            for name in ("uncertainty", "greedy")
        },
        "labels_ratio": {
            name: interval(lambda rows, n=name: labels_ratio(table[n][rows], table["random"][rows], budgets), len(runs))
            for name in ("uncertainty", "greedy")
        },
    }


def labels_ratio(policy: Floats, random: Floats, budgets: Sequence[int]) -> float:
    """Mean over budgets of the prompts a policy needs, on the mean curves, for what random choice has there."""
    own, other = np.maximum.accumulate(policy.mean(axis=0)), np.maximum.accumulate(random.mean(axis=0))
    # A level that the policy never reaches counts as its last budget, which is too kind to it.
    needed = np.interp(other[1:], own, budgets)
    return float((needed / np.array(budgets[1:])).mean())


def interval(figure: Callable[[NDArray[np.int64]], float], seeds: int) -> dict[str, float | int]:
    """The figure with its 95 % bootstrap interval over seeds."""
    generator = np.random.default_rng(derive(0, "bootstrap"))
    drawn = [figure(generator.integers(seeds, size=seeds)) for _ in range(1000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    value = figure(np.arange(seeds))
    return {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4), "n": seeds}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rankings", required=True)
    parser.add_argument("--criterion")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--start", type=int, default=20, help="prompts labeled before the first choice")
    parser.add_argument("--step", type=int, default=15, help="prompts a round")
    parser.add_argument("--rounds", type=int, default=12)
    return parser.parse_args()


if __name__ == "__main__":
    main()
