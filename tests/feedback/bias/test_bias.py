"""The bias audit: planted biases come out, none are seen where none are, and small groups stay hidden."""

from __future__ import annotations

import gzip
import json
import random

import numpy as np
import pytest

from plaudit.core.errors import DataError
from plaudit.core.files import write_jsonl
from plaudit.core.records import Prompt, user_prompt
from plaudit.feedback.bias.effects import EVERYBODY, Effect
from plaudit.feedback.bias.features import features, shown_earlier
from plaudit.feedback.bias.groups import groups, shown_groups
from plaudit.feedback.bias.logistic import fit
from plaudit.feedback.bias.position import position
from plaudit.feedback.bias.report import audit
from plaudit.feedback.bias.reward_probe import MODEL
from plaudit.feedback.bias.scores import read_scores
from plaudit.feedback.quality.outcomes import outcomes
from plaudit.feedback.quality.records import Judgment, canonical_order, item_key
from plaudit.feedback.simulation.planted import Planted, judge_all, planted_labelers
from plaudit.feedback.simulation.simulated import Labeler

Items = list[tuple[Prompt, list[str]]]


def stated(prompt: Prompt, response: str) -> float:  # noqa: ARG001
    """The quality that the response itself states, so that its relation to length is the test's own."""
    return float(response.split()[1])


def items(count: int, seed: int, *, slope: float = 0.0) -> Items:
    """Items of four responses; `slope`: how much the quality of longer responses is higher."""
    generator = random.Random(seed)
    made: Items = []
    for number in range(count):
        texts = []
        for _ in range(4):
            words = generator.randint(5, 60)
            quality = generator.gauss(0, 1) + slope * (words - 32) / 16
            marks = "\n- one\n- two" if generator.random() < 0.3 else ""
            texts.append(f"quality {quality:.3f} " + "word " * words + marks)
        made.append((user_prompt(f"prompt {seed} {number}"), texts))
    return made


def equals(*discriminations: float) -> tuple[Planted, ...]:
    return tuple(
        Planted(Labeler(f"l{number}", discrimination=value, preference=stated), "none")
        for number, value in enumerate(discriminations)
    )


def of(effects: tuple[Effect, ...], probe: str, labeler: str) -> Effect:
    return next(effect for effect in effects if (effect.probe, effect.labeler) == (probe, labeler))


@pytest.fixture(scope="module")
def planted_audit():
    judged = judge_all(planted_labelers(preference=stated), items(150, 0), 1)
    return audit(judged, outcomes(judged))


def test_planted_biases_are_found_where_they_are(planted_audit):
    position_of = {effect.labeler for effect in planted_audit.effects if effect.probe == "position" and effect.found}
    assert position_of - {EVERYBODY} == {"first"}
    first, long = of(planted_audit.effects, "position", "first"), of(planted_audit.effects, "length", "long")
    assert first.effect.low is not None
    assert first.effect.low > 0.1
    assert long.found
    assert long.effect.low is not None
    assert long.effect.low > 0.2
    assert (
        not of(planted_audit.effects, "length", "random").found
        or (of(planted_audit.effects, "length", "random").effect.value or 0) < 0
    )
    assert all(effect.effect.n and effect.effect.low is not None for effect in planted_audit.effects if effect.p)


def test_the_other_way_round_has_the_other_sign():
    late = Planted(Labeler("late", discrimination=1.0, first_shown=-2.5, preference=stated), "prefers later")
    judged = judge_all((*equals(1.5, 1.5), late), items(120, 3), 2)
    effect = of(audit(judged, outcomes(judged)).effects, "position", "late")
    assert effect.found
    assert effect.effect.high is not None
    assert effect.effect.high < -0.1


def alarms(runs: int, labelers: tuple[Planted, ...], *, slope: float, seed: int) -> int:
    """In how many audits of unbiased labelers anything was found, except that longer answers really are better."""
    count = 0
    for run in range(runs):
        judged = judge_all(labelers, items(40, seed + run, slope=slope), run)
        found = [effect for effect in audit(judged, outcomes(judged)).effects if effect.found]
        count += any(not (slope and effect.labeler == EVERYBODY and effect.probe == "length") for effect in found)
    return count


def test_no_planted_bias_no_alarm():
    """24 audits of six unbiased labelers, about 60 tests each; `test_false_alarm_rate` has more."""
    assert alarms(24, equals(1.5, 1.5, 1.5, 1.5, 1.5, 1.5), slope=0.0, seed=500) <= 4


@pytest.mark.slow
def test_false_alarm_rate():
    """400 audits: at most 5 % with an alarm, plus the 95 % error of 400 trials (31 of 400)."""
    mixed = equals(2.0, 1.8, 1.5, 1.2, 1.0, 0.8)
    found = alarms(200, equals(*[1.5] * 6), slope=0.0, seed=1000) + alarms(200, mixed, slope=0.0, seed=3000)
    assert found <= 29


