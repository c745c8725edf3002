"""Models of labelers' reliability: against crowd-kit's results, and on labelers whose reliability is known."""

from __future__ import annotations

import numpy as np
import pytest

from plaudit.core.records import user_prompt
from plaudit.feedback.quality.competence import crowd_bradley_terry
from plaudit.feedback.quality.dawid_skene import dawid_skene
from plaudit.feedback.quality.mace import mace
from plaudit.feedback.quality.outcomes import outcomes
from plaudit.feedback.quality.records import Judgment, item_key
from plaudit.feedback.quality.reliability import (
    LARGEST_WEIGHT,
    held_out_gain,
    reliability,
    soft_labels,
    weights,
)
from plaudit.feedback.quality.votes import Votes, pair_votes

# Votes of five labelers (columns, "." for none) on sixteen units, and the probabilities of values 0 and 1 that
# crowd-kit 1.4.2 gives: DawidSkene(n_iter=300, tol=1e-12) and MACE(n_restarts=1, n_iter=80). Tables drawn at random
# (three values, labelers right 40 to 95 % of the time), numbered by first appearance, which crowd-kit's MACE needs.
CROWD_KIT = [
    (
        "0000. 111.1 01111 22.21 .2222 22211 .12.1 12220 ....0 .00.. 1.111 0.02. 11.11 1111. 00..0 10100",
        "1.000/0.000 0.000/1.000 0.000/1.000 0.000/0.000 0.000/0.000 0.000/0.000 0.000/1.000 0.000/0.000 "
        "0.833/0.000 1.000/0.000 0.000/1.000 1.000/0.000 0.000/1.000 0.000/1.000 1.000/0.000 1.000/0.000",
        "1.000/0.000 0.000/1.000 0.000/1.000 0.000/0.000 0.000/0.000 0.000/0.004 0.001/0.989 0.000/0.000 "
        "0.725/0.138 0.999/0.001 0.000/0.999 0.839/0.015 0.000/1.000 0.000/1.000 1.000/0.000 0.996/0.004",
    ),
    (
        "00000 ..000 101.1 11.21 1.22. 212.1 1.201 011.2 21222 .2.02 11111 0.000 111.2 11111 .12.2 .2.00",
        "1.000/0.000 1.000/0.000 0.000/1.000 0.000/0.000 0.000/0.000 0.000/0.000 0.000/0.000 0.000/1.000 "
        "0.000/0.000 1.000/0.000 0.000/1.000 1.000/0.000 0.000/1.000 0.000/1.000 0.000/0.000 1.000/0.000",
        "1.000/0.000 0.998/0.001 0.002/0.997 0.009/0.937 0.008/0.069 0.005/0.067 0.072/0.696 0.171/0.711 "
        "0.000/0.000 0.269/0.048 0.000/1.000 1.000/0.000 0.003/0.977 0.000/1.000 0.009/0.017 0.926/0.022",
    ),
]


def votes_of(grid: str) -> Votes:
    cells = [
        (unit, labeler, int(mark))
        for unit, row in enumerate(grid.split())
        for labeler, mark in enumerate(row)
        if mark != "."
    ]
    unit, labeler, value = np.array(cells).T
    return Votes(unit, labeler, value, units=16, labelers=5, values=3, symmetric=False)


def probabilities(cells: str) -> np.ndarray:
    two = np.array([[float(number) for number in cell.split("/")] for cell in cells.split()])
    return np.column_stack([two, 1 - two.sum(axis=1)])


@pytest.mark.parametrize(("grid", "skene", "spam"), CROWD_KIT)
def test_dawid_skene_and_mace_are_those_of_crowd_kit(grid, skene, spam):
    votes = votes_of(grid)
    assert dawid_skene(votes, iterations=300, tolerance=1e-12).posterior == pytest.approx(
        probabilities(skene), abs=2e-3
    )
    assert mace(votes, iterations=2000, tolerance=1e-12).posterior == pytest.approx(probabilities(spam), abs=2e-3)


