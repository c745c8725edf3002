"""The audit of a reward model: hand-made judgments, where every figure is known."""

from __future__ import annotations

import numpy as np
import pytest

from plaudit.core.errors import DataError
from plaudit.core.records import Comparison, Ranking, user_prompt
from plaudit.datasets.judgments import JudgedPrompt, ScoredPrompt, merge_judgments
from plaudit.evaluation.reward_audit import audit, labeler_agreement, majority_table, pair_table
from plaudit.evaluation.reward_baselines import PENALTIES, fit_bag_of_words, longer_is_better


def one(*rows: Ranking | Comparison) -> JudgedPrompt:
    (judged,) = merge_judgments(rows)
    return judged


def ranked(prompt: str, ranks: tuple[int, ...], labeler: str | None = None, texts: str = "abcdef") -> Ranking:
    return Ranking(user_prompt(prompt), tuple(texts[: len(ranks)]), ranks, labeler=labeler)


def test_accuracy_leaves_ties_out_and_gives_equal_scores_one_half() -> None:
    """R14: of the six pairs one is a tie of the labeler, one has equal scores, one is the wrong way round."""
    judged = one(ranked("p", (1, 2, 2, 3)))
    found = audit([ScoredPrompt(judged, (3.0, 1.0, 2.0, 1.0))])
    assert found["held_out"]["pairs"] == 6
    assert found["held_out"]["strict_pairs"] == 5
    assert found["accuracy"]["value"] == pytest.approx((1 + 1 + 1 + 0.5 + 1) / 5)
    assert found["baselines"] == {}


def test_turning_all_scores_round_turns_accuracy_round() -> None:
    """R13."""
    judged = [one(ranked("p", (1, 2, 3))), one(ranked("q", (2, 1, 3)))]
    scores = [(0.3, 0.9, -1.0), (2.0, 1.5, 1.0)]
    forth = audit([ScoredPrompt(j, s) for j, s in zip(judged, scores, strict=True)])["accuracy"]["value"]
    back = audit([ScoredPrompt(j, tuple(-x for x in s)) for j, s in zip(judged, scores, strict=True)])
    assert forth == pytest.approx(4 / 6)
    assert back["accuracy"]["value"] == pytest.approx(1 - forth)


def test_an_unscored_text_takes_its_pairs_out_and_nothing_else() -> None:
    found = audit([ScoredPrompt(one(ranked("p", (1, 2, 3))), (1.0, None, 0.0))])
    assert found["held_out"]["unscored_texts"] == 1
    assert found["held_out"]["unscored_pairs"] == 2
    assert found["accuracy"]["n"] == 1
    assert found["accuracy"]["value"] == 1.0


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(DataError, match="none has both texts scored and a strict preference"):
        audit([ScoredPrompt(one(ranked("p", (1, 1))), (1.0, 0.0))])


def test_majorities_count_ties_and_soft_labels_as_shares() -> None:
    prompt = user_prompt("p")
    judged = one(
        ranked("p", (1, 2), "ann"),
        ranked("p", (1, 2), "bob"),
        ranked("p", (2, 1), "cy"),
        ranked("p", (1, 1), "dee"),
        Comparison(prompt, "c", "d", label=0.4, labeler="ann"),
        ranked("p", (1, 2), "ann", texts="ef"),
        ranked("p", (2, 1), "bob", texts="ef"),
    )
    table, share = majority_table(pair_table([judged]))
    named = [(judged.texts[a], judged.texts[b]) for a, b in zip(table.first, table.second, strict=True)]
    assert named == [("a", "b"), ("d", "c")]  # e against f is even
    assert share == pytest.approx([2.5 / 4, 0.6])


def test_agreement_is_between_different_labelers_who_both_prefer() -> None:
    judged = one(
        ranked("p", (1, 2, 3), "ann"),
        ranked("p", (1, 2, 2), "bob"),
        ranked("p", (2, 1, 3), "cy"),
        ranked("p", (2, 1, 3), "cy"),
        ranked("p", (3, 2, 1), None),
    )
    pairs = pair_table([judged])
    agree, prompts, part = labeler_agreement(pairs)
    # a-b: ann and bob agree, and each contradicts both of cy's rows. a-c: all agree. b-c: bob has a tie.
    assert sorted(agree.tolist()) == [0] * 4 + [1] * 8
    assert prompts.tolist() == [0] * 12
    assert not part[pairs.labeler == None].any()  # noqa: E711  (elementwise)
    assert part.sum() == 4 + 4 + 3


