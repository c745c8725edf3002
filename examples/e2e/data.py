"""The judgments split for the example: prompts apart from prompts, labelers apart from labelers.

The 480 ranked prompts fall into three parts. On `train` the reward models learn and PPO and DPO train; on `choose` PPO's
checkpoint is chosen; on `test` everything is measured, and no stage has seen those. The labelers fall into two halves:
rankings of one half train the reward model, those of the other half the judge.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from plaudit.core.errors import DataError
from plaudit.core.files import read_jsonl, sha256_file, write_jsonl
from plaudit.core.records import PromptRow, prompt_key, user_prompt
from plaudit.core.seeding import derive
from plaudit.datasets.splits import split_by_prompt

CRITERION = "quality"


class Files(NamedTuple):
    """What the stages read."""

    demonstrations: Path
    train: Path
    """Prompts to train on; `choose` and `test` likewise."""
    choose: Path
    test: Path
    reward: Path
    """Rankings of the train prompts by the first half of the labelers."""
    reward_test: Path
    """Rankings of the test prompts by the same people, to measure on."""
    judge: Path
    """Rankings of the train prompts by the other half."""
    judge_test: Path


def prepare(source: Path, folder: Path, *, test_prompts: int, choose_prompts: int, seed: int) -> Files:
    """Write the parts into `folder`; the same arguments write the same files.

    Raises:
        DataError: the source lacks a file, or a demonstration answers a test prompt.
    """
    for name in ("demonstrations.jsonl.gz", "rankings.jsonl.gz"):
        if not (source / name).is_file():
            raise DataError(
                f"{source / name} does not exist. Set data=… or PLAUDIT_DATA to the folder with the E2E data."
            )
    demonstrations = list(read_jsonl(source / "demonstrations.jsonl.gz"))
    rankings = [row for row in read_jsonl(source / "rankings.jsonl.gz") if row["criterion"] == CRITERION]

    ranked = [PromptRow(user_prompt(text)) for text in sorted({row["prompt"] for row in rankings})]
    outer = split_by_prompt(ranked, held_out=test_prompts, seed=seed)
    inner = split_by_prompt(outer.train, held_out=choose_prompts, seed=seed)
    train, choose, test = (_texts(rows) for rows in (inner.train, inner.held_out, outer.held_out))
    shared = {row["prompt"] for row in demonstrations} & {*choose, *test}
    if shared:
        raise DataError(f"{len(shared)} demonstrations answer held-out prompts, such as {min(shared)!r}; remove them.")

    first, second = halves({row["labeler"] for row in rankings}, seed=seed)
    files = Files(*(folder / f"{field}.jsonl" for field in Files._fields))
    write_jsonl(files.demonstrations, ({key: row[key] for key in ("prompt", "response")} for row in demonstrations))
    for file, texts in ((files.train, train), (files.choose, choose), (files.test, test)):
        write_jsonl(file, ({"prompt": text} for text in texts))
    write_jsonl(files.reward, _rankings(rankings, train, first))
    write_jsonl(files.reward_test, _rankings(rankings, test, first))
    write_jsonl(files.judge, _rankings(rankings, train, second))
    write_jsonl(files.judge_test, _rankings(rankings, test, second))
    return files


def halves(labelers: Collection[str], *, seed: int) -> tuple[set[str], set[str]]:
    """Two halves of the labelers, by a hash of the name: the same people stay together when rows are added."""
    order = sorted(labelers, key=lambda name: (derive(seed, "labeler", name), name))
    return set(order[::2]), set(order[1::2])


def content(files: Files) -> dict[str, str]:
    """Content hash of each file."""
    return {name: sha256_file(file) for name, file in files._asdict().items()}


def _texts(rows: Iterable[PromptRow]) -> list[str]:
    return sorted((row.prompt[-1].content for row in rows), key=lambda text: prompt_key(user_prompt(text)))


def _rankings(rows: Iterable[dict[str, Any]], prompts: Collection[str], labelers: set[str]) -> list[dict[str, Any]]:
    """Rows of these prompts and people. Scores of a row compare within it only; the reader turns them into ranks."""
    wanted = set(prompts)
    return [
        {
            "prompt": row["prompt"],
            "responses": [
                {"text": response["text"].strip(), "score": response["score"]} for response in row["responses"]
            ],
            "labeler": row["labeler"],
            "criterion": row["criterion"],
        }
        for row in rows
        if row["prompt"] in wanted and row["labeler"] in labelers
    ]