def judgments(accuracies: dict[str, float], *, items: int, seed: int, ties: float = 0.0) -> list[Judgment]:
    """Pairs whose better response is known by its name, judged rightly with each labeler's probability."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(items):
        prompt = user_prompt(f"prompt {number}")
        texts = ("better", "other") if generator.random() < 0.5 else ("a response", "better")
        right = (1, 2) if texts[0] == "better" else (2, 1)
        for name, accuracy in accuracies.items():
            ranks = right if generator.random() < accuracy else right[::-1]
            ranks = (1, 1) if generator.random() < ties else ranks
            found.append(Judgment(item_key(prompt, texts), prompt, texts, ranks, name))
    return found


PANEL = {"good": 0.95, "fair": 0.8, "random": 0.5, "inverted": 0.1, "other": 0.85}


def test_all_models_recover_the_order_of_labelers():
    judged = judgments(PANEL, items=400, seed=0, ties=0.15)
    found = {one.labeler: one for one in reliability(judged, outcomes(judged)).labelers}
    for name, accuracy in PANEL.items():
        assert found[name].accuracy == pytest.approx(accuracy, abs=0.06)
    assert found["good"].competence > found["other"].competence > found["random"].competence
    assert found["good"].eta > found["fair"].eta > found["random"].eta > found["inverted"].eta
    assert found["inverted"].weight == 0
    assert found["good"].weight > found["fair"].weight > found["random"].weight
    weight = np.array([one.weight * one.pairs for one in found.values()]).sum()
    assert weight / sum(one.pairs for one in found.values()) == pytest.approx(1)


def test_weights_are_recommended_only_where_they_help():
    unequal = judgments({"good": 0.97, "r1": 0.55, "r2": 0.55, "r3": 0.55, "g2": 0.95}, items=400, seed=1)
    assert reliability(unequal, outcomes(unequal)).recommended
    alike = judgments(dict.fromkeys("abcde", 0.8), items=200, seed=2)
    found = reliability(alike, outcomes(alike))
    assert not found.recommended
    assert found.gain.value == pytest.approx(0, abs=0.05)


def test_weights_of_labelers_who_are_alike_seldom_look_better():
    """The advice has its own false alarms: 60 panels of equals."""
    alarms = 0
    for seed in range(60):
        alike = judgments(dict.fromkeys("abcd", 0.75), items=80, seed=100 + seed)
        gain = held_out_gain(outcomes(alike), seed=seed)
        alarms += gain.low is not None and gain.low > 0
    assert alarms <= 4


def test_no_labeler_weighs_more_than_the_cap():
    found = weights(np.array([0.999999, 0.55, 0.55, 0.55, 0.55, 0.55]), np.full(6, 100))
    assert found.max() <= LARGEST_WEIGHT + 0.05
    assert found.mean() == pytest.approx(1, abs=0.05)
    assert weights(np.array([0.5, 0.3]), np.array([10, 10])).tolist() == [1, 1]


def test_soft_labels_do_not_depend_on_the_side():
    judged = judgments(PANEL, items=60, seed=3, ties=0.2)
    for label in soft_labels(judged, outcomes(judged)):
        assert label.first_better + label.tie + label.second_better == pytest.approx(1)
    renamed = {"better": "zz better", "other": "other", "a response": "zzz response"}
    # "better" sorts after "other" now: the pair is told from the other side.
    turned = []
    for one in judged:
        texts = tuple(renamed[text] for text in one.responses)
        order = sorted(range(2), key=lambda at: texts[at])
        turned.append(
            Judgment(
                item_key(one.prompt, texts),
                one.prompt,
                tuple(texts[at] for at in order),
                tuple(one.ranks[at] for at in order),
                one.labeler,
            )
        )
    before = soft_labels(judged, outcomes(judged))
    after = soft_labels(turned, outcomes(turned))
    for a, b in zip(before, after, strict=True):
        same_side = renamed[a.first] == b.first
        assert b.label == pytest.approx(a.label if same_side else 1 - a.label, abs=1e-6)


def test_shrinkage_keeps_a_newcomer_from_outvoting_everybody():
    judged = judgments({"a": 0.8, "b": 0.8, "c": 0.8}, items=100, seed=4)
    judged.append(Judgment(judged[0].item, judged[0].prompt, judged[0].responses, judged[0].ranks, "new"))
    votes = pair_votes(outcomes(judged))
    new = outcomes(judged).labelers.index("new")
    assert dawid_skene(votes).confusion[new].max() > 0.999
    assert dawid_skene(votes, shrinkage=10).confusion[new, 0, 0] < 0.95


def test_crowd_bradley_terry_orders_responses_through_bad_labelers():
    generator = np.random.default_rng(6)
    truth = {f"r{number}": float(generator.normal(0, 1.5)) for number in range(6)}
    texts = tuple(sorted(truth))
    prompt = user_prompt("p")
    judged = []
    for number in range(60):
        noisy = {text: value + generator.gumbel() for text, value in truth.items()}
        order = sorted(texts, key=lambda text: -noisy[text])
        ranks = tuple(order.index(text) + 1 for text in texts)
        name = ("good", "second", "inverted")[number % 3]
        ranks = tuple(7 - rank for rank in ranks) if name == "inverted" else ranks
        judged.append(Judgment(f"item {number}", prompt, texts, ranks, name))
    table = outcomes(judged)
    found = crowd_bradley_terry(judged, table)
    assert found.converged
    assert np.corrcoef(found.utilities, [truth[text] for text in texts])[0, 1] > 0.9
    eta = dict(zip(table.labelers, found.eta.tolist(), strict=True))
    assert eta["inverted"] < 0.2
    assert min(eta["good"], eta["second"]) > 0.8
