"""Settings of the DPO recipe."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from plaudit.core.config import Config
from plaudit.models.lora import LoraConfig


class DPOConfig(Config):
    """Settings of the DPO recipe."""

    run: Path = Field(description="Run folder; the same command goes on where it stopped.")
    policy: str = Field(description="Language model to start from, usually the SFT model: also the reference.")
    data: str = Field(description="Comparisons or rankings to learn from.")
    eval_data: str | None = Field(None, description="Judgments to measure on; none holds out a share of `data`.")
    held_out: float = Field(0.1, gt=0, lt=1, description="Share of prompts held out when eval_data is not given.")
    criterion: str | None = Field(None, description="Which criterion's rankings to use when the data has several.")
    limit: int | None = Field(None, ge=1, description="Use only so many rows of `data`.")
    seed: int = Field(0, ge=0, description="Every random number of the run derives from it.")

    template: Literal["chat", "plain"] = Field(
        "chat", description="The tokenizer's chat template; or plain: prompt, newline, answer, end of sequence."
    )
    system: Literal["keep", "merge"] = Field(
        "keep", description="System messages go to the template, or to the head of the first user message."
    )

    loss: Literal["sigmoid", "robust", "ipo", "ipo_sum"] = Field(
        "sigmoid",
        description="DPO, with smoothed labels if label_smoothing is set; DPO unbiased where label_smoothing is the "
        "rate of wrong labels; IPO on log-ratios per token, or on their sums.",
    )
    beta: float = Field(0.1, gt=0, description="Strength of the pull to the reference; IPO calls it tau.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="Share of judgments assumed to be the wrong way round."
    )
    sft: float = Field(0.0, ge=0, description="Weight of the loss per token on the better answers (RPO's alpha).")

    epochs: int = Field(1, ge=1, description="Passes over the training prompts.")
    batch_size: int = Field(16, ge=1, description="Prompts, with all their judgments, in an optimizer step.")
    lr: float = Field(1e-6, gt=0, description="Peak learning rate.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    lr_floor: float = Field(0.1, ge=0, le=1, description="Share of the peak that the cosine falls to.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of matrices.")
    grad_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    train_layers: int | Literal["all"] = Field(8, description="Layers that train, counted from the top, or all.")
    lora: LoraConfig | None = Field(
        None, description="Adapters on the trained layers instead of the layers themselves."
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Type the model computes in.")

    max_tokens: int = Field(1024, ge=8, description="Longest prompt with one answer, in tokens.")
    micro_tokens: int = Field(2048, ge=1, description="Most packed tokens in one forward and backward pass.")
    trunk_memory: float = Field(4.0, ge=0, description="GiB of memory for trunk states kept over the epochs.")
    eval_every: int | None = Field(
        None, ge=1, description="Steps between evaluations on held-out judgments; none is after training only."
    )
    checkpoint_every: int | None = Field(None, ge=1, description="Steps between checkpoints; none is every 10 minutes.")

    @model_validator(mode="after")
    def _consistent(self) -> "DPOConfig":
        if self.loss == "robust" and self.label_smoothing == 0:
            raise ValueError(
                "loss=robust needs label_smoothing, the share of judgments that are wrong; with 0 it is DPO"
            )
        return self
