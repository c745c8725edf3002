"""From the results of all arms to ratios and tables. Plain Python."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.peer.flops import Group, Model, answer_tokens, needed

Result = Mapping[str, Any]
EPOCHS = 4
ROLLOUT_PHASES = ("sample", "score", "measure")


class Spread(NamedTuple):
    """Median and range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def written(self, digits: int) -> str:
        """`3.21 (3.10 to 3.40)`; the range is left out when it is a point."""
        text = f"{self.median:.{digits}f}"
        return text if self.low == self.high else f"{text} ({self.low:.{digits}f} to {self.high:.{digits}f})"


class Arm(NamedTuple):
    """The runs of one side at one kind of work, by repeat."""

    seconds: dict[int, float]
    results: dict[int, Result]

    @property
    def spread(self) -> Spread:
        return Spread.of(list(self.seconds.values()))


def sequence_tokens(groups: Sequence[Group]) -> int:
    """Tokens of the sequences the work is about: a prompt counts once an answer, whatever was computed."""
    return sum(len(answers) * prompt + sum(answers) for prompt, answers in groups)


def step_seconds(result: Result) -> float:
    """Median over the run's steps."""
    return statistics.median(step["seconds"] for step in result["steps"])


def mean_tokens(result: Result) -> float:
    """Sequence tokens of a step."""
    return statistics.mean(sequence_tokens(step["shapes"]) for step in result["steps"])


def arm_of(results: Sequence[Result], work: str, kind: str, variant: str | None = None) -> Arm:
    """One side of a kind of work; of a kind's variants the fastest in each repeat.

    The peer packs demonstrations in an order of its own, so its steps hold other numbers of tokens: seconds of `sft`
    are brought to the tokens of Plaudit's step.
    """
    found = [r for r in results if r["arm_work"] == work]
    chosen = [r for r in found if r["kind"] == kind and variant in (None, r["variant"])]
    wanted = [mean_tokens(r) for r in found if r["kind"] == "plaudit"]
    arm = Arm({}, {})
    for result in chosen:
        seconds = step_seconds(result)
        if work == "sft" and kind != "plaudit" and wanted:
            seconds *= statistics.mean(wanted) / mean_tokens(result)
        repeat = result["repeat"]
        if repeat not in arm.seconds or seconds < arm.seconds[repeat]:
            arm.seconds[repeat] = seconds
            arm.results[repeat] = result
    return arm


def ratios(peer: Arm, own: Arm) -> list[float]:
    """How many times as long the peer takes, by repeat in which both ran."""
    return [peer.seconds[repeat] / own.seconds[repeat] for repeat in sorted(peer.seconds.keys() & own.seconds.keys())]


def phases(arm: Arm) -> dict[str, float]:
    """Median seconds of each phase; what the phases leave is `rest`."""
    steps = [step for result in arm.results.values() for step in result["steps"]]
    names = list(dict.fromkeys(name for step in steps for name in step["phases"]))
    found = {name: statistics.median(step["phases"].get(name, 0.0) for step in steps) for name in names}
    left = statistics.median(step["seconds"] - sum(step["phases"].values()) for step in steps)
    return found | {"rest": left}


def work_needed(arm: Arm, work: str, model: Model, layers: int, epochs: int = EPOCHS) -> float:
    """Operations of a step, mean over its steps."""
    steps = [step for result in arm.results.values() for step in result["steps"]]
    return statistics.mean(sum(needed(work.split()[0], model, s["shapes"], layers, epochs).values()) for s in steps)


def training_share(arm: Arm, work: str, model: Model, layers: int, peak: float, epochs: int = EPOCHS) -> float:
    """Share of the peak in training: of PPO what is left of an iteration after sampling, scoring and measuring."""
    shares: list[float] = []
    for result in arm.results.values():
        for step in result["steps"]:
            operations = needed(work.split()[0], model, step["shapes"], layers, epochs)
            if work == "ppo":
                seconds = step["seconds"] - sum(step["phases"].get(name, 0.0) for name in ROLLOUT_PHASES)
                shares.append(operations["train"] / seconds / peak)
            else:
                shares.append(sum(operations.values()) / step["seconds"] / peak)
    return statistics.median(shares)


def rate(arm: Arm, work: str) -> float:
    """Tokens a second: sampled ones for sampling, else those of all sequences of a step."""
    count = answer_tokens if work.startswith("sampling") else sequence_tokens
    steps = [step for result in arm.results.values() for step in result["steps"]]
    return statistics.median(count(step["shapes"]) / step["seconds"] for step in steps)


def gibibytes(arm: Arm) -> float:
    """Largest peak memory of its runs."""
    return max(result["peak_memory_mib"] for result in arm.results.values()) / 1024


