"""Have simulated labelers rank sampled answers: stands where the people of a real project stand."""

from pathlib import Path
from typing import Any

from pydantic import Field

from plaudit.core.config import Config
from plaudit.core.errors import DataError
from plaudit.core.files import read_jsonl, sha256_file, write_jsonl
from plaudit.core.progress import say
from plaudit.core.records import Prompt, Ranking, prompt_of_turns, user_prompt
from plaudit.core.run import Run
from plaudit.feedback.simulation.simulated import default_panel

FILE = "rankings.jsonl"


class SimulateConfig(Config):
    """Settings of ranking by simulated labelers."""

    run: Path = Field(description="Run folder; the rankings go to rankings.jsonl in it.")
    data: Path = Field(description="Answers to rank: JSON lines of `prompt` and `responses`.")
    labelers: tuple[str, ...] | None = Field(None, description="Names of the panel's members to ask; none asks all.")
    together: int | None = Field(
        None, ge=2, description="Answers to a prompt ranked at once, in the order given; none ranks all at once."
    )
    seed: int = Field(0, ge=0, description="Every random number of the run derives from it.")


def simulate(config: SimulateConfig) -> Path:
    """Rank the answers to each prompt and write `run/rankings.jsonl`; returns the run folder.

    Raises:
        DataError: the file is unreadable, or a prompt has fewer than two answers.
        ConfigError: no such labeler.
    """
    panel = default_panel() if config.labelers is None else default_panel().only(*config.labelers)
    with Run.open(config.run, stage="label", config=config, inputs={"answers": sha256_file(config.data)}) as run:
        if run.finished:
            say(f"{run.path} is finished already: {run.path / FILE}")
            return run.path
        rankings = [
            ranking
            for prompt, responses in read_groups(config.data)
            for shown in in_parts(responses, config.together or len(responses))
            for ranking in panel.rank(prompt, shown, config.seed)
        ]
        write_jsonl(run.path / FILE, map(as_row, rankings))
        run.finish({"stage": "label", "rankings": len(rankings), "labelers": len(panel.labelers)})
        say(f"{len(rankings)} rankings by {len(panel.labelers)} simulated labelers are in {run.path / FILE}.")
        return run.path


def read_groups(file: Path) -> list[tuple[Prompt, list[str]]]:
    """Prompts with their distinct answers, in order. Empty answers are left out: data files do not hold them.

    Raises:
        DataError: a row lacks a field, or a prompt has fewer than two distinct answers.
    """
    groups: list[tuple[Prompt, list[str]]] = []
    for number, row in enumerate(read_jsonl(file), start=1):
        try:
            prompt = _prompt(row["prompt"])
            responses = [text for text in dict.fromkeys(row["responses"]) if text.strip()]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{file}:{number}: a row needs `prompt` and `responses`, a list of texts; this one does not fit "
                f"({error}). Write the file with `plaudit generate n=4`."
            ) from error
        if len(responses) < 2:
            raise DataError(
                f"{file}:{number}: {len(responses)} distinct answer to {prompt[-1].content[:60]!r}, and one cannot be "
                "ranked. Sample more answers a prompt (n), or at a higher temperature."
            )
        groups.append((prompt, responses))
    return groups


def _prompt(value: str | list[dict[str, str]]) -> Prompt:
    if isinstance(value, str):
        return user_prompt(value)
    return prompt_of_turns(value)


def in_parts(responses: list[str], size: int) -> list[list[str]]:
    """Parts of `size` answers; a single one that is left over joins the part before it, because one is no ranking."""
    parts = [responses[start : start + size] for start in range(0, len(responses), size)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [parts[-2] + parts[-1]]
    return parts


def as_row(ranking: Ranking) -> dict[str, Any]:
    """A ranking in the form of Plaudit's data files."""
    return {
        "prompt": [{"role": message.role, "content": message.content} for message in ranking.prompt],
        "responses": list(ranking.responses),
        "ranks": list(ranking.ranks),
        "labeler": ranking.labeler,
        "criterion": ranking.criterion,
    }
