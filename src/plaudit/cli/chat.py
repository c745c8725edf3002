"""`plaudit chat`: talk to a model in the terminal."""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from plaudit.cli.answers import SamplingConfig, Speaker, load_speaker, sampling_of
from plaudit.cli.command import Command, Outcome
from plaudit.core.errors import PlauditError
from plaudit.core.progress import say
from plaudit.core.records import Message, PromptRow
from plaudit.core.seeding import derive

if TYPE_CHECKING:
    from plaudit.datasets.render import Renderer

HELP = "/reset forgets the conversation, /system TEXT sets the system message, /temperature 0.7, /quit"


class ChatConfig(SamplingConfig):
    """Settings of `plaudit chat`."""

    model: str = Field("smollm2", description="Model to talk to: smollm2, a folder, a run, a hub name.")
    temperature: float = Field(0.7, ge=0, description="1 samples from the model as it is; 0 takes the likeliest token.")
    message: str | None = Field(None, description="System message to begin with.")


class Conversation:
    """What was said, and the settings that can change while talking."""

    def __init__(self, speaker: Speaker, config: ChatConfig) -> None:
        self.speaker = speaker
        self.config = config
        self.system = config.message
        self.turns: list[Message] = []
        self.answered = 0

    def obey(self, line: str) -> bool:
        """Do what a line that begins with a slash says. False: the conversation is over."""
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        match name:
            case "/quit" | "/exit":
                return False
            case "/reset":
                self.turns.clear()
                say("The conversation starts anew.")
            case "/system":
                self.system = rest or None
                self.turns.clear()
                say(f"The conversation starts anew, {'with' if rest else 'without'} a system message.")
            case "/temperature":
                self._set_temperature(rest)
            case _:
                say(HELP)
        return True

    def answer(self, text: str, show: Callable[[str], None]) -> None:
        """Answer, showing the text piece by piece. An answer that fails leaves the conversation as it was.

        Raises:
            PlauditError: the conversation no longer fits the context, or the template refuses it.
        """
        from plaudit.rollouts.engine import sample

        asked = [*self.turns, Message("user", text)]
        opening = [] if self.system is None else [Message("system", self.system)]
        ids = self.speaker.fitting_ids(PromptRow((*opening, *asked)), self.config.max_new_tokens)
        self.answered += 1
        stream = Stream(self.speaker.renderer, show)
        sample(
            self.speaker.policy,
            [ids],
            sampling_of(self.config, 1),
            end_ids=self.speaker.renderer.end_ids,
            seeds=[derive(self.config.seed, "chat", self.answered)],
            on_token=lambda _index, token: stream.add(token),
        )
        self.turns = [*asked, Message("assistant", stream.finish())]

    def _set_temperature(self, text: str) -> None:
        try:
            self.config = ChatConfig.model_validate(self.config.model_dump() | {"temperature": text})
        except ValidationError:
            say(f"`{text}` is no temperature. Write a number of at least 0: /temperature 0.7")
        else:
            say(f"Temperature {self.config.temperature:g}")


class Stream:
    """Shows tokens as text as they come."""

    def __init__(self, renderer: "Renderer", show: Callable[[str], None]) -> None:
        self._renderer = renderer
        self._show = show
        self._tokens: list[int] = []
        self._shown = 0

    def add(self, token: int) -> None:
        """One more token."""
        self._tokens.append(token)
        text = self._renderer.decode(self._tokens)
        # Half of a character that takes several tokens decodes to a replacement mark: wait for the rest.
        if not text.endswith("\ufffd"):
            self._show(text[self._shown :])
            self._shown = len(text)

    def finish(self) -> str:
        """Show what is left; returns the whole text."""
        text = self._renderer.decode(self._tokens)
        self._show(text[self._shown :])
        return text


def _run(config: ChatConfig) -> Outcome:
    from plaudit.datasets.preview import harmless

    talk = Conversation(load_speaker(config.model, config), config)
    if sys.stdin.isatty():
        say(HELP)

    def show(piece: str) -> None:
        sys.stdout.write(harmless(piece))
        sys.stdout.flush()

    for line in _lines():
        if line.startswith("/"):
            if not talk.obey(line):
                break
            continue
        try:
            talk.answer(line, show)
        except KeyboardInterrupt:
            say("\nStopped; the question is forgotten.")
            continue
        except PlauditError as error:
            say(f"{error} (/reset forgets the conversation.)", style="bold red")
            continue
        show("\n")
    turns = [{"role": turn.role, "content": turn.content} for turn in talk.turns]
    return Outcome({"model": config.model, "system": talk.system, "messages": turns}, "")


def _lines() -> Iterator[str]:
    """What the person types, or what a pipe holds, until its end. Empty lines are passed over."""
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            return
        if not line and not sys.stdin.isatty():
            return
        if line.strip():
            yield line.strip()


CHAT = Command(
    "chat",
    "Talk to a model in the terminal.",
    ("plaudit chat model=runs/ppo", "echo 'Name three fruits.' | plaudit chat model=smollm2 temperature=0"),
    lambda: ChatConfig,
    _run,
    "Use and judge",
)
