"""Agreement against published libraries, hand-made cases and real judgments."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import inter_rater

from plaudit.core.errors import DataError
from plaudit.core.records import Ranking, user_prompt
from plaudit.datasets.read import read_rankings
from plaudit.feedback.quality.agreement import (
    agreement,
    alpha,
    cohen_kappa,
    coincidences,
    fleiss,
    kendall_w,
    krippendorff_alpha,
    tau_b,
)
from plaudit.feedback.quality.intervals import Wanted, bootstrap, share
from plaudit.feedback.quality.labeler_pairs import labeler_pairs
from plaudit.feedback.quality.outcomes import first_judgments, outcomes
from plaudit.feedback.quality.records import Judgment, from_rankings, item_key


def judgment(labeler: str, ranks: str, *, prompt: int = 0, texts: str | None = None, **more: object) -> Judgment:
    """Ranks "132" of responses a, b, c; `texts` replaces the letters."""
    words = tuple(texts or "abcdefghi"[: len(ranks)])
    asked = user_prompt(f"prompt {prompt}")
    return Judgment(
        item=item_key(asked, words),
        prompt=asked,
        responses=words,
        ranks=tuple(map(int, ranks)),
        labeler=labeler,
        **more,  # type: ignore[arg-type]
    )


def random_counts(seed: int, *, raters: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Ratings (raters, units) in 0..2, NaN where missing, and their counts (units, 3)."""
    generator = np.random.default_rng(seed)
    units, size = 25, raters or int(generator.integers(2, 7))
    ratings = generator.choice(3, size=(size, units), p=[0.5, 0.2, 0.3]).astype(float)
    copied = generator.random((size, units)) < 0.5
    ratings = np.where(copied, ratings[0], ratings)
    if raters is None:
        ratings[generator.random((size, units)) < 0.4] = np.nan
        ratings[1:, 0] = np.nan  # a unit of one labeler
    return ratings, np.stack([(ratings == value).sum(axis=0) for value in range(3)], axis=1).astype(float)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_alpha_is_that_of_the_krippendorff_package(seed, level):
    ratings, counts = random_counts(seed)
    expected = krippendorff.alpha(ratings, level_of_measurement=level, value_domain=[0, 1, 2])
    assert krippendorff_alpha(counts, level) == pytest.approx(expected, abs=1e-12)


