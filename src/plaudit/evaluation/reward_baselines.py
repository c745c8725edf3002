"""What a reward model must beat: a rule that sees only length, and a logistic regression on a bag of words.

Both see the training pairs and are read on held-out prompts, exactly as the reward model is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from plaudit.datasets.judgments import JudgedPrompt

WORD = re.compile(r"\w+|[^\w\s]")
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
FOLDS = 3
Floats = NDArray[np.float64]


def longer_is_better(train: Sequence[JudgedPrompt]) -> float:
    """+1 when the longer text (in characters) wins half or more of the weight of the strict training pairs, else -1."""
    balance = 0.0
    for judged in train:
        for judgment, pair in judged.pairs():
            if pair.label != 0.5:
                difference = len(judged.texts[pair.first]) - len(judged.texts[pair.second])
                balance += judgment.weight * (2 * pair.label - 1) * float(np.sign(difference))
    return 1.0 if balance >= 0 else -1.0


class BagOfWords(NamedTuple):
    """Ridge logistic regression on word counts: a text's score is the sum of its words' weights."""

    vocabulary: dict[str, int]
    weights: Floats  # (words,)
    penalty: float  # the ridge strength chosen by cross-validation over prompts

    def scores(self, texts: Sequence[str]) -> Floats:
        """(S,) scores; words never seen in training count nothing."""
        return np.asarray(_count(texts, self.vocabulary) @ self.weights)


def fit_bag_of_words(train: Sequence[JudgedPrompt]) -> BagOfWords:
    """Fit P(first better) = sigma(w . (count(first) - count(second))) with a ridge penalty on w.

    The penalty is the best of PENALTIES by cross-validated likelihood, folds split by prompt. Words in fewer than two
    texts are left out; damped counts log(1 + n) keep a repeated word from ruling the text.
    """
    occurrences = Counter(word for judged in train for text in judged.texts for word in set(_words(text)))
    kept = [word for word, count in occurrences.items() if count >= 2]
    vocabulary = {word: index for index, word in enumerate(sorted(kept))}
    features, labels, weights, fold = _pair_features(train, vocabulary)
    if not len(labels):
        return BagOfWords(vocabulary, np.zeros(len(vocabulary)), PENALTIES[0])

    def held_out_loss(penalty: float) -> float:
        total = 0.0
        for k in range(FOLDS):
            out = fold == k
            if out.all() or not out.any():
                continue
            fitted = _fit(features[~out], labels[~out], weights[~out], penalty)
            total += _logistic(fitted, features[out], labels[out], weights[out])[0]
        return total

    penalty = min(PENALTIES, key=held_out_loss)
    return BagOfWords(vocabulary, _fit(features, labels, weights, penalty), penalty)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _count(texts: Sequence[str], vocabulary: dict[str, int]) -> sparse.csr_matrix:
    """(S, words) damped word counts."""
    rows, columns, values = [], [], []
    for row, text in enumerate(texts):
        for word, count in Counter(_words(text)).items():
            if word in vocabulary:
                rows.append(row)
                columns.append(vocabulary[word])
                values.append(np.log1p(count))
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(texts), len(vocabulary)))


def _pair_features(
    train: Sequence[JudgedPrompt], vocabulary: dict[str, int]
) -> tuple[sparse.csr_matrix, Floats, Floats, NDArray[np.int64]]:
    """(P, words) differences of counts, and per pair its label, its weight and the fold of its prompt."""
    first, second, labels, weights, folds = [], [], [], [], []
    texts: list[str] = []
    for index, judged in enumerate(train):
        start = len(texts)
        texts.extend(judged.texts)
        for judgment, pair in judged.pairs():
            first.append(start + pair.first)
            second.append(start + pair.second)
            labels.append(pair.label)
            weights.append(judgment.weight)
            folds.append(index % FOLDS)
    counts = _count(texts, vocabulary)
    scale = np.mean(weights) if weights else 1.0  # the penalty is per average pair, whatever the unit of the weights
    features = sparse.csr_matrix(counts[first] - counts[second])
    return features, np.array(labels), np.array(weights) / scale, np.array(folds, dtype=np.int64)


def _fit(features: sparse.csr_matrix, labels: Floats, weights: Floats, penalty: float) -> Floats:
    words = features.get_shape()[1]

    def objective(w: Floats) -> tuple[float, Floats]:
        loss, gradient = _logistic(w, features, labels, weights)
        return loss + 0.5 * penalty * float(w @ w), gradient + penalty * w

    found = optimize.minimize(objective, np.zeros(words), jac=True, method="L-BFGS-B")
    return np.asarray(found.x)


def _logistic(w: Floats, features: sparse.csr_matrix, labels: Floats, weights: Floats) -> tuple[float, Floats]:
    """Weighted cross-entropy of soft labels, and its gradient."""
    delta = features @ w
    loss = labels * np.logaddexp(0, -delta) + (1 - labels) * np.logaddexp(0, delta)
    residual = 0.5 * (1 + np.tanh(delta / 2)) - labels
    return float(weights @ loss), np.asarray(features.T @ (weights * residual))
