"""The recipe of a data set: which judgments of a project go into it, and in which form."""

from typing import Literal, Self

from pydantic import Field, model_validator

from plaudit.core.config import Config

Form = Literal["demonstrations", "rankings", "comparisons"]
Split = Literal["train", "validation", "test"]


class Recipe(Config):
    """Settings of a snapshot. The same recipe on the same judgments gives the same bytes."""

    name: str = Field(
        description="Name of the data set; its versions count up.", pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=80
    )
    kind: Form = Field("rankings", description="Ideal answers; rankings as they were given; or pairs of responses.")
    batches: tuple[str, ...] | None = Field(None, description="Names of batches; null takes all that are for work.")
    guidelines: tuple[int, ...] | None = Field(None, description="Versions of the guidelines; null takes all.")
    criterion: str | None = Field(None, description="Only judgments by this criterion, where batches have one.")
    labelers: tuple[Literal["person", "ai", "simulated"], ...] = Field(
        ("person",), min_length=1, description="Kinds of labelers. People only, unless more are named."
    )
    states: tuple[Literal["training", "qualified", "paused", "removed", "erased"], ...] | None = Field(
        None, description="Only labelers who are now in one of these states; null takes all."
    )
    without: tuple[str, ...] = Field((), description="Pseudonyms of labelers to leave out.")
    min_gold: float | None = Field(
        None, ge=0, le=1, description="Only labelers who passed at least this share of their gold questions."
    )
    min_gold_answers: int = Field(5, ge=1, description="Gold questions answered before min_gold can be met.")
    min_judgments: int = Field(1, ge=1, description="Only tasks that so many labelers judged, after all other filters.")
    acceptable_only: bool = Field(False, description="Leave out rankings whose labeler found no response acceptable.")
    aggregate: Literal["each", "majority", "soft"] = Field(
        "each",
        description="Each judgment for itself; one majority a pair or task; or with the labelers' reliability: "
        "probabilities as labels of pairs, weights of rankings.",
    )
    ties: Literal["keep", "drop"] = Field("keep", description="Ties: as they are, or left out.")
    splits: tuple[Split, ...] = Field(
        ("train", "validation"), min_length=1, description="Prompts of these splits. Test prompts only by themselves."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "test" in self.splits and len(set(self.splits)) > 1:
            raise ValueError(
                "splits: test prompts stay out of data to train on; make a snapshot of splits=[test] by itself"
            )
        if self.kind == "demonstrations" and self.aggregate != "each":
            raise ValueError(f"aggregate={self.aggregate}: ideal answers have no majority; use aggregate=each")
        return self