def test_alpha_of_the_published_example():
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units.
    rows = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    ratings = np.array([[np.nan if mark == "." else float(mark) for mark in row] for row in rows])
    counts = np.stack([(ratings == value).sum(axis=0) for value in range(1, 6)], axis=1).astype(float)
    assert krippendorff_alpha(counts, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(counts, "ordinal") == pytest.approx(0.815, abs=5e-4)


@pytest.mark.parametrize("seed", range(8))
def test_kappas_are_those_of_statsmodels(seed):
    ratings, counts = random_counts(seed, raters=4)
    assert fleiss(counts) == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-12)
    table = np.zeros((3, 3))
    np.add.at(table, (ratings[0].astype(int), ratings[1].astype(int)), 1)
    assert float(cohen_kappa(table)) == pytest.approx(inter_rater.cohens_kappa(table).kappa, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_tau_b_is_that_of_scipy_with_ties(seed):
    generator = np.random.default_rng(seed)
    ranks = generator.integers(1, 4, size=(3, 6)).astype(float)
    i, j = np.triu_indices(6, 1)
    found = tau_b(np.sign(ranks[:, j] - ranks[:, i]))
    for a in range(3):
        for b in range(3):
            expected = stats.kendalltau(ranks[a], ranks[b]).statistic
            assert found[a, b] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("seed", range(8))
def test_kendalls_w_is_friedmans_chi_square(seed):
    ranks = np.random.default_rng(seed).integers(1, 5, size=(4, 6)).astype(float)
    chi_square = stats.friedmanchisquare(*ranks.T).statistic  # with the same correction for ties
    assert float(kendall_w(ranks)) == pytest.approx(chi_square / (4 * 5))


def test_kendalls_w_at_its_ends():
    assert float(kendall_w(np.array([[1.0, 2, 3], [1, 2, 3], [1, 2, 3]]))) == pytest.approx(1)
    assert np.isnan(kendall_w(np.ones((3, 4))))


def test_the_three_percentages_by_hand():
    judged = [judgment(who, ranks, prompt=n) for n in range(20) for who, ranks in (("u", "122"), ("v", "121"))]
    found = agreement(judged, outcomes(judged))
    # u: a>b, a>c, b=c.  v: a>b, a=c, c>b.  Strict in both: ab only, and they agree.
    assert found.with_ties.value == pytest.approx(1 / 3)
    assert found.half_credit.value == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert found.strict.value is None
    assert "20 of the 30 pairs" in (found.strict.reason or "")
    assert found.tie_rate.value == pytest.approx(1 / 3)


def test_alpha_does_not_depend_on_which_response_comes_first():
    """Three labelers, each right 90 % of the time: with the better response always first, chance explains it all."""
    generator = np.random.default_rng(0)
    right = generator.random((2000, 3)) < 0.9
    judged = [
        judgment(f"l{who}", "12" if right[item, who] else "21", prompt=item) for item in range(2000) for who in range(3)
    ]
    table = outcomes(judged)
    counts = table.unit_counts()
    assert abs(krippendorff_alpha(counts, "nominal")) < 0.05
    symmetric = agreement(judged, table)
    assert symmetric.alpha_nominal.value == pytest.approx(0.64, abs=0.03)
    turned = [
        judgment(one.labeler, "12" if one.ranks == (2, 1) else "21", prompt=int(one.prompt[0].content.split()[1]))
        if int(one.prompt[0].content.split()[1]) % 2
        else one
        for one in judged
    ]
    assert agreement(turned, outcomes(turned)).alpha_nominal.value == pytest.approx(symmetric.alpha_nominal.value)


def test_undefined_figures_say_why():
    alone = [judgment("only", "12", prompt=n) for n in range(40)]
    found = agreement(alone, outcomes(alone))
    assert found.strict.value is None
    assert found.strict.reason == "0 of the 30 pairs that a figure needs"
    tied = [judgment(who, "11", prompt=n) for n in range(40) for who in "uv"]
    found = agreement(tied, outcomes(tied))
    assert found.alpha_nominal.value is None
    assert "chance" in (found.alpha_nominal.reason or "")
    assert found.with_ties.value == 1
    same_prompt = [judgment(who, "123456789") for who in "uv"]
    found = agreement(same_prompt, outcomes(same_prompt))
    assert found.strict.value == 1
    assert found.strict.low is None
    assert "no interval" in (found.strict.reason or "")


def test_identical_texts_make_no_pair():
    assert len(outcomes([judgment("u", "112", texts="aab")])) == 2


def test_a_labelers_second_judgment_is_not_agreement():
    twice = [judgment("u", "12", at=2), judgment("u", "21", at=1), judgment("v", "12")]
    assert [(one.labeler, one.ranks) for one in first_judgments(twice)] == [("v", (1, 2)), ("u", (2, 1))]


def test_rankings_become_judgments_in_canonical_order():
    row = Ranking(user_prompt("p"), ("zebra", "ant"), (1, 2), labeler="u")
    shown = from_rankings([row], listed_as_shown=True)[0]
    assert (shown.responses, shown.ranks, shown.order) == (("ant", "zebra"), (2, 1), (1, 0))
    assert from_rankings([row])[0].order is None
    other = from_rankings([Ranking(user_prompt("p"), ("ant", "zebra"), (1, 1), labeler="v")])[0]
    assert other.item == shown.item
    with pytest.raises(DataError, match="no labeler"):
        from_rankings([Ranking(user_prompt("p"), ("a", "b"), (1, 2))])


def test_intervals_cover_the_truth_with_clustered_data():
    """95 % intervals of a share whose clusters differ contain it in about 95 % of 200 data sets."""
    generator = np.random.default_rng(1)
    covered = 0
    for run in range(200):
        rates = generator.beta(4, 2, size=60)
        hits = generator.binomial(10, rates)
        sums = np.stack([hits, np.full(60, 10)], axis=1).astype(float)
        found = bootstrap(sums, {"rate": Wanted(share(0, 1), 600, "")}, seed=run)["rate"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 4 / 6 <= found.high
    assert 180 <= covered <= 200


def test_the_same_seed_gives_the_same_interval():
    sums = np.random.default_rng(0).random((50, 2))
    wanted = {"x": Wanted(share(0, 1), 50, "")}
    assert bootstrap(sums, wanted, seed=3) == bootstrap(sums, wanted, seed=3)
    assert bootstrap(sums, wanted, seed=3) != bootstrap(sums, wanted, seed=4)


def test_labeler_pairs_are_found_and_agree_with_the_whole():
    generator = np.random.default_rng(5)
    judged = [
        judgment(who, "12" if generator.random() < 0.8 else "21", prompt=n) for n in range(100) for who in ("u", "v")
    ]
    table = outcomes(judged)
    (pair,) = labeler_pairs(table)
    assert (pair.first, pair.second, pair.common) == ("u", "v", 100)
    assert pair.strict.value == pytest.approx(agreement(judged, table).strict.value)
    half = coincidences(table.unit_counts()).sum(axis=0)
    both = half + half[::-1, ::-1]
    # Two labelers: alpha and kappa differ by the small-sample term only.
    assert pair.kappa.value == pytest.approx(float(alpha(both, "nominal")), abs=0.01)


@pytest.mark.parametrize(("criterion", "strict"), [("quality", 0.67), ("naturalness", 0.63)])
def test_recorded_judgments_give_the_known_figures(data_folder, criterion, strict):
    rows = read_rankings(str(data_folder / "e2e" / "rankings.jsonl.gz"), criterion=criterion).rows
    judged = first_judgments(from_rankings(rows))
    found = agreement(judged, outcomes(judged))
    assert found.strict.value == pytest.approx(strict, abs=0.005)
    assert found.tie_rate.value == pytest.approx(0.5, abs=0.04)
    for estimate in (found.strict, found.ceiling, found.alpha_ordinal, found.tau_b, found.kendall_w):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.value is not None
        assert estimate.low < estimate.value < estimate.high