def test_the_model_is_compared_on_the_pairs_the_labelers_share() -> None:
    shared, alone = one(ranked("p", (1, 2), "ann"), ranked("p", (1, 2), "bob")), one(ranked("q", (1, 2), "ann"))
    found = audit([ScoredPrompt(shared, (1.0, 0.0)), ScoredPrompt(alone, (0.0, 1.0))])
    assert found["labelers"]["count"] == 2
    assert found["labelers"]["agreement"]["value"] == 1.0
    assert found["labelers"]["model_agreement"]["value"] == 1.0
    assert found["accuracy"]["value"] == pytest.approx(2 / 3)


def simulated(labelers: int, noise: float, prompts: int, seed: int) -> list[ScoredPrompt]:
    """A model that knows the truth, and labelers who are independently wrong with probability `noise`."""
    generator = np.random.default_rng(seed)
    scored = []
    for number in range(prompts):
        rows = [
            ranked(str(number), (1, 2) if generator.random() > noise else (2, 1), f"labeler {n}")
            for n in range(labelers)
        ]
        scored.append(ScoredPrompt(one(*rows), (1.0, 0.0)))
    return scored


def test_the_ceiling_is_what_a_perfect_model_reaches() -> None:
    """2.10: agreement A = q^2 + (1 - q)^2 of labelers who are right with probability q; a perfect model measures q."""
    found = audit(simulated(3, 0.164, 4000, 0))
    assert found["labelers"]["agreement"]["value"] == pytest.approx(0.726, abs=0.02)
    assert found["labelers"]["ceiling_if_independent"] == pytest.approx(0.836, abs=0.02)
    assert found["accuracy"]["value"] == pytest.approx(0.836, abs=0.01)
    assert found["majority_accuracy"]["value"] > found["accuracy"]["value"] + 0.05


def test_intervals_are_clustered_by_prompt() -> None:
    """The same pairs told as one prompt with many labelers, or as many prompts: the first knows far less."""
    few = audit(simulated(20, 0.3, 10, 1))["accuracy"]
    repeated = [ScoredPrompt(one(ranked("p", (1, 2), f"{n}")), (float(n % 10 > 2), 0.5)) for n in range(3)]
    assert few["clusters"] == 10
    assert few["n"] == 200
    right_in_clumps = [
        ScoredPrompt(one(*[ranked(str(p), (1, 2), f"{n}") for n in range(20)]), (float(p % 2), 0.5)) for p in range(10)
    ]
    clumped = audit(right_in_clumps)["accuracy"]
    assert clumped["high"] - clumped["low"] > 2 * (few["high"] - few["low"])
    assert audit(repeated)["accuracy"]["clusters"] == 3


def test_calibration_of_scores_that_are_log_odds() -> None:
    """Labels drawn from sigma(delta) itself: calibrated as they stand, over-confident when doubled."""
    generator = np.random.default_rng(2)
    scores = generator.normal(size=(4000, 2))
    first_wins = generator.random(4000) < 1 / (1 + np.exp(scores[:, 1] - scores[:, 0]))
    judged = [one(ranked(str(n), (1, 2) if first else (2, 1))) for n, first in enumerate(first_wins)]
    exact = audit([ScoredPrompt(j, tuple(s)) for j, s in zip(judged, scores, strict=True)])["calibration"]
    doubled = audit([ScoredPrompt(j, tuple(2 * s)) for j, s in zip(judged, scores, strict=True)])["calibration"]
    assert exact["ece"] < 0.03
    assert exact["temperature"] == pytest.approx(1.0, abs=0.1)
    assert doubled["ece"] > exact["ece"] + 0.05
    assert doubled["temperature"] == pytest.approx(2 * exact["temperature"], rel=1e-6)
    assert sum(bin_["count"] for bin_ in exact["bins"]) == 4000


def test_accuracy_by_margin_rank_gap_and_votes() -> None:
    near, far = user_prompt("near"), user_prompt("far")
    scored = [
        ScoredPrompt(one(Comparison(near, "a", "b", margin=0.5)), (0.0, 1.0)),
        ScoredPrompt(one(Comparison(far, "a", "b", margin=3.0)), (1.0, 0.0)),
        ScoredPrompt(one(ranked("gap", (1, 3))), (1.0, 0.0)),
    ]
    by = audit(scored)["accuracy_by"]
    assert [(row["at"], row["value"]) for row in by["margin"]] == [(0.0, 1.0), (0.5, 0.0), (3.0, 1.0)]
    assert [(row["at"], row["value"]) for row in by["rank_gap"]] == [(1.0, 0.5), (2.0, 1.0)]
    assert by["vote_share"] == []


