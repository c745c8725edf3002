"""Ratios and tables of a side-by-side measurement, from results made up here."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.peer import summary
from benchmarks.peer.flops import Model, needed
from benchmarks.peer.summary import Spread, arm_of, ratios, rows_of, tables

MODEL = Model(layers=30, hidden=576, intermediate=1536, heads=9, kv_heads=3, head_dim=64, vocabulary=49152)
SHAPE = [(64, [48])] * 4


def result(
    kind: str, variant: str, repeat: int, seconds: float, *, work: str = "ppo", shapes: Any = SHAPE, **phases: float
) -> dict[str, Any]:
    """A run of two steps that differ by a tenth of a second."""
    steps = [{"seconds": seconds + extra, "phases": phases, "shapes": shapes} for extra in (-0.05, 0.05)]
    return {
        "arm_work": work,
        "kind": kind,
        "variant": variant,
        "repeat": repeat,
        "peak_memory_mib": 2048,
        "steps": steps,
    }


def test_ratios_are_of_runs_of_the_same_repeat() -> None:
    runs = [
        result("tuned", "eager", 0, 40.0),
        result("plaudit", "8", 0, 10.0),
        result("tuned", "eager", 1, 60.0),
        result("plaudit", "8", 1, 12.0),
        result("plaudit", "8", 2, 1.0),
    ]
    assert ratios(arm_of(runs, "ppo", "tuned"), arm_of(runs, "ppo", "plaudit", "8")) == pytest.approx([4.0, 5.0])


def test_the_peer_is_its_fastest_variant() -> None:
    runs = [result("tuned", "sdpa", 0, 50.0), result("tuned", "eager", 0, 40.0), result("documented", "sdpa", 0, 9.0)]
    assert arm_of(runs, "ppo", "tuned").seconds[0] == pytest.approx(40.0)


def test_packed_steps_of_the_peer_are_brought_to_the_same_tokens() -> None:
    runs = [
        result("tuned", "sdpa", 0, 6.0, work="sft", shapes=[(64, [48])] * 8),
        result("plaudit", "all", 0, 2.0, work="sft"),
    ]
    assert arm_of(runs, "sft", "tuned").seconds[0] == pytest.approx(3.0)


def test_share_of_peak_in_training_leaves_the_rollout_out() -> None:
    runs = [result("plaudit", "8", 0, 10.0, sample=2.0, score=1.0, measure=1.0, train=5.0)]
    peak = 1e12
    share = summary.training_share(arm_of(runs, "ppo", "plaudit"), "ppo", MODEL, 8, peak)
    assert share == pytest.approx(needed("ppo", MODEL, SHAPE, 8, 4)["train"] / 6.0 / peak, rel=0.01)


def test_a_prompt_counts_once_an_answer_in_tokens_a_second() -> None:
    assert summary.sequence_tokens([(10, [2, 3])]) == summary.sequence_tokens([(10, [2]), (10, [3])]) == 25


def test_tables_show_both_splits_against_one_peer() -> None:
    runs = [
        result("tuned", "eager", 0, 40.0, sample=5.0),
        result("plaudit", "8", 0, 10.0, sample=2.0),
        result("plaudit", "all", 0, 32.0, sample=2.0),
    ]
    found = rows_of(runs, MODEL, 7e11)
    assert [row["ratio_tuned"].median for row in found] == pytest.approx([4.0, 1.25])
    written = tables(found, 7e11)
    assert "| ppo | 8 | 10.00 | 40.00, eager | **4.00** | - | - |" in written
    assert "| ppo | tuned peer | sample 5.00, rest 35.00 |" in written


def test_vllm_has_a_table_of_its_own_where_it_took_part() -> None:
    runs = [
        result("tuned", "static cache", 0, 4.4, work="sampling"),
        result("vllm", "eager", 0, 4.0, work="sampling"),
        result("vllm", "compiled", 0, 3.0, work="sampling"),
        result("plaudit", "8", 0, 2.0, work="sampling"),
    ]
    (row,) = found = rows_of(runs, MODEL, 7e11)
    assert row["ratio_vllm"].median == pytest.approx(1.5)
    assert "| sampling | 8 | 2.00 | 3.00, compiled | **1.50** | 96 | 64 | 2.0 | 2.0 |" in tables(found, 7e11)
    assert "vLLM" not in tables(rows_of(runs[:1] + runs[-1:], MODEL, 7e11), 7e11)


def test_a_spread_of_one_value_shows_no_range() -> None:
    assert Spread.of([2.0]).written(1) == "2.0"
    assert Spread.of([1.0, 3.0, 2.0]).written(1) == "2.0 (1.0 to 3.0)"