def test_one_order_for_all_is_no_evidence_of_anything():
    made = items(40, 5)
    judged = [
        Judgment(
            item_key(prompt, texts), prompt, tuple(texts[i] for i in order), (1, 2, 3, 4), name, order=tuple(order)
        )
        for prompt, texts in made
        for order in [canonical_order(texts)]
        for name in "abc"
    ]
    table = outcomes(judged)
    (effect,) = position(table, shown_earlier(judged, table))
    assert effect.p is None
    assert "cannot be told apart" in (effect.effect.reason or "")


def test_no_sentence_ever_says_no_bias(planted_audit):
    for effect in planted_audit.effects:
        assert "no bias" not in effect.sentence.lower()
        assert "unbiased" not in effect.sentence.lower()
        if effect.p is not None and not effect.found:
            assert "no evidence of an effect in these data, which allow" in effect.sentence
        if effect.effect.value is None:
            assert "no figure" in effect.sentence


def test_speed_finds_the_labeler_whose_fast_judgments_are_guesses():
    generator = random.Random(0)
    guess = Labeler("hasty", discrimination=0.0, preference=stated)
    think = Labeler("hasty", discrimination=3.0, preference=stated)
    judged = judge_all(equals(3.0, 3.0, 3.0), items(200, 9), 4)
    for number, (prompt, texts) in enumerate(items(200, 9)):
        fast = generator.random() < 0.5
        one = Planted(guess if fast else think, "guesses when fast", 15.0 if fast else 2.0)
        judged.append(one.judge(prompt, texts, 4, at=number))
    effects = audit(judged, outcomes(judged)).effects
    assert of(effects, "speed", "hasty").found
    assert (of(effects, "speed", "hasty").effect.high or 0) < -0.2
    assert not of(effects, "speed", "l0").found


def test_suggestion_finds_who_copies_the_machine():
    made = items(100, 11)
    generator = random.Random(1)
    scores = {(prompt, text): generator.random() for prompt, texts in made for text in texts}
    copying = Planted(
        Labeler("copies", discrimination=20.0, preference=lambda prompt, text: scores[prompt, text]), "copies"
    )
    judged = judge_all((*equals(1.5, 1.5, 1.5), copying), made, 3)
    effects = audit(judged, outcomes(judged), suggestions=scores).effects
    found = {effect.labeler for effect in effects if effect.probe == "suggestion" and effect.found}
    assert "copies" in found
    assert (of(effects, "suggestion", "copies").effect.low or 0) > 0.3
    # The others seem to avoid the machine, only because they are measured against the copier.
    assert all((of(effects, "suggestion", name).effect.value or 0) <= 0.0 for name in found - {"copies", EVERYBODY})


def test_a_reward_model_that_likes_length_is_told_from_one_that_does_not(tmp_path):
    made = items(150, 13)
    judged = judge_all(equals(1.5, 1.5, 1.5), made, 5)
    table = outcomes(judged)
    rows = [
        {
            "prompt": prompt[0].content,
            "responses": texts,
            "scores": [len(text.split()) / 8 + stated(prompt, text) for text in texts],
        }
        for prompt, texts in made
    ]
    write_jsonl(tmp_path / "long.jsonl", rows)
    effects = audit(judged, table, reward=read_scores(tmp_path / "long.jsonl")).reward
    assert of(effects, "length", MODEL).found
    assert (of(effects, "length", MODEL).effect.low or 0) > 0.2
    assert not of(effects, "length", EVERYBODY).found
    assert (of(effects, "length of errors", MODEL).effect.low or 0) > 0.2
    fair = {(prompt, text): stated(prompt, text) for prompt, texts in made for text in texts}
    assert not of(audit(judged, table, reward=fair).reward, "length", MODEL).found


def test_scores_that_do_not_fit_are_refused(tmp_path):
    write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "p", "responses": ["a", "b"], "scores": [1.0]}])
    with pytest.raises(DataError, match=r"bad\.jsonl:1: 2 responses and 1 scores"):
        read_scores(tmp_path / "bad.jsonl")
    write_jsonl(tmp_path / "some.jsonl", [{"prompt": "p", "responses": ["a", "b"], "scores": [1.0, None]}])
    assert read_scores(tmp_path / "some.jsonl") == {(user_prompt("p"), "a"): 1.0}


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"a": 9, "b": 7}, ["a", "b"]),
        ({"a": 9, "b": 7, "c": 4}, ["a"]),  # 20 - 9 - 7 would give c away, so b goes too
        ({"a": 9, "b": 7, "c": 2, "d": 3}, ["a", "b"]),  # c and d are five together
        ({"a": 9, "b": 7, "c": 1, "d": 1}, ["a"]),
        ({"a": 6, "b": 1}, []),
        ({"a": 4, "b": 4}, []),
    ],
)
def test_small_groups_cannot_be_worked_out(counts, shown):
    assert shown_groups(counts) == shown
    hidden = [count for option, count in counts.items() if option not in shown]
    assert not hidden or (len(hidden) >= 2 and sum(hidden) >= 5) or not shown


