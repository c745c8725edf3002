"""Seconds to a level of held-out reward, from curves made up here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.peer import stopwatch
from benchmarks.peer.reach import Curve, course_table, monotone, reach_table, reached, seconds_to
from benchmarks.peer.stopwatch import Course, Stopwatch


def curve(seconds: list[float], means: list[float], *, prompts: int = 4, spread: float = 0.0) -> Curve:
    """Prompts that differ by `spread` in all checkpoints alike."""
    away = spread * (np.arange(prompts) - (prompts - 1) / 2)
    return Curve(seconds, np.array(means)[:, None] + away)


def row(side: str, number: int, seconds: float, rewards: list[float]) -> dict[str, Any]:
    mean = sum(rewards) / len(rewards)
    ends = {"reward": mean, "reward_low": mean - 0.1, "reward_high": mean + 0.1}
    rest = {"cpu_seconds": 2 * seconds, "kl": 1.44, "tokens": 40.0, "unfinished": 0.0}
    return {"side": side, "round": number, "seconds": seconds, "rewards": rewards} | ends | rest


def test_a_falling_stretch_becomes_its_mean() -> None:
    assert monotone([0.0, 3.0, 1.0, 2.0, 5.0]) == [0.0, 2.0, 2.0, 2.0, 5.0]
    assert monotone([3.0, 2.0, 1.0]) == [2.0, 2.0, 2.0]
    assert monotone([1.0, 2.0]) == [1.0, 2.0]


def test_a_level_between_two_checkpoints_is_on_the_line_between_them() -> None:
    seconds, rising = [0.0, 100.0, 300.0], [0.0, 1.0, 2.0]
    assert seconds_to(0.25, seconds, rising) == pytest.approx(25.0)
    assert seconds_to(1.5, seconds, rising) == pytest.approx(200.0)
    assert seconds_to(0.0, seconds, rising) == 0.0
    assert seconds_to(2.1, seconds, rising) == math.inf


def test_a_lucky_checkpoint_is_no_arrival() -> None:
    seconds, means = [0.0, 10.0, 20.0, 30.0, 40.0], [0.0, 0.9, 0.1, 0.5, 1.0]
    assert seconds_to(0.75, seconds, means) < 10.0
    assert seconds_to(0.75, seconds, monotone(means)) > 30.0


def test_levels_are_shares_of_what_both_gain() -> None:
    own = curve([0.0, 10.0, 20.0], [-0.2, 0.2, 0.4])
    peer = curve([0.0, 100.0, 200.0], [-0.2, 0.0, 0.2])
    found = reached(own, peer, draws=10)
    assert [r.level for r in found] == pytest.approx([-0.1, 0.0, 0.1, 0.16])
    assert [r.seconds for r in found] == pytest.approx([2.5, 5.0, 7.5, 9.0])
    assert [r.peer_seconds for r in found] == pytest.approx([50.0, 100.0, 150.0, 180.0])
    assert [r.ratio for r in found] == pytest.approx([20.0] * 4)


def test_prompts_drawn_for_both_sides_alike_widen_nothing_that_is_common_to_them() -> None:
    """What shifts a prompt's reward everywhere, start included, moves both curves against fixed levels."""
    same = [0.0, 0.5, 1.0]
    own = curve([0.0, 10.0, 20.0], same, spread=0.1)
    peer = curve([0.0, 40.0, 80.0], same, spread=0.1)
    for r in reached(own, peer, draws=200):
        assert (r.low, r.high) == pytest.approx((4.0, 4.0))


def test_an_interval_holds_the_ratio_and_is_wide_where_prompts_disagree() -> None:
    generator = np.random.default_rng(1)
    own = Curve([0.0, 10.0, 20.0], np.array([[0.0], [0.5], [1.0]]) + generator.normal(0, 0.3, (3, 40)))
    peer = Curve([0.0, 40.0, 80.0], np.array([[0.0], [0.5], [1.0]]) + generator.normal(0, 0.3, (3, 40)))
    half = reached(own, peer)[1]
    assert half.low < half.ratio < half.high
    assert half.high - half.low > 0.2


def test_without_a_gain_of_both_there_is_no_ratio() -> None:
    own, peer = curve([0.0, 10.0], [0.0, 1.0]), curve([0.0, 10.0], [0.0, 0.0])
    assert all(r.level == 0.0 and math.isnan(r.ratio) for r in reached(own, peer, draws=10))


def test_curves_begin_at_the_untrained_model() -> None:
    rows = [
        row("plaudit", 2, 20.0, [0.3, 0.5]),
        row("start", 0, 0.0, [-0.1, -0.3]),
        row("plaudit", 1, 10.0, [0.1, 0.1]),
        row("peer", 1, 90.0, [0.2, 0.2]),
    ]
    own = Curve.of(rows, "plaudit")
    assert own.seconds == [0.0, 10.0, 20.0]
    assert own.means() == pytest.approx([-0.2, 0.1, 0.4])
    assert own.means(np.array([0, 0])) == pytest.approx([-0.1, 0.1, 0.3])
    assert Curve.of(rows, "peer").seconds == [0.0, 90.0]


def test_tables() -> None:
    rows = [row("Plaudit", 1, 10.0, [0.1, 0.1])]
    assert "| Plaudit | 1 | 10 | 20 | 0.100 (0.000 to 0.200) | 1.20 | 40.0 | 0.0% |" in course_table(rows)
    found = reached(curve([0.0, 20.0], [0.0, 1.0]), curve([0.0, 80.0], [0.0, 1.0]), draws=10)
    assert "| 0.50 | 50% | 10 | 40 | **4.0** (4.0 to 4.0) |" in reach_table(found)


def test_the_clock_stands_still_while_weights_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(stopwatch.time, "process_time", lambda: 2 * now[0])
    monkeypatch.setattr(stopwatch.time, "time", lambda: now[0])
    now[0] = 7.0
    course = Course(tmp_path, [2], began=0.0)
    for number in (1, 2):
        course.start()
        now[0] += 10.0
        assert course.target(number) == (tmp_path / "round-2" if number == 2 else None)
        now[0] += 100.0  # saving
        course.note(number)
    rows = [json.loads(line) for line in (tmp_path / "times.jsonl").read_text().splitlines()]
    assert rows == [
        {"round": 0, "startup_seconds": 7.0},
        {"round": 1, "seconds": 10.0, "cpu_seconds": 20.0},
        {"round": 2, "seconds": 20.0, "cpu_seconds": 40.0},
    ]


def test_starting_a_running_watch_or_stopping_it_twice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    watch = Stopwatch()
    watch.start()
    now[0] = 3.0
    watch.start()
    now[0] = 4.0
    watch.stop()
    watch.stop()
    assert watch.seconds == 3.0