def test_length_is_correlated_within_prompts() -> None:
    """Longer is better within every prompt, though prompts with short texts score higher."""
    texts = [("aa", "aaaa"), ("a" * 50, "a" * 60)]
    scored = [
        ScoredPrompt(one(Ranking(user_prompt(str(n)), pair, (2, 1))), (base, base + 1.0))
        for n, (pair, base) in enumerate(zip(texts, (10.0, 0.0), strict=True))
    ]
    found = audit(scored)["length"]
    assert found["correlation"] < 0
    assert found["correlation_within_prompt"] > 0.5


def test_an_ensemble_shows_where_its_members_disagree() -> None:
    agreed, divided = one(ranked("p", (1, 2))), one(ranked("q", (1, 2)))
    found = audit(
        [
            ScoredPrompt(agreed, (1.0, 0.0), ((1.0, 0.0), (1.0, 0.0))),
            ScoredPrompt(divided, (0.0, 1.0), ((-1.0, 2.0), (1.0, 0.0))),
        ]
    )["ensemble"]
    assert found["members"] == 2
    assert [member["value"] for member in found["accuracy"]] == [0.5, 1.0]
    assert found["accuracy_unanimous"]["value"] == 1.0
    assert found["accuracy_divided"]["value"] == 0.0
    assert found["unanimous_share"] == 0.5


def words(seed: int, prompts: int) -> list[JudgedPrompt]:
    """Texts of random words; those with more of "fine" and fewer of "poor" are preferred."""
    generator = np.random.default_rng(seed)
    vocabulary = ["fine", "poor", "the", "sea", "boat", "sand"]
    judged = []
    for number in range(prompts):
        texts = tuple(" ".join(generator.choice(vocabulary, size=8)) for _ in range(3))
        quality = [text.count("fine") - text.count("poor") for text in texts]
        order = sorted(set(quality), reverse=True)
        judged.append(one(Ranking(user_prompt(str(number)), texts, tuple(order.index(q) + 1 for q in quality))))
    return judged


def test_the_bag_of_words_learns_words_and_is_read_on_unseen_prompts() -> None:
    train, held_out = words(0, 200), words(1, 100)
    fitted = fit_bag_of_words(train)
    assert fitted.scores(["fine sea"])[0] > fitted.scores(["the sea"])[0] > fitted.scores(["poor sea"])[0]
    found = audit([ScoredPrompt(j, (0.0, 0.0, 0.0)) for j in held_out], train)["baselines"]
    assert found["bag_of_words"]["accuracy"]["value"] > 0.95
    assert found["bag_of_words"]["model_gain"]["value"] == pytest.approx(
        0.5 - found["bag_of_words"]["accuracy"]["value"]
    )


def test_a_bag_of_words_learns_next_to_nothing_from_noise() -> None:
    """Cross-validation chooses the strongest penalty, and the weights are small."""
    generator = np.random.default_rng(5)
    train = words(2, 200)
    shuffled = [
        one(Ranking(j.prompt, j.texts, tuple(int(rank) for rank in generator.permutation(len(j.texts)) + 1)))
        for j in train
    ]
    noise, truth = fit_bag_of_words(shuffled), fit_bag_of_words(train)
    assert noise.penalty == max(PENALTIES) > truth.penalty
    assert np.abs(noise.weights).max() < 0.1 * np.abs(truth.weights).max()


def test_the_length_rule_takes_the_direction_of_the_training_pairs() -> None:
    train = [one(Ranking(user_prompt(str(n)), ("short", "a longer text"), (1, 2))) for n in range(5)]
    assert longer_is_better(train) == -1.0
    held_out = [ScoredPrompt(one(Ranking(user_prompt("new"), ("tiny", "not so tiny"), (1, 2))), (0.0, 0.0))]
    found = audit(held_out, train)["baselines"]
    assert found["length_direction"] == "shorter"
    assert found["length"]["accuracy"]["value"] == 1.0
    assert found["longer_wins"]["accuracy"]["value"] == 0.0