def group_judgments(split: float, seed: int) -> list[Judgment]:
    """Twelve labelers; the last six prefer the second response of a `split` share of the items."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(60):
        prompt, texts = user_prompt(f"p{number}"), ("a", "b")
        contested = generator.random() < split
        for who in range(12):
            right = generator.random() < 0.85
            first = right != (contested and who >= 6)
            made.append(Judgment(item_key(prompt, texts), prompt, texts, (1, 2) if first else (2, 1), f"l{who}"))
    return made


def test_groups_that_differ_are_found_and_others_are_not():
    answers = {f"l{who}": "old" if who < 6 else "young" for who in range(12)}
    apart = group_judgments(0.5, 0)
    found = groups(outcomes(apart), "age", answers)
    assert [(group.option, group.labelers) for group in found.groups] == [("old", 6), ("young", 6)]
    assert (found.effect.effect.low or 0) > 0.1
    assert (found.effect.p or 1) < 0.01
    wrong = sum(
        (groups(outcomes(group_judgments(0.0, seed)), "age", answers, seed=seed).effect.p or 1) <= 0.05
        for seed in range(1, 21)
    )
    assert wrong <= 4


def test_groups_are_hidden_when_small():
    answers = {f"l{who}": "old" if who < 6 else "young" for who in range(9)}  # three did not answer
    found = groups(outcomes(group_judgments(0.5, 0)), "age", answers)
    assert found.groups == ()
    assert found.suppressed
    assert found.effect.effect.value is None
    assert "fewer than two groups" in (found.effect.effect.reason or "")


def test_how_small_is_small_is_a_setting():
    answers = {f"l{who}": "old" if who < 6 else "young" for who in range(9)}
    judged = outcomes(group_judgments(0.5, 0))
    assert [(one.option, one.labelers) for one in groups(judged, "age", answers, smallest=3).groups] == [
        ("old", 6),
        ("young", 3),
    ]
    assert groups(judged, "age", answers, smallest=4).groups == ()


def test_features_of_a_text():
    assert features("one two three four").length == 2
    assert features("").length == 0
    assert features("# Title\n\ntext")[1:] == (0, 1, 0)
    assert features("1. one\n2. two")[1:] == (1, 0, 0)
    assert features("a **bold** word")[1:] == (0, 0, 1)
    assert features("2 * 3 ** 4 and a_b__c")[1:] == (0, 0, 0)


def test_the_logistic_model_recovers_coefficients_from_either_side():
    generator = np.random.default_rng(0)
    differences = generator.normal(size=(4000, 2))
    wins = (generator.random(4000) < 1 / (1 + np.exp(-(differences @ [1.0, -0.5])))).astype(float)
    cluster = np.arange(4000) // 4
    found = fit(differences, wins, cluster)
    assert found.coefficients == pytest.approx([1.0, -0.5], abs=0.12)
    sides = np.where(generator.random(4000) < 0.5, 1.0, -1.0)
    turned = fit(differences * sides[:, None], np.where(sides > 0, wins, 1 - wins), cluster)
    assert turned.coefficients == pytest.approx(found.coefficients)
    assert turned.errors == pytest.approx(found.errors)


def test_a_feature_that_decides_everything_stays_finite():
    differences = np.array([[1.0], [-1.0]] * 50)
    found = fit(differences, (differences[:, 0] > 0).astype(float), np.arange(100))
    assert np.isfinite(found.coefficients).all()
    assert found.coefficients[0] > 2


def test_the_longer_argument_wins_three_quarters_of_recorded_pairs(data_folder):
    texts = {}
    with gzip.open(data_folder / "ukp" / "arguments.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            texts[row["id"]] = row["text"]
    judged = []
    with gzip.open(data_folder / "ukp" / "pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in list(map(json.loads, lines))[:3000]:
            prompt = user_prompt(row["a1"].split("#")[0])
            pair = (texts[row["a1"]], texts[row["a2"]])
            order = canonical_order(pair)
            for name, vote in row["votes"]:
                ranks = {"a1": (1, 2), "a2": (2, 1), "equal": (1, 1)}[vote]
                judged.append(
                    Judgment(
                        item_key(prompt, pair),
                        prompt,
                        tuple(pair[i] for i in order),
                        tuple(ranks[i] for i in order),
                        name,
                    )
                )
    table = outcomes(judged)
    net = np.bincount(table.unit, table.outcome, minlength=table.units)
    _, once = np.unique(table.unit, return_index=True)
    lengths = np.array(
        [
            len(judged[judgment].responses[0].split()) - len(judged[judgment].responses[1].split())
            for judgment in table.judgment[once]
        ]
    )
    decided = (net[table.unit[once]] != 0) & (lengths != 0)
    longer_wins = (np.sign(net[table.unit[once]]) == np.sign(lengths))[decided].mean()
    assert longer_wins == pytest.approx(0.75, abs=0.05)
