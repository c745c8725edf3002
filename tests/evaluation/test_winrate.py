import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import Field

from plaudit.core.config import Config
from plaudit.core.errors import DataError
from plaudit.core.files import read_jsonl
from plaudit.core.records import Message, Prompt, user_prompt
from plaudit.core.run import Run
from plaudit.evaluation.comparison import Contestant, Judge, compare_policies
from plaudit.evaluation.judges import Verdict, judge_both_orders
from plaudit.evaluation.winrate import as_dict, compare, compare_pairwise, win_rate


class LengthScorer:
    """Longer is better; answers with a question mark are unscored."""

    name = "length"

    def score(self, _prompts, responses):
        return [None if "?" in text else float(len(text)) for text in responses]


class FirstIsBest:
    """A judge with nothing but position bias."""

    name = "first"

    def judge(self, _prompt: Prompt, _first: str, _second: str) -> Verdict | None:
        return "first"


class LongerWins:
    name = "longer"

    def judge(self, _prompt: Prompt, first: str, second: str) -> Verdict | None:
        if "?" in first + second:
            return None
        return "tie" if len(first) == len(second) else ("first" if len(first) > len(second) else "second")


def test_ties_count_half_and_the_interval_holds_the_rate():
    found = win_rate([3.0, 1.0, 2.0, 5.0], [1.0, 2.0, 2.0, 4.0], ["a", "b", "c", "d"])
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.rate.value == 0.625
    assert found.rate.low < 0.625 < found.rate.high
    assert found.score_difference.value == pytest.approx(0.5)


def test_unscored_is_counted_and_is_no_tie():
    scored = win_rate([3.0, 1.0], [1.0, 0.0], ["a", "b"])
    with_gaps = win_rate([3.0, 1.0, None, 2.0], [1.0, 0.0, 1.0, None], ["a", "b", "c", "d"])
    assert with_gaps.unscored == 2
    assert with_gaps.prompts == 2
    assert with_gaps.ties == 0
    assert with_gaps.rate == scored.rate


