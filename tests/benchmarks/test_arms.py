"""Which arms a measurement consists of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.peer.__main__ import chosen
from benchmarks.peer.arms import WORKS, Settings, arms

SETTINGS = Settings(Path("model"), Path("workload"), Path("venv"), threads=2)
WITH_VLLM = replace(SETTINGS, vllm=Path("vllm"))


def test_vllm_takes_part_in_sampling_where_it_has_an_environment() -> None:
    assert not [arm for work in WORKS for arm in arms(work, SETTINGS) if arm.kind == "vllm"]
    took_part = {arm.work for work in WORKS for arm in arms(work, WITH_VLLM) if arm.kind == "vllm"}
    assert took_part == {"sampling", "sampling 8 x 4"}


def test_later_repeats_run_each_tuned_peer_in_its_fastest_way() -> None:
    def ran(kind: str, variant: str, seconds: float) -> dict[str, object]:
        steps = [{"seconds": seconds, "phases": {}, "shapes": []}]
        return {"arm_work": "sampling", "kind": kind, "variant": variant, "repeat": 0, "steps": steps}

    results = [
        ran("tuned", "eager", 5.0),
        ran("tuned", "static cache", 4.0),
        ran("vllm", "eager", 3.0),
        ran("vllm", "compiled", 3.5),
    ]
    first = chosen(arms("sampling", WITH_VLLM), [], "sampling", 0, documented=True)
    assert [(arm.kind, arm.variant) for arm in first][-1] == ("documented", "default")
    second = chosen(arms("sampling", WITH_VLLM), results, "sampling", 1, documented=False)
    assert [(arm.kind, arm.variant) for arm in second] == [
        ("tuned", "static cache"),
        ("vllm", "eager"),
        ("plaudit", "8"),
        ("plaudit", "all"),
    ]
