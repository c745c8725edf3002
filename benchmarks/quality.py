"""Seconds for the statistics of 100,000 judged pairs, intervals included, part by part.

    python benchmarks/quality.py [pairs]

Two shapes: rankings of four responses (six pairs each), and single pairs, whose many prompts are the harder case for
the bootstrap. Three of 30 labelers judge each item.
"""

import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from plaudit.core.records import user_prompt
from plaudit.feedback.bias.report import audit
from plaudit.feedback.quality.agreement import agreement
from plaudit.feedback.quality.drift import drift
from plaudit.feedback.quality.labeler_pairs import labeler_pairs
from plaudit.feedback.quality.labelers import labeler_cards
from plaudit.feedback.quality.outcomes import first_judgments, outcomes
from plaudit.feedback.quality.records import Judgment, canonical_order, item_key
from plaudit.feedback.quality.reliability import reliability
from plaudit.feedback.quality.report import report

LABELERS = [f"labeler-{number}" for number in range(30)]
OVERLAP = 3


def judgments(pairs: int, responses: int, seed: int = 0) -> list[Judgment]:
    """Random rankings with some agreement, shown in random orders, of about `pairs` judged pairs."""
    generator = random.Random(seed)
    made: list[Judgment] = []
    for item in range(pairs // (responses * (responses - 1) // 2) // OVERLAP):
        prompt = user_prompt(f"prompt {item}")
        texts = [f"response {item} {place} " + "word " * generator.randint(5, 60) for place in range(responses)]
        texts = [texts[place] for place in canonical_order(texts)]
        quality = [generator.gauss(0, 1) for _ in texts]
        key = item_key(prompt, texts)
        for labeler in generator.sample(LABELERS, OVERLAP):
            seen = [round(value + generator.gauss(0, 1)) for value in quality]
            ranks = tuple(1 + sum(other > value for other in seen) for value in seen)
            order = tuple(generator.sample(range(responses), responses))
            seconds = generator.uniform(5, 90)
            made.append(
                Judgment(key, prompt, tuple(texts), ranks, labeler, order=order, seconds=seconds, at=60_000 * len(made))
            )
    return made


def timed(name: str, work: Callable[[], Any]) -> Any:
    """The result of `work`, and a line that says how long it took."""
    start, used = time.perf_counter(), time.process_time()
    result = work()
    print(f"  {name:<16} {time.perf_counter() - start:6.2f} s, {time.process_time() - used:6.2f} s of processor time")
    return result


def measure(judged: Sequence[Judgment]) -> None:
    """Each part by itself, then all of it as `plaudit quality` does."""
    firsts = timed("first judgments", lambda: first_judgments(judged))
    table = timed("outcomes", lambda: outcomes(firsts))
    print(f"  {len(table)} pairs of {table.prompts} prompts by {len(table.labelers)} labelers")
    timed("agreement", lambda: agreement(firsts, table))
    timed("labeler pairs", lambda: labeler_pairs(table))
    timed("labeler cards", lambda: labeler_cards(judged, table))
    timed("reliability", lambda: reliability(firsts, table))
    timed("drift", lambda: drift(firsts, table))
    timed("bias", lambda: audit(firsts, table))
    timed("everything", lambda: report(judged))


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for size in (4, 2):
        print(f"{size} responses a judgment")
        measure(judgments(wanted, size))
