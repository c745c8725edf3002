"""`plaudit quality`: how good the judgments of a file or a project are."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from plaudit.cli.command import Command, Outcome
from plaudit.core.config import Config
from plaudit.core.errors import ConfigError

if TYPE_CHECKING:
    from plaudit.feedback.quality.records import Judgment


class QualityConfig(Config):
    """Settings of `plaudit quality`."""

    data: str | None = Field(None, description="Rankings with labeler names, of any format that training reads.")
    project: Path | None = Field(None, description="Folder of a labeling project, instead of data.")
    kind: Literal["person", "ai", "simulated"] = Field(
        "person", description="Labelers of the project to look at; kinds are never mixed."
    )
    criterion: str | None = Field(None, description="Only judgments of this criterion.")
    limit: int | None = Field(None, ge=1, description="Read only so many rows of data.")
    order: Literal["unknown", "as_listed"] = Field(
        "unknown", description="as_listed: rows of data list the responses in the order their labeler saw."
    )
    reward: Path | None = Field(None, description="Scores of a reward model to probe, from plaudit score out=…")
    suggestions: Path | None = Field(None, description="Scores of a machine the labelers may have followed.")
    seed: int = Field(0, description="Seed of held-out judgments.")


class _Given(NamedTuple):
    """Judgments, and of a project what may be said about groups: question -> pseudonym -> option."""

    judgments: "list[Judgment]"
    answers: dict[str, dict[str, str]]
    smallest_group: int


def _run(config: QualityConfig) -> Outcome:
    from plaudit.feedback.bias.scores import read_scores
    from plaudit.feedback.quality.report import report
    from plaudit.feedback.quality.text import describe

    given = _given(config)
    results = report(
        given.judgments,
        answers=given.answers,
        smallest_group=given.smallest_group,
        suggestions=read_scores(config.suggestions) if config.suggestions else None,
        reward=read_scores(config.reward) if config.reward else None,
        seed=config.seed,
    )
    source = config.data or str(config.project)
    data = {"source": source, "criteria": [result.as_dict() for result in results]}
    return Outcome(data, "\n\n".join(describe(result) for result in results))


def _given(config: QualityConfig) -> _Given:
    if (config.data is None) == (config.project is None):
        raise ConfigError("Give either data=FILE or project=DIR: where are the judgments?")
    if config.data is not None:
        from plaudit.datasets.read import read_rankings
        from plaudit.feedback.bias.groups import SMALLEST
        from plaudit.feedback.quality.records import from_rankings

        rows = read_rankings(config.data, limit=config.limit, criterion=config.criterion).rows
        return _Given(from_rankings(rows, listed_as_shown=config.order == "as_listed"), {}, SMALLEST)
    return _of_project(config)


def _of_project(config: QualityConfig) -> _Given:
    from plaudit.feedback.data.judgments import load_judgments
    from plaudit.feedback.privacy.groups import shown_answers
    from plaudit.feedback.project import open_project

    assert config.project is not None
    with closing(open_project(config.project)) as project:
        settings = project.settings()
        with project.database.read() as connection:
            found = load_judgments(connection, kinds=(config.kind,))
            answers = shown_answers(connection, project.secrets, settings)
    judgments = [judgment for judgment in found if config.criterion in (None, judgment.criterion)]
    return _Given(judgments, answers, settings.smallest_group)


QUALITY = Command(
    "quality",
    "Statistics of judgments: agreement, labelers, reliability, drift, bias; each with its interval.",
    (
        "plaudit quality data=rankings.jsonl",
        "plaudit quality data=rankings.jsonl reward=scored.jsonl --json",
        "plaudit quality project=labeling",
    ),
    lambda: QualityConfig,
    _run,
    "Use and judge",
)
