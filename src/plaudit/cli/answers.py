"""Answers of a model to prompts of a file: what `generate`, `evaluate` and `chat` share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from plaudit.core.config import Config
from plaudit.core.errors import DataError
from plaudit.core.progress import Progress, say
from plaudit.core.records import Prompt, PromptRow

if TYPE_CHECKING:
    from plaudit.datasets.render import Renderer
    from plaudit.models.policy import Policy
    from plaudit.models.precision import Precision
    from plaudit.rollouts.drawn import Answers, Drawn
    from plaudit.rollouts.sampling import Sampling


class SamplingConfig(Config):
    """How answers are drawn; the base of the settings of commands that sample."""

    temperature: float = Field(1.0, ge=0, description="1 samples from the model as it is; 0 takes the likeliest token.")
    top_p: float = Field(1.0, gt=0, le=1, description="Keep the likeliest tokens that together have this probability.")
    top_k: int = Field(0, ge=0, description="Keep only the k likeliest tokens; 0 keeps all.")
    max_new_tokens: int = Field(256, ge=1, description="Longest answer in tokens.")
    seed: int = Field(0, ge=0, description="A prompt's answers depend on this and the prompt, not on its neighbours.")
    template: Literal["chat", "plain"] = Field("chat", description="The tokenizer's chat template, or plain text.")
    system: Literal["keep", "merge"] = Field("keep", description="System messages: as they are, or in the user's turn.")
    precision: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Type the model computes in.")


@dataclass(frozen=True)
class Speaker:
    """A model ready to answer."""

    name: str
    policy: "Policy"
    renderer: "Renderer"
    context: int | None

    def answer(
        self, rows: Sequence[PromptRow], config: SamplingConfig, *, n: int, title: str, drawn: "Drawn | None" = None
    ) -> "list[Answers]":
        """`n` answers to each prompt, but for those that `drawn` keeps already.

        Raises:
            DataError: a prompt leaves no room for an answer in the model's context; names its line.
        """
        from plaudit.rollouts.answers import answer_prompts

        for row in rows:
            self.fitting_ids(row, config.max_new_tokens)
        prompts = [row.prompt for row in rows]
        return answer_prompts(
            self.policy, self.renderer, prompts, sampling_of(config, n), seed=config.seed, title=title, drawn=drawn
        )

    def fitting_ids(self, row: PromptRow, max_new_tokens: int) -> tuple[int, ...]:
        """Token ids of a prompt that leaves room for the longest answer."""
        ids = self.renderer.prompt_ids(row.prompt)
        if self.context is not None and len(ids) + max_new_tokens > self.context:
            raise DataError(
                f"{row.source}: the prompt has {len(ids)} tokens; with an answer of up to {max_new_tokens} it does not "
                f"fit the {self.context} of {self.name}. Shorten the prompt, or lower max_new_tokens."
            )
        return ids


def load_speaker(name: str, config: SamplingConfig, *, precision: "Precision | None" = None) -> Speaker:
    """Load a policy with its renderer, in `precision` if its answers have been begun in one. Raises ModelError."""
    from plaudit.datasets.render import Renderer
    from plaudit.models.load import load_policy
    from plaudit.models.precision import choose_precision

    precision = precision or choose_precision(config.precision)
    policy = load_policy(name, precision=precision)
    say(f"{name}: {precision.name} ({precision.reason})")
    renderer = Renderer(policy.tokenizer, template=config.template, system=config.system)
    return Speaker(name, policy, renderer, getattr(policy.origin.config, "max_position_embeddings", None))


def sampling_of(config: SamplingConfig, n: int) -> "Sampling":
    """The engine's settings."""
    from plaudit.rollouts.sampling import Sampling

    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        max_new_tokens=config.max_new_tokens,
        n=n,
    )


def plain_prompt(prompt: Prompt) -> str | list[dict[str, str]]:
    """A prompt as data files hold it: text where it is one user message, else chat messages."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return [{"role": message.role, "content": message.content} for message in prompt]


def score_in_parts(
    score: Callable[[Sequence[Prompt], Sequence[str]], list[float | None]],
    prompts: Sequence[Prompt],
    texts: Sequence[str],
    *,
    title: str,
    part: int = 64,
) -> list[float | None]:
    """Scores with progress between parts."""
    scores: list[float | None] = []
    with Progress(title, len(texts)) as progress:
        for start in range(0, len(texts), part):
            found = score(prompts[start : start + part], texts[start : start + part])
            scores += found
            progress.advance(len(found))
    return scores
