"""How long each side takes to reach a level of held-out reward, from its curve.

A curve is held-out reward at some seconds of training, straight between two checkpoints. It is made monotone first
(isotonic regression): otherwise one checkpoint that was lucky with its sampled answers would count as having arrived.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SHARES = (0.25, 0.5, 0.75, 0.9)
Row = Mapping[str, Any]


class Curve(NamedTuple):
    """`seconds` of each checkpoint, and for each the mean reward of every prompt, in the same order of prompts."""

    seconds: Sequence[float]
    rewards: np.ndarray  # (checkpoints, prompts)

    @classmethod
    def of(cls, rows: Sequence[Row], side: str) -> Curve:
        """From result rows; the untrained model's row, of no side, is where both begin."""
        own = sorted((row for row in rows if row["side"] in ("start", side)), key=lambda row: row["round"])
        return cls([row["seconds"] for row in own], np.array([row["rewards"] for row in own]))

    def means(self, prompts: np.ndarray | None = None) -> list[float]:
        """Mean reward of each checkpoint, of all prompts or of those drawn, made monotone."""
        return monotone((self.rewards if prompts is None else self.rewards[:, prompts]).mean(1).tolist())


class Reached(NamedTuple):
    """A level: the share of the gain it is, each side's seconds to it, and how many times as long the peer takes."""

    share: float
    level: float
    seconds: float
    peer_seconds: float
    ratio: float
    low: float
    high: float


def monotone(values: Sequence[float]) -> list[float]:
    """The rising curve that is nearest by squared distance: neighbours that fall are pooled."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        total, count = value, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            before = blocks.pop()
            total, count = total + before[0], count + before[1]
        blocks.append((total, count))
    return [total / count for total, count in blocks for _ in range(count)]


def seconds_to(level: float, seconds: Sequence[float], rising: Sequence[float]) -> float:
    """When a rising curve reaches a level; infinity if it never does."""
    for place, value in enumerate(rising):
        if value >= level:
            if place == 0:
                return seconds[0]
            below = rising[place - 1]
            share = (level - below) / (value - below)
            return seconds[place - 1] + share * (seconds[place] - seconds[place - 1])
    return math.inf


def reached(own: Curve, peer: Curve, *, draws: int = 2000, seed: int = 0) -> list[Reached]:
    """Seconds to shares of the gain that both sides make, with a 95 % interval of the ratio.

    The interval is a bootstrap over prompts, the same prompts drawn for both sides; levels stay as they are. It says
    what other held-out prompts would have given, not what other training runs would.
    """
    means, peer_means = own.means(), peer.means()
    start, end = means[0], min(means[-1], peer_means[-1])
    levels = [start + share * (end - start) for share in SHARES]
    generator = np.random.default_rng(seed)
    ratios: list[list[float]] = [[] for _ in levels]
    for _ in range(draws):
        prompts = generator.integers(own.rewards.shape[1], size=own.rewards.shape[1])
        drawn, peer_drawn = own.means(prompts), peer.means(prompts)
        for found, level in zip(ratios, levels, strict=True):
            found.append(_ratio(seconds_to(level, own.seconds, drawn), seconds_to(level, peer.seconds, peer_drawn)))
    rows: list[Reached] = []
    for share, level, found in zip(SHARES, levels, ratios, strict=True):
        mine, theirs = seconds_to(level, own.seconds, means), seconds_to(level, peer.seconds, peer_means)
        known = sorted(ratio for ratio in found if not math.isnan(ratio))
        low, high = (known[round(q * (len(known) - 1))] for q in (0.025, 0.975)) if known else (math.nan, math.nan)
        rows.append(Reached(share, level, mine, theirs, _ratio(mine, theirs), low, high))
    return rows


def _ratio(own: float, peer: float) -> float:
    """Peer over own; not a number where neither arrives, or both are there from the start."""
    if math.isinf(own) and math.isinf(peer):
        return math.nan
    if own == 0:
        return math.nan if peer == 0 else math.inf
    return peer / own


def reach_table(rows: Sequence[Reached]) -> str:
    """Markdown: seconds to each level and the ratio."""
    lines = ["| held-out reward | share of the gain | Plaudit, s | TRL, s | ratio |", "|---|---|---|---|---|"]
    lines += [
        f"| {r.level:.2f} | {r.share:.0%} | {r.seconds:.0f} | {r.peer_seconds:.0f} | "
        f"**{r.ratio:.1f}** ({r.low:.1f} to {r.high:.1f}) |"
        for r in rows
    ]
    return "\n".join(lines)


def course_table(rows: Sequence[Row]) -> str:
    """Markdown: every checkpoint that was measured, in the given order."""
    head = "| side | round | seconds | CPU seconds | held-out reward | sqrt(KL) | tokens | unfinished |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['side']} | {row['round']} | {row['seconds']:.0f} | {row['cpu_seconds']:.0f} | "
        f"{row['reward']:.3f} ({row['reward_low']:.3f} to {row['reward_high']:.3f}) | "
        f"{math.sqrt(max(0.0, row['kl'])):.2f} | {row['tokens']:.1f} | {row['unfinished']:.1%} |"
        for row in rows
    ]
    return "\n".join(lines)
