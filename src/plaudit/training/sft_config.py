"""Settings of the supervised fine-tuning recipe."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from plaudit.core.config import Config
from plaudit.models.lora import LoraConfig


class SFTConfig(Config):
    """Settings of the supervised fine-tuning recipe."""

    run: Path = Field(description="Run folder; the same command goes on where it stopped.")
    model: str = Field("smollm2", description="Language model to start from: smollm2, a folder, a run, a hub name.")
    data: str = Field(description="Demonstrations to learn from.")
    eval_data: str | None = Field(None, description="Demonstrations to measure on; none holds out a share of `data`.")
    held_out: float = Field(0.1, gt=0, lt=1, description="Share of prompts held out when eval_data is not given.")
    limit: int | None = Field(None, ge=1, description="Use only so many rows of `data`.")
    seed: int = Field(0, ge=0, description="Every random number of the run derives from it.")

    template: Literal["chat", "plain"] = Field(
        "chat", description="The tokenizer's chat template; or plain: prompt, newline, answer, end of sequence."
    )
    system: Literal["keep", "merge"] = Field(
        "keep", description="System messages go to the template, or to the head of the first user message."
    )
    loss_on: Literal["response", "all"] = Field(
        "response", description="Learn to write answers only, or prompts and template too."
    )

    epochs: int = Field(2, ge=1, description="Passes over the demonstrations.")
    batch_size: int = Field(16, ge=1, description="Demonstrations in an optimizer step.")
    lr: float = Field(2e-5, gt=0, description="Peak learning rate.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    lr_floor: float = Field(0.1, ge=0, le=1, description="Share of the peak that the cosine falls to.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of matrices.")
    grad_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    train_layers: int | Literal["all"] = Field("all", description="Layers that train, counted from the top, or all.")
    lora: LoraConfig | None = Field(
        None, description="Adapters on the trained layers instead of the layers themselves."
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Type the model computes in.")

    max_tokens: int = Field(1024, ge=8, description="Longest prompt with its answer, in tokens.")
    micro_tokens: int = Field(2048, ge=1, description="Most packed tokens in one forward and backward pass.")
    eval_every: int | None = Field(
        None, ge=1, description="Steps between evaluations on held-out prompts; none is before and after training only."
    )
    eval_limit: int = Field(200, ge=2, description="Most held-out prompts that are evaluated.")
    samples: int = Field(4, ge=0, description="Held-out prompts answered at each evaluation, for reading.")
    sample_tokens: int = Field(64, ge=1, description="Longest of these answers in tokens.")
    checkpoint_every: int | None = Field(None, ge=1, description="Steps between checkpoints; none is every 10 minutes.")

    @model_validator(mode="after")
    def _consistent(self) -> "SFTConfig":
        if self.max_tokens > self.micro_tokens:
            raise ValueError(
                f"max_tokens={self.max_tokens} is more than micro_tokens={self.micro_tokens}, so one example would not "
                "fit into a pass; raise micro_tokens or lower max_tokens"
            )
        return self
