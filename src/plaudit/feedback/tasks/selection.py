"""What to label next: the highest scores, mixed with a share at random, every probability on record.

A score says how much a judgment of a prompt would teach: how far the members of an ensemble of reward models are apart
(`ensemble_spread`), or how suspicious a sample of a run looks. Scores come from outside, as records. Choosing by score
alone would make the labeled data a distorted sample; with the probability of each task on record (`Chosen.record`,
kept in `task.selection`), averages over tasks can be weighted back by its inverse (Horvitz and Thompson 1952).
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, NamedTuple

from pydantic import Field
from sqlalchemy import Connection, func, select

from plaudit.core.config import Config
from plaudit.core.errors import DataError
from plaudit.core.seeding import derive
from plaudit.feedback.store.tables import prompt, response, task
from plaudit.feedback.tasks.batches import BatchConfig, Kind
from plaudit.feedback.tasks.tasks import NewTask, tasks_from_prompts


class SelectionConfig(Config):
    """How prompts are chosen."""

    count: int = Field(ge=1, description="Prompts to choose.")
    policy: str = Field(
        "uncertainty", pattern=r"[a-z_]{1,40}", description="What the scores mean; kept with each task."
    )
    random_share: float = Field(
        0.25, gt=0, le=1, description="Share of the chosen prompts that are drawn at random, whatever their score."
    )
    seed: int = Field(0, description="Seed of the draw.")


class Scored(NamedTuple):
    """A prompt and how much its judgments would teach; higher is sooner."""

    prompt_id: str
    score: float


class Candidates(NamedTuple):
    """What may be chosen, and how many prompts may not, by cause."""

    scored: list[Scored]
    left_out: Counter[str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A chosen prompt.

    probability: that this draw would choose it, over all seeds. at_random: by the random share and not by its score.
    """

    prompt_id: str
    score: float
    probability: float
    at_random: bool
    policy: str
    candidates: int

    def record(self) -> dict[str, Any]:
        """What is kept in `task.selection`."""
        return {
            "policy": self.policy,
            "score": self.score,
            "probability": self.probability,
            "random": self.at_random,
            "candidates": self.candidates,
        }


def ensemble_spread(members: Sequence[Sequence[float]]) -> float:
    """How far an ensemble of reward models is apart about the responses of one prompt.

    members: (models, responses) scores. The variance over models of the probability sigmoid(r_i - r_j) that response i
    is better than j, as the Bradley-Terry model has it, averaged over pairs: 0 to 0.25. Differences only: a model that
    scores everything higher by a constant says the same.

    Raises DataError for fewer than two models or responses, rows of different length, or scores that are not finite.
    """
    responses = len(members[0]) if members else 0
    if len(members) < 2 or responses < 2 or any(len(row) != responses for row in members):
        raise DataError(
            f"A spread needs two or more models, each with a score for each of two or more responses; found "
            f"{[len(row) for row in members]} scores."
        )
    if not all(math.isfinite(score) for row in members for score in row):
        raise DataError("A score of the ensemble is not finite. Leave the prompt out: its spread cannot be told.")
    variances: list[float] = []
    for i, j in combinations(range(responses), 2):
        chances = [_sigmoid(row[i] - row[j]) for row in members]
        mean = math.fsum(chances) / len(chances)
        variances.append(math.fsum((chance - mean) ** 2 for chance in chances) / len(chances))
    return math.fsum(variances) / len(variances)


def choose(scored: Iterable[Scored], config: SelectionConfig) -> list[Chosen]:
    """Choose prompts: the highest scores, and a random share of the rest. In random order.

    Of n candidates the k = count - r highest are taken (equal scores by lot), then r of the other n - k at random. A
    candidate that is among the k highest with probability q is chosen with probability q + (1 - q) r / (n - k).
    With fewer candidates than `count` all are chosen, with probability 1.

    Raises DataError for a prompt scored twice or a score that is not finite.
    """
    candidates = sorted(scored)
    if repeated := [one.prompt_id for one, other in pairwise(candidates) if one.prompt_id == other.prompt_id]:
        raise DataError(f"The prompt {repeated[0]} has two scores. Give each prompt one.")
    if bad := [one.prompt_id for one in candidates if not math.isfinite(one.score)]:
        raise DataError(f"The score of the prompt {bad[0]} is not finite. Leave out what could not be scored.")
    n = len(candidates)
    count = min(config.count, n)
    at_random = math.ceil(config.random_share * count)
    top = count - at_random
    generator = random.Random(derive(config.seed, "selection", config.policy))
    generator.shuffle(candidates)  # decides among equal scores, as the sort is stable
    candidates.sort(key=lambda one: -one.score)
    highest, rest = candidates[:top], candidates[top:]
    drawn = generator.sample(rest, at_random)
    among_highest = _chance_among_highest([one.score for one in candidates], top)
    from_rest = at_random / (n - top) if n > top else 0.0
    chosen = [
        Chosen(
            one.prompt_id,
            one.score,
            among_highest[one.score] + (1 - among_highest[one.score]) * from_rest,
            lot,
            config.policy,
            n,
        )
        for part, lot in ((highest, False), (drawn, True))
        for one in part
    ]
    # A batch that is closed early has then labeled a random part of this choice, and not its top.
    generator.shuffle(chosen)
    return chosen


def candidates(c: Connection, scored: Iterable[Scored], kind: Kind) -> Candidates:
    """Those that may be chosen: training prompts in use that no task asks about yet; to be ranked, with two answers.

    Prompts held out for validation or test are never chosen by score, or the held-out data would be a distorted sample.
    """
    asked = select(task.c.id).where(task.c.prompt_id == prompt.c.id).exists()
    answers = select(func.count(response.c.sha256.distinct())).where(response.c.prompt_id == prompt.c.id)
    known = {
        row.id: row
        for row in c.execute(
            select(
                prompt.c.id,
                prompt.c.status,
                prompt.c.split,
                asked.label("asked"),
                answers.correlate(prompt).scalar_subquery().label("answers"),
            )
        )
    }
    found: list[Scored] = []
    left_out: Counter[str] = Counter()
    for one in scored:
        row = known[one.prompt_id]
        if row.status != "active":
            left_out["retired"] += 1
        elif row.split != "train":
            left_out["held out for validation or test"] += 1
        elif row.asked:
            left_out["asked about already"] += 1
        elif kind == "ranking" and row.answers < 2:
            left_out["with fewer than two different answers"] += 1
        else:
            found.append(one)
    return Candidates(found, left_out)


def chosen_tasks(c: Connection, chosen: Sequence[Chosen], config: BatchConfig, kind: Kind) -> list[NewTask]:
    """Tasks for the chosen prompts, with the record of the choice."""
    records: Mapping[str, dict[str, Any]] = {one.prompt_id: one.record() for one in chosen}
    tasks = tasks_from_prompts(c, [one.prompt_id for one in chosen], config, kind)
    return [NewTask(one.prompt_id, one.response_ids, selection=records[one.prompt_id]) for one in tasks]


def _chance_among_highest(scores: Sequence[float], top: int) -> dict[float, float]:
    """For each score (listed highest first), the probability of a place among the `top` highest; ties share."""
    chances: dict[float, float] = {}
    above = 0
    for score, equal in Counter(scores).items():  # in the order of the list
        chances[score] = min(1.0, max(0.0, (top - above) / equal))
        above += equal
    return chances


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