def test_swapping_the_policies_gives_the_complement():
    generator = np.random.default_rng(1)
    a, b = generator.normal(0.3, 1, 60).round(1).tolist(), generator.normal(0, 1, 60).round(1).tolist()
    keys = [str(i // 3) for i in range(60)]
    lengths_a, lengths_b = generator.integers(10, 90, 60).tolist(), generator.integers(10, 90, 60).tolist()
    forth = win_rate(a, b, keys, lengths_a=lengths_a, lengths_b=lengths_b)
    back = win_rate(b, a, keys, lengths_a=lengths_b, lengths_b=lengths_a)
    assert forth.rate.value == pytest.approx(1 - back.rate.value, abs=1e-12)
    assert forth.rate.low == pytest.approx(1 - back.rate.high, abs=1e-12)
    assert forth.length_controlled.value == pytest.approx(1 - back.length_controlled.value, abs=1e-8)
    assert forth.score_difference.value == pytest.approx(-back.score_difference.value)


def test_identical_answers_are_all_ties():
    prompts = [user_prompt(str(i)) for i in range(10)]
    found = compare(prompts, ["same"] * 10, ["same"] * 10, LengthScorer())
    assert (found.ties, found.rate.value) == (10, 0.5)


def test_repeating_every_answer_tells_nothing_new():
    """Clusters: ten copies of each comparison must not narrow the interval."""
    generator = np.random.default_rng(2)
    a, b = generator.normal(0.2, 1, 40), generator.normal(0, 1, 40)
    keys = [str(i) for i in range(40)]
    once = win_rate(a.tolist(), b.tolist(), keys)
    copies = win_rate(np.repeat(a, 10).tolist(), np.repeat(b, 10).tolist(), np.repeat(keys, 10).tolist())
    assert copies.rate.low == pytest.approx(once.rate.low, abs=1e-9)
    assert copies.score_difference.high == pytest.approx(once.score_difference.high, abs=1e-9)


def test_two_samples_of_one_policy_differ_by_chance_only():
    """E8: the 95 % interval covers one half in about 95 % of repeats, with four correlated answers a prompt."""
    covered = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        difficulty = np.repeat(generator.normal(0, 2, 50), 4)
        own = generator.normal(0, 1, (2, 50)).repeat(4, axis=1)  # answers of one prompt resemble each other
        a, b = difficulty + own + generator.normal(0, 0.5, (2, 200))
        found = win_rate(a.tolist(), b.tolist(), [str(i // 4) for i in range(200)])
        covered += found.rate.low <= 0.5 <= found.rate.high
    assert 180 <= covered <= 198  # 190 +- 3 standard errors of a binomial, 0.95 of 200


def test_a_judge_of_length_alone_has_no_preference_at_equal_length():
    """E7: P(win) = sigma(2 tanh(d / std)), d ~ N(1, 1): raw rate 0.723, length-controlled 0.5."""
    generator = np.random.default_rng(3)
    n = 20_000
    d = generator.normal(1, 1, n)
    p = 1 / (1 + np.exp(-2 * np.tanh(d / d.std())))
    wins = generator.random(n) < p
    lengths_a = (1000 + 100 * d).round().astype(int).tolist()
    found = win_rate(
        wins.astype(float).tolist(), [0.5] * n, [str(i) for i in range(n)], lengths_a=lengths_a, lengths_b=[1000] * n
    )
    assert found.rate.value == pytest.approx(0.723, abs=0.01)
    assert found.length_controlled.value == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(bad):
    with pytest.raises(DataError, match="finite"):
        win_rate([1.0, bad], [0.0, 0.0], ["a", "b"])


def test_nothing_scored_is_an_error():
    with pytest.raises(DataError, match="None of 2 comparisons"):
        win_rate([None, 1.0], [1.0, None], ["a", "b"])


def test_one_prompt_gives_no_certainty():
    found = win_rate([1.0] * 20, [0.0] * 20, ["same"] * 20)
    assert found.rate.value == 1.0
    assert found.rate.low == 0.0


def test_position_bias_becomes_ties():
    prompts = [user_prompt(str(i)) for i in range(5)]
    found = judge_both_orders(FirstIsBest(), prompts, ["a"] * 5, ["b"] * 5)
    assert found.outcomes == [0.5] * 5
    assert found.changed == 5


def test_consistent_verdicts_count_and_a_missing_one_is_unscored():
    prompts = [user_prompt(str(i)) for i in range(4)]
    found = compare_pairwise(prompts, ["long", "s", "even", "what?"], ["s", "long", "same", "x"], LongerWins())
    assert (found.wins, found.losses, found.ties, found.unscored, found.changed) == (1, 1, 1, 1, 0)
    assert found.score_difference is None


def test_an_unknown_verdict_is_refused():
    class Confused:
        name = "confused"

        def judge(self, _prompt, _first, _second):
            return "both"

    with pytest.raises(DataError, match="confused answered 'both'"):
        judge_both_orders(Confused(), [user_prompt("?")], ["a"], ["b"])


class Settings(Config):
    seed: int = Field(0, description="Seed.")


def test_a_comparison_is_written_as_the_report_reads_it(tmp_path: Path):
    prompts: list[Prompt] = [(Message("user", "one"),), (Message("user", "two"),)]
    with Run.open(tmp_path / "evaluation", stage="evaluate", config=Settings(), inputs={}) as run:
        a, b = Contestant("ppo", ["longer", "what?"]), Contestant("sft", ["short", "x"])
        found = compare_policies(run, prompts, a, b, [Judge(LengthScorer(), independent=True, note="A rule.")])
        run.finish({"comparisons": found})
    assert found[0]["rate"]["value"] == 1.0
    assert found[0]["unscored"] == 1
    assert found[0]["independent"] is True
    rows = list(read_jsonl(tmp_path / "evaluation" / "samples.jsonl"))
    assert [(row["answer_a"], row["score_a"]) for row in rows] == [("longer", 6.0), ("what?", None)]


def test_every_answer_meets_every_answer_to_the_same_prompt(tmp_path: Path):
    one, two = (Message("user", "one"),), (Message("user", "two"),)
    with Run.open(tmp_path / "evaluation", stage="evaluate", config=Settings(), inputs={}) as run:
        a, b = Contestant("ppo", ["12345", "1", "123"]), Contestant("sft", ["123", "12", "123"])
        (found,) = compare_policies(run, [one, one, two], a, b, [Judge(LengthScorer(), independent=True)])
    # one: 5 > 3, 5 > 2, 1 < 3, 1 < 2; two: 3 = 3. Answers to different prompts never meet.
    assert (found["wins"], found["losses"], found["ties"], found["prompts"]) == (2, 2, 1, 2)


def test_as_dict_holds_plain_values():
    found = as_dict(win_rate([1.0, 0.0], [0.0, 1.0], ["a", "b"]))
    assert set(found["rate"]) >= {"value", "low", "high", "n"}
    assert found["length_controlled"] is None
