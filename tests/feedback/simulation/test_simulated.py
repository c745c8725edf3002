"""Simulated labelers: reproducible, noisy to a plausible degree, each with the bias it says it has."""

import itertools
import random
import subprocess
import sys
from collections.abc import Sequence

import pytest

from plaudit.core.errors import ConfigError
from plaudit.core.records import Prompt, Ranking, user_prompt
from plaudit.feedback.simulation.simulated import Labeler, Panel, default_panel, ranks_from_utilities
from plaudit.feedback.simulation.true_preference import true_preference

OPENINGS = ["Stir the pasta well", "You can boil pasta longer", "Use plenty of water for the pasta", "Add a little oil"]
MIDDLES = ["and keep the heat high", "during the first two minutes", "then toss it with your sauce", ""]
ENDINGS = [
    ", because starch is sticky at the start.",
    ", so that you keep each piece apart.",
    ". It is a considerable improvement. Many experienced professionals recommend it.",
    " and then",
    ".",
    " because because pasta because.",
]


def items(count: int, answers: int = 4) -> list[tuple[Prompt, list[str]]]:
    """Prompts with answers of very different quality, in random order."""
    generator = random.Random(7)
    texts = ["".join((a, " ", b, c)) for a, b, c in itertools.product(OPENINGS, MIDDLES, ENDINGS)]
    return [
        (user_prompt(f"How do I keep pasta from sticking, version {number}?"), generator.sample(texts, answers))
        for number in range(count)
    ]


def agreement(first: Sequence[Ranking], second: Sequence[Ranking]) -> float:
    """Share of the pairs both ranked strictly on which the two agree."""
    same = total = 0
    for one, other in zip(first, second, strict=True):
        for i, j in itertools.combinations(range(len(one.ranks)), 2):
            a, b = one.ranks[i] - one.ranks[j], other.ranks[i] - other.ranks[j]
            if a and b:
                same += (a > 0) == (b > 0)
                total += 1
    return same / total


def rankings(labeler: Labeler, seed: int = 0, count: int = 300) -> list[Ranking]:
    panel = Panel((labeler,))
    return [ranking for prompt, answers in items(count) for ranking in panel.rank(prompt, answers, seed)]


def test_the_same_seed_gives_the_same_ranks_in_another_process():
    code = (
        "from plaudit.feedback.simulation.simulated import default_panel\n"
        "from plaudit.core.records import user_prompt\n"
        "rankings = default_panel().rank(user_prompt('Why?'), ['Because you asked.', 'No.', 'So it is.'], 3)\n"
        "print([ranking.ranks for ranking in rankings])"
    )
    here = default_panel().rank(user_prompt("Why?"), ["Because you asked.", "No.", "So it is."], 3)
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == str([ranking.ranks for ranking in here])


def test_another_seed_gives_other_noise():
    labeler = Labeler("one")
    assert rankings(labeler, 0) == rankings(labeler, 0)
    assert rankings(labeler, 0) != rankings(labeler, 1)


def test_one_labelers_ranks_do_not_depend_on_who_else_is_asked():
    panel = default_panel()
    prompt, answers = items(1)[0]
    alone = panel.only("simulated-4").rank(prompt, answers, 5)
    assert alone == [ranking for ranking in panel.rank(prompt, answers, 5) if ranking.labeler == "simulated-4"]


def test_labelers_agree_about_as_often_as_people_do():
    everyone = {labeler.name: rankings(labeler) for labeler in default_panel().labelers}
    pairs = [agreement(a, b) for a, b in itertools.combinations(everyone.values(), 2)]
    # People on e2e and in published projects: 0.63 to 0.78.
    assert 0.62 < sum(pairs) / len(pairs) < 0.82
    assert min(pairs) > 0.52
    assert max(pairs) < 0.92


def test_the_careful_labeler_is_nearest_to_the_true_preference():
    truth = [
        Ranking(
            prompt, tuple(answers), ranks_from_utilities([true_preference(prompt, a) for a in answers], tie_width=0)
        )
        for prompt, answers in items(300)
    ]
    by_name = {labeler.name: agreement(rankings(labeler), truth) for labeler in default_panel().labelers}
    assert max(by_name, key=lambda name: by_name[name]) == "simulated-1"
    assert min(by_name, key=lambda name: by_name[name]) == "simulated-5"


def mean_rank_difference(labeler: Labeler, has: str) -> float:
    """Mean rank of answers without a property minus that of answers with it: positive is a liking for it."""
    with_it, without = [], []
    for ranking in rankings(labeler, count=600):
        lengths = [len(text.split()) for text in ranking.responses]
        formal = [sum(len(word) >= 8 for word in text.split()) for text in ranking.responses]
        for place, rank in enumerate(ranking.ranks):
            found = {
                "first": place == 0,
                "long": lengths[place] == max(lengths),
                "formal": formal[place] == max(formal),
            }[has]
            (with_it if found else without).append(rank)
    return sum(without) / len(without) - sum(with_it) / len(with_it)


@pytest.mark.parametrize(
    ("name", "has"), [("simulated-2", "long"), ("simulated-3", "first"), ("simulated-4", "formal")]
)
def test_each_bias_can_be_measured(name: str, has: str):
    biased = default_panel().only(name).labelers[0]
    fair = Labeler("fair", discrimination=biased.discrimination, tie_width=biased.tie_width)
    assert mean_rank_difference(biased, has) > mean_rank_difference(fair, has) + 0.08


def test_a_labeler_who_never_reads_is_at_chance():
    assert agreement(rankings(Labeler("asleep", careless=1.0)), rankings(Labeler("awake"))) == pytest.approx(
        0.5, abs=0.04
    )


@pytest.mark.parametrize(
    ("utilities", "tie_width", "ranks"),
    [
        ((3.0, 1.0, 2.0), 0.0, (1, 3, 2)),
        ((1.0, 1.0, 0.0), 0.0, (1, 1, 3)),
        ((1.0, 0.9, 0.0), 0.2, (1, 1, 3)),
        ((1.0, 0.85, 0.7), 0.2, (1, 1, 3)),  # no chain: the third is too far from the first
        ((0.0, 0.0, 0.0), 0.0, (1, 1, 1)),
    ],
)
def test_ranks_from_utilities(utilities: tuple[float, ...], tie_width: float, ranks: tuple[int, ...]):
    assert ranks_from_utilities(utilities, tie_width=tie_width) == ranks


def test_impossible_labelers_are_refused():
    with pytest.raises(ConfigError, match=r"careless=1\.5"):
        Labeler("x", careless=1.5)
    with pytest.raises(ConfigError, match="tie_width=-1"):
        Labeler("x", tie_width=-1)
    with pytest.raises(ConfigError, match="share a name"):
        Panel((Labeler("x"), Labeler("x")))
    with pytest.raises(ConfigError, match="simulated-9"):
        default_panel().only("simulated-9")
