"""Settings of the PPO recipe."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from plaudit.core.config import Config
from plaudit.models.lora import LoraConfig
from plaudit.rollouts.engine import Sampling


class KLSettings(Config):
    """How the policy is held near the reference."""

    coef: float = Field(default=0.05, ge=0, description="Weight of the KL penalty, in reward units a nat.")
    estimator: Literal["k1", "k2", "k3"] = Field(default="k1", description="Per-token KL estimator (Schulman).")
    placement: Literal["reward", "loss"] = Field(
        default="reward",
        description="Subtract the KL from the per-token reward, or add it to the loss and differentiate it.",
    )
    adaptive: bool = Field(default=False, description="Steer the coefficient towards `target` (Ziegler et al. 2019).")
    target: float = Field(default=6.0, gt=0, description="Sequence KL in nats the adaptive coefficient aims at.")
    horizon: int = Field(default=10_000, gt=0, description="Episodes over which the adaptive coefficient reacts.")


class MissingEndSettings(Config):
    """What happens to the score of an answer that never ended its turn."""

    mode: Literal["subtract", "replace", "none"] = Field(
        default="subtract", description="Penalty on unfinished answers."
    )
    value: float = Field(
        default=1.0, description="Subtracted from the score, or put in its place (then usually negative)."
    )


class PTXSettings(Config):
    """Language-model loss on demonstrations, mixed into every policy update (PPO-ptx, Ouyang et al. 2022)."""

    data: str | None = Field(default=None, description="Demonstrations; none turns the mix off.")
    coef: float = Field(default=0.5, ge=0, description="Weight of the token-mean loss on demonstrations.")
    rows: int = Field(default=8, ge=1, description="Demonstrations in every optimizer step.")


class EnsembleSettings(Config):
    """How the scores of several reward models become one."""

    mode: Literal["mean", "worst", "uncertainty"] = Field(
        default="mean", description="Mean, minimum, or mean - lambda * var."
    )
    penalty: float = Field(default=0.5, ge=0, description="lambda: weight of the members' variance (mode uncertainty).")


class PPOConfig(Config):
    """Settings of the PPO recipe."""

    run: Path = Field(description="Run folder; the same command goes on where it stopped.")
    policy: str = Field(description="SFT model: the start of training and the reference of the KL.")
    reward: str | tuple[str, ...] = Field(
        description="Training reward: model folder, run folder, 'file.py:function'; several make an ensemble."
    )
    prompts: str = Field(description="Prompts to train on.")
    eval_prompts: str | None = Field(None, description="Prompts to judge on; none holds out a share of `prompts`.")
    held_out: float = Field(0.1, gt=0, lt=1, description="Share of `prompts` held out when eval_prompts is not given.")
    judge: str = Field(description="Scores the held-out answers and chooses the checkpoint; 'none' goes without.")
    template: Literal["chat", "plain"] = Field("chat", description="The tokenizer's chat template, or plain text.")
    system: Literal["keep", "merge"] = Field("keep", description="System messages: as they are, or in the user's turn.")
    seed: int = Field(0, ge=0, description="Every random number of the run derives from it.")

    iterations: int = Field(50, ge=1, description="Rounds of sampling and training.")
    prompts_per_iteration: int = Field(32, ge=1, description="Prompts sampled in an iteration.")
    sampling: Sampling = Field(default_factory=Sampling, description="How answers are drawn.")
    allow_truncated_sampling: bool = Field(
        False, description="Permit top_p/top_k, though the samples then do not come from the policy PPO assumes."
    )
    missing_eos: MissingEndSettings = Field(
        default_factory=MissingEndSettings, description="Treatment of unfinished answers."
    )
    reward_clip: float | None = Field(None, gt=0, description="Clip scores to plus or minus this.")
    score_baseline: Literal["none", "prompt"] = Field(
        "none", description="Subtract from each score the mean score of the other answers to its prompt, or nothing."
    )
    ensemble: EnsembleSettings = Field(default_factory=EnsembleSettings, description="Combining several reward models.")

    kl: KLSettings = Field(default_factory=KLSettings, description="The KL penalty.")
    gamma: float = Field(1.0, gt=0, le=1, description="Discount a token.")
    lam: float = Field(0.95, ge=0, le=1, description="Lambda of generalised advantage estimation.")
    whiten_rewards: bool = Field(False, description="Scale per-token rewards to unit variance, keeping their mean.")
    whiten_advantages: bool = Field(True, description="Scale advantages to mean 0 and variance 1.")

    epochs: int = Field(4, ge=1, description="Passes over the samples of an iteration.")
    minibatches: int = Field(1, ge=1, description="Optimizer steps a pass.")
    clip: float = Field(0.2, gt=0, description="Range of the probability ratio around 1.")
    value_clip: float = Field(0.2, gt=0, description="Range of a new value around the old one.")
    vf_coef: float = Field(0.1, gt=0, description="Weight of the value loss.")
    value_head: Literal["zero", "reward"] = Field(
        "zero", description="Head of a value branch whose layers start as the reward model's: zero, or that model's."
    )
    value_warmup: int = Field(
        0, ge=0, description="Passes that fit the value branch to the first iteration before the policy moves."
    )
    target_kl: float | None = Field(
        None, gt=0, description="End the passes of an iteration once the approx_kl of a pass exceeds this."
    )
    ptx: PTXSettings = Field(default_factory=PTXSettings, description="Language-model loss on demonstrations.")

    lr: float = Field(5e-6, gt=0, description="Learning rate of the policy.")
    value_lr: float | None = Field(None, gt=0, description="Learning rate of the value branch; none takes lr.")
    warmup: int = Field(0, ge=0, description="Iterations of linear warm-up.")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="Learning rate after warm-up.")
    grad_clip: float = Field(1.0, gt=0, description="Largest gradient norm, policy and value apart.")
    train_layers: int | Literal["all"] = Field(8, description="Layers that train, counted from the top, or all.")
    lora: LoraConfig | None = Field(
        None, description="Adapters on the trained layers instead of the layers themselves."
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Type the model computes in.")
    micro_tokens: int = Field(4096, ge=1, description="Most packed tokens in one forward and backward pass.")

    eval_every: int = Field(5, ge=1, description="Iterations between judgements of held-out answers.")
    eval_limit: int = Field(64, ge=2, description="Most held-out prompts that are judged.")
    eval_samples: int = Field(1, ge=1, description="Answers to each held-out prompt.")
    checkpoint_every: int | None = Field(
        None, ge=1, description="Iterations between checkpoints; none is every 10 minutes."
    )
    keep_final: bool = Field(False, description="Also export the last weights, as model-final.")

    @model_validator(mode="after")
    def _consistent(self) -> "PPOConfig":
        truncated = self.sampling.top_p < 1 or self.sampling.top_k > 0
        if truncated and not self.allow_truncated_sampling:
            raise ValueError(
                f"sampling.top_p={self.sampling.top_p} and sampling.top_k={self.sampling.top_k} draw from another "
                "distribution than the one the loss assumes; leave them at 1.0 and 0, or set "
                "allow_truncated_sampling=true"
            )
        if self.sampling.temperature <= 0:
            raise ValueError("sampling.temperature is 0: greedy answers leave PPO nothing to compare; set it above 0")
        if self.kl.placement == "loss" and self.kl.estimator == "k1":
            raise ValueError(
                "kl.placement=loss with kl.estimator=k1 has an expected gradient of zero: nothing would hold the "
                "policy; use kl.placement=reward, or kl.estimator=k2"
            )
        if self.score_baseline == "prompt" and self.sampling.n < 2:
            raise ValueError(
                f"score_baseline=prompt compares an answer with the others to its prompt, but sampling.n="
                f"{self.sampling.n}; sample two or more, or use score_baseline=none"
            )
        if self.minibatches > self.prompts_per_iteration:
            raise ValueError(
                f"minibatches={self.minibatches} is more than prompts_per_iteration={self.prompts_per_iteration}; "
                "a minibatch holds at least one prompt with its answers"
            )
        if self.judge != "none" and self.judge in self.reward_specs:
            raise ValueError(
                f"judge={self.judge} is also the training reward, so it cannot notice that the policy games it; "
                "name another scorer, or judge=none to go without one"
            )
        return self

    @property
    def reward_specs(self) -> tuple[str, ...]:
        """The training rewards, always as a tuple."""
        return (self.reward,) if isinstance(self.reward, str) else self.reward
