"""Choosing what to label next: by score, by lot, and with the true probability on record."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

import populate
from labeling import start_batch
from plaudit.core.errors import DataError
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import prompt, task
from plaudit.feedback.tasks.batches import BatchConfig, create_batch
from plaudit.feedback.tasks.selection import Scored, SelectionConfig, candidates, choose, chosen_tasks, ensemble_spread
from plaudit.feedback.tasks.tasks import add_tasks


def test_the_recorded_probability_is_the_share_of_draws_that_choose():
    scored = [Scored(f"p{number}", score) for number, score in enumerate([5, 4, 3, 3, 3, 3, 2, 1, 0, 0])]
    draws = 4000
    times = dict.fromkeys((one.prompt_id for one in scored), 0)
    probability: dict[str, float] = {}
    for seed in range(draws):
        chosen = choose(scored, SelectionConfig(count=6, random_share=0.3, seed=seed))
        assert len(chosen) == 6
        assert sum(one.at_random for one in chosen) == 2
        for one in chosen:
            times[one.prompt_id] += 1
            assert probability.setdefault(one.prompt_id, one.probability) == one.probability
    for name, count in times.items():
        error = math.sqrt(probability[name] * (1 - probability[name]) / draws)
        assert count / draws == pytest.approx(probability[name], abs=4 * error + 1e-9)
    assert sum(probability.values()) == pytest.approx(6)


@given(
    st.lists(st.integers(0, 4), max_size=30),
    st.integers(1, 40),
    st.floats(0.01, 1),
)
def test_probabilities_add_up_and_the_top_is_in(scores, count, share):
    scored = [Scored(f"p{number:02}", float(score)) for number, score in enumerate(scores)]
    chosen = choose(scored, SelectionConfig(count=count, random_share=share))
    assert len(chosen) == len({one.prompt_id for one in chosen}) == min(count, len(scored))
    assert all(0 < one.probability <= 1 for one in chosen)
    by_score = [one.score for one in chosen if not one.at_random]
    assert sorted(by_score, reverse=True) == sorted(map(float, scores), reverse=True)[: len(by_score)]
    if count >= len(scored):
        assert {one.probability for one in chosen} <= {1.0}


def test_weighting_by_the_probability_undoes_the_choice():
    """Horvitz-Thompson: the mean over the whole pool, estimated from what was chosen by score."""
    scored = [Scored(f"p{number:03}", float(number)) for number in range(100)]
    estimates = [
        sum(
            one.score / one.probability
            for one in choose(scored, SelectionConfig(count=20, random_share=0.5, seed=seed))
        )
        / 100
        for seed in range(600)
    ]
    assert sum(estimates) / len(estimates) == pytest.approx(49.5, abs=1.2)


def test_the_spread_is_about_differences_between_the_models():
    assert ensemble_spread([[0.0, 1.0], [5.0, 6.0]]) == pytest.approx(0)
    assert ensemble_spread([[0.0, 800.0], [800.0, 0.0]]) == pytest.approx(0.25)
    assert 0 < ensemble_spread([[0, 1, 2], [0, 1, 1]]) < 0.25
    for bad in ([[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], [1.0]], [[1.0, math.nan], [1.0, 2.0]], []):
        with pytest.raises(DataError):
            ensemble_spread(bad)


def test_scores_that_cannot_be_used_are_refused():
    with pytest.raises(DataError, match="two scores"):
        choose([Scored("a", 1), Scored("a", 2)], SelectionConfig(count=1))
    with pytest.raises(DataError, match="not finite"):
        choose([Scored("a", math.inf)], SelectionConfig(count=1))


def test_held_out_and_asked_prompts_are_no_candidates_and_the_record_is_kept(database: Database):
    with database.write() as c:
        work = start_batch(c, tasks=2, name="Before")
        origin = populate.add_origin(c)
        new: list[str] = []
        for number, split in enumerate(["train"] * 6 + ["validation", "test"]):
            new.append(populate.add_prompt(c, origin, f"New {number}?", split=split))
            for text in ("Yes.", "No.", "Maybe."):
                populate.add_response(c, new[-1], origin, text)
        c.execute(update(prompt).where(prompt.c.id == new[0]).values(status="retired"))
        new.append(populate.add_prompt(c, origin, "Nobody answered?"))
        scored = [Scored(name, float(number)) for number, name in enumerate([*work.prompts, *new])]
        found = candidates(c, scored, "ranking")
        assert {one.prompt_id for one in found.scored} == set(new[1:6])
        assert found.left_out == {
            "retired": 1,
            "asked about already": 2,
            "held out for validation or test": 2,
            "with fewer than two different answers": 1,
        }
        assert {one.prompt_id for one in candidates(c, scored, "demonstration").scored} == {*new[1:6], new[-1]}
        chosen = choose(found.scored, SelectionConfig(count=3, policy="suspicion", random_share=0.3))
        batch_id = create_batch(c, "Next", "ranking", "work", BatchConfig(), by=None)
        add_tasks(c, batch_id, chosen_tasks(c, chosen, BatchConfig(), "ranking"))
        stored = {row.prompt_id: row.selection for row in c.execute(select(task).where(task.c.batch_id == batch_id))}
        assert stored == {one.prompt_id: one.record() for one in chosen}
        assert set(stored[chosen[0].prompt_id]) == {"policy", "score", "probability", "random", "candidates"}