def rows_of(results: Sequence[Result], model: Model, peak: float, epochs: int = EPOCHS) -> list[dict[str, Any]]:
    """One row for each kind of work and split: all that the tables show."""
    rows: list[dict[str, Any]] = []
    for work, split in dict.fromkeys((r["arm_work"], r["variant"]) for r in results if r["kind"] == "plaudit"):
        own, tuned = arm_of(results, work, "plaudit", split), arm_of(results, work, "tuned")
        documented, vllm = arm_of(results, work, "documented"), arm_of(results, work, "vllm")
        layers = model.layers if split == "all" else int(split)
        row: dict[str, Any] = {"work": work, "trained": split, "plaudit": _side(own, work, model, layers, peak, epochs)}
        for name, peer in (("tuned", tuned), ("documented", documented), ("vllm", vllm)):
            if peer.seconds:
                row[name] = _side(peer, work, model, model.layers, peak, epochs)
                row[name]["variant"] = ", ".join(dict.fromkeys(r["variant"] for r in peer.results.values()))
            if found := ratios(peer, own):
                row[f"ratio_{name}"] = Spread.of(found)
        rows.append(row)
    return rows


def _side(arm: Arm, work: str, model: Model, layers: int, peak: float, epochs: int) -> dict[str, Any]:
    return {
        "seconds": arm.spread,
        "runs": len(arm.seconds),
        "phases": phases(arm),
        "tokens_per_s": rate(arm, work),
        "peak_gib": gibibytes(arm),
        "gflop": work_needed(arm, work, model, layers, epochs) / 1e9,
        "share": training_share(arm, work, model, layers, peak, epochs),
    }


def tables(rows: Sequence[Mapping[str, Any]], peak: float) -> str:
    """Markdown."""
    time = [
        "| work | trained | Plaudit s | tuned peer s | ratio | documented peer s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    work = [
        "| work | trained | tokens/s | peer | peak GiB | peer | of it | GFLOP needed | peer | share of peak | peer |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    parts = ["| work | who | phases, s |", "|---|---|---|"]
    vllm = ["| work | trained | Plaudit s | vLLM s | ratio | tokens/s | vLLM | peak GiB | vLLM |", "|" + "---|" * 9]
    told: set[str] = set()
    for row in rows:
        own, name = row["plaudit"], f"{row['work']} | {row['trained']}"
        cells = [own["seconds"].written(2)]
        for peer in ("tuned", "documented"):
            seconds = f"{row[peer]['seconds'].written(2)}, {row[peer]['variant']}" if peer in row else "-"
            ratio = f"**{row[f'ratio_{peer}'].written(2)}**" if f"ratio_{peer}" in row else "-"
            cells += [seconds, ratio]
        time.append(f"| {name} | {' | '.join(cells)} |")
        parts.append(f"| {row['work']} | Plaudit, {row['trained']} | {_phases(own)} |")
        if "tuned" in row:
            peer = row["tuned"]
            pairs = [f"{own['tokens_per_s']:.0f} | {peer['tokens_per_s']:.0f}"]
            pairs += [f"{own['peak_gib']:.1f} | {peer['peak_gib']:.1f} | {own['peak_gib'] / peer['peak_gib']:.2f}"]
            pairs += [f"{own['gflop']:.0f} | {peer['gflop']:.0f}", f"{own['share']:.2f} | {peer['share']:.2f}"]
            work.append(f"| {name} | {' | '.join(pairs)} |")
            if row["work"] not in told:
                told.add(row["work"])
                parts.append(f"| {row['work']} | tuned peer | {_phases(peer)} |")
        if "vllm" in row:
            peer = row["vllm"]
            times = f"{own['seconds'].written(2)} | {peer['seconds'].written(2)}, {peer['variant']}"
            ratio = f"**{row['ratio_vllm'].written(2)}**" if "ratio_vllm" in row else "-"
            rates = f"{own['tokens_per_s']:.0f} | {peer['tokens_per_s']:.0f}"
            vllm.append(f"| {name} | {times} | {ratio} | {rates} | {own['peak_gib']:.1f} | {peer['peak_gib']:.1f} |")
    head = f"Peak of a bfloat16 product: {peak / 1e9:.0f} GFLOP/s. A ratio above 1 means that Plaudit is faster."
    shown = (time, work, parts, vllm) if len(vllm) > 2 else (time, work, parts)
    return "\n\n".join([head, *("\n".join(table) for table in shown)])


def _phases(side: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {seconds:.2f}" for name, seconds in side["phases"].items() if seconds >= 0.005) or "-"
