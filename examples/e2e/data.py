"""The example's data: who sees which prompts and whose judgments, decided once from the seed and written as files.

* Demonstrations (1,484 prompts): nearly all train SFT; a few prompts choose PPO's checkpoint.
* Rankings (480 other prompts): a fifth of the prompts is for the final test, and no stage sees them before it; on the
  rest, one half of the labelers trains the reward model, the other half the judge.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from plaudit.core.errors import DataError
from plaudit.core.files import write_jsonl
from plaudit.core.seeding import derive

Row = dict[str, Any]


class Files(NamedTuple):
    """Paths of the parts."""

    sft: Path
    choose: Path
    ppo: Path
    test: Path
    reward: Path
    reward_test: Path
    judge: Path
    judge_test: Path


def prepare(source: Path, folder: Path, *, seed: int, choose: int, test: int, demonstrations: int) -> Files:
    """Split the data in `source` (`demonstrations.jsonl.gz`, `rankings.jsonl.gz`) into files in `folder`.

    Args:
        choose: prompts of the demonstrations kept from SFT, on which PPO's checkpoint is chosen.
        test: prompts of the rankings kept from everything, for the final comparison.
        demonstrations: demonstrations of one prompt that SFT uses, at most.

    Raises:
        DataError: a file is missing, or a prompt would stand on both sides.
    """
    written = _read(source / "demonstrations.jsonl.gz")
    ranked = [row for row in _read(source / "rankings.jsonl.gz") if row["criterion"] == "quality"]
    by_prompt = _shuffled({row["prompt"] for row in written}, seed, "demonstrations")
    rank_prompts = _shuffled({row["prompt"] for row in ranked}, seed, "rankings")
    both = set(by_prompt) & set(rank_prompts)
    if both:
        raise DataError(f"{len(both)} prompts have demonstrations and rankings ({min(both)!r}): the test would leak.")
    choose_prompts, test_prompts = set(by_prompt[:choose]), set(rank_prompts[:test])
    labelers = _shuffled({row["labeler"] for row in ranked}, seed, "labelers")
    for_judge = set(labelers[: len(labelers) // 2])

    files = Files(*(folder / f"{name}.jsonl" for name in Files._fields))
    taken: dict[str, int] = defaultdict(int)
    sft = []
    for row in sorted(written, key=lambda row: derive(seed, "demonstration", row["prompt"], row["response"])):
        if row["prompt"] not in choose_prompts and taken[row["prompt"]] < demonstrations:
            taken[row["prompt"]] += 1
            sft.append({"prompt": row["prompt"], "response": row["response"]})
    write_jsonl(files.sft, sft)
    write_jsonl(files.choose, _prompts(by_prompt[:choose]))
    write_jsonl(files.ppo, _prompts([*by_prompt[choose:], *rank_prompts[test:]]))
    write_jsonl(files.test, _prompts(rank_prompts[:test]))
    for file, judge, held_out in (
        (files.reward, False, False),
        (files.reward_test, False, True),
        (files.judge, True, False),
        (files.judge_test, True, True),
    ):
        rows = [r for r in ranked if (r["labeler"] in for_judge) == judge and (r["prompt"] in test_prompts) == held_out]
        write_jsonl(file, map(_ranking, rows))
    return files


def _ranking(row: Row) -> Row:
    """Scores are relative magnitudes within a row: only their order is a judgment, equal ones are ties."""
    scores = [answer["score"] for answer in row["responses"]]
    return {
        "prompt": row["prompt"],
        "responses": [answer["text"] for answer in row["responses"]],
        "ranks": [1 + sum(other > score for other in scores) for score in scores],
        "labeler": row["labeler"],
    }


def _prompts(prompts: Sequence[str]) -> list[Row]:
    return [{"prompt": prompt} for prompt in prompts]


def _shuffled(names: Iterable[str], seed: int, what: str) -> list[str]:
    return sorted(names, key=lambda name: derive(seed, what, name))


def _read(file: Path) -> list[Row]:
    if not file.exists():
        raise DataError(f"{file} does not exist; give the folder of the E2E data as data=FOLDER (see the README).")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
