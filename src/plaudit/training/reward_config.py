"""Settings of the reward-model recipe."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from plaudit.core.config import Config
from plaudit.models.lora import LoraConfig


class RewardConfig(Config):
    """Settings of the reward-model recipe."""

    run: Path = Field(description="Run folder; the same command goes on where it stopped.")
    model: str = Field("smollm2", description="Language model to start from, usually the SFT model.")
    data: str = Field(description="Rankings or comparisons to learn from.")
    eval_data: str | None = Field(None, description="Judgments to measure on; none holds out a share of `data`.")
    held_out: float = Field(0.15, gt=0, lt=1, description="Share of prompts held out when eval_data is not given.")
    criterion: str | None = Field(None, description="Which criterion's rankings to use when the data has several.")
    limit: int | None = Field(None, ge=1, description="Use only so many rows of `data`.")
    seed: int = Field(0, ge=0, description="Every random number of the run derives from it.")

    template: Literal["chat", "plain"] = Field(
        "chat", description="The tokenizer's chat template; or plain: prompt, newline, answer, end of sequence."
    )
    system: Literal["keep", "merge"] = Field(
        "keep", description="System messages go to the template, or to the head of the first user message."
    )

    loss: Literal["bradley_terry", "plackett_luce"] = Field(
        "bradley_terry", description="Likelihood of a ranking: all its pairs, or its order as a whole."
    )
    ties: Literal["soft", "davidson", "rao_kupper", "drop"] = Field(
        "soft", description="Ties as a label of one half, as an outcome with a learned share (two models), or left out."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="Share of judgments assumed to be the wrong way round."
    )
    centre: float = Field(0.0, ge=0, description="Weight of the pull of each pair's mean score towards 0.")

    members: int = Field(1, ge=1, description="Reward models on one trunk; they differ in head and order of the data.")
    bootstrap: bool = Field(False, description="Draw each member's prompts with replacement.")
    epochs: int = Field(2, ge=1, description="Passes over the training prompts.")
    choose_epoch: bool = Field(False, description="Keep the epoch that is best on a third set of prompts.")
    batch_size: int = Field(8, ge=1, description="Prompts, with all their judgments, in an optimizer step.")
    lr: float = Field(1e-4, gt=0, description="Peak learning rate of the layers; about 1e-5 where all layers train.")
    head_lr: float | None = Field(None, gt=0, description="Peak learning rate of the head; none takes lr.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay of matrices.")
    grad_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    train_layers: int | Literal["all"] = Field(8, description="Layers that train, counted from the top, or all.")
    lora: LoraConfig | None = Field(
        None, description="Adapters on the trained layers instead of the layers themselves."
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Type the model computes in.")

    max_tokens: int = Field(1024, ge=8, description="Longest prompt with one answer, in tokens.")
    micro_tokens: int = Field(4096, ge=1, description="Most packed tokens in one forward and backward pass.")
    trunk_memory: float = Field(4.0, ge=0, description="GiB of memory for trunk states kept over the epochs.")
    normalise_on: str | None = Field(
        None, description="Demonstrations whose mean score becomes 0; none takes the training answers."
    )
    checkpoint_every: int | None = Field(None, ge=1, description="Steps between checkpoints; none is every 10 minutes.")

    @model_validator(mode="after")
    def _consistent(self) -> "RewardConfig":
        if self.loss == "plackett_luce" and self.ties in ("davidson", "rao_kupper"):
            raise ValueError(
                f"ties={self.ties} is a likelihood of pairs; with loss=plackett_luce use ties=soft (tied answers share "
                "their places) or ties=drop"
            )
        if self.choose_epoch and self.epochs == 1:
            raise ValueError("choose_epoch=true has nothing to choose from with epochs=1; raise epochs")
        if self.label_smoothing and (self.loss != "bradley_terry" or self.ties in ("davidson", "rao_kupper")):
            raise ValueError("label_smoothing goes with loss=bradley_terry and ties=soft or ties=drop only")
        if self.max_tokens > self.micro_tokens:
            raise ValueError(
                f"max_tokens={self.max_tokens} is more than micro_tokens={self.micro_tokens}, so one text would not "
                "fit into a pass; raise micro_tokens or lower max_tokens"
            )
        return self
