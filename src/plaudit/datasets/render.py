"""Conversations to token ids and back. The only file that knows chat templates.

Where an answer starts and ends is found by rendering a conversation with a marker as its answer, so nothing here knows
the syntax of any one template. The prompt ends where `add_generation_prompt=True` ends; what a template writes between
that point and the answer (an empty think block, say) belongs to the prompt; the end-of-turn token belongs to the
answer; what follows it (a newline, mostly) is dropped. Prompt and answer are tokenised apart, because a sampler too
continues from the prompt's tokens: no token may straddle the border.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jinja2 import TemplateError
from rich.text import Text

from plaudit.core.errors import ModelError
from plaudit.core.records import Message, Prompt, TokenGroup, user_prompt
from plaudit.datasets.preview import paint_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QUESTION, _ANSWER, _SYSTEM = "plauditquestion", "plauditanswer", "plauditsystem"
_PAD_NAMES = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>", "[UNK]")


class _Frame(NamedTuple):
    """What a template puts around an answer."""

    lead: str  # between the generation prompt and the answer
    tail: str  # white space between the answer and the end of turn
    end_id: int  # the end-of-turn token
    strips_left: bool
    strips_right: bool


class Renderer:
    """Renders prompts and answers for one tokenizer.

    template: "chat" uses the tokenizer's own chat template; "plain" is the prompt, a newline, the answer, EOS.
    system:   "keep" leaves system messages to the template; "merge" puts them at the head of the first user message,
              for templates that have no system role.

    Raises ModelError if the tokenizer has no chat template, if the template does not end an answer with one special
    token, or if every special token ends an answer so that none is left for padding.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: Literal["chat", "plain"] = "chat",
        system: Literal["keep", "merge"] = "keep",
    ) -> None:
        self.tokenizer = tokenizer
        self._name = str(getattr(tokenizer, "name_or_path", "") or "This tokenizer")
        if template == "chat" and not tokenizer.chat_template:
            raise ModelError(
                f"{self._name} has no chat template, so prompt and answer cannot be told apart. Use an instruction-"
                "tuned model, or set template=plain (the prompt, a newline, the answer, the end-of-sequence token)."
            )
        if template == "plain" and tokenizer.eos_token is None:
            raise ModelError(f"{self._name} has no end-of-sequence token, with which template=plain ends an answer.")
        self._plain = template == "plain"
        self._merge_system = system == "merge"
        self._bos = str(tokenizer.bos_token) if self._plain and _adds_bos(tokenizer) else ""
        controls = _control_tokens(tokenizer)
        # The longest first: a token whose text begins with another's must win, as it does in the tokenizer.
        self._control = re.compile("|".join(re.escape(text) for text in sorted(controls, key=len, reverse=True)))
        self._frame = self._find_frame()
        self._anchor = self._find_anchor()
        eos: Any = tokenizer.eos_token_id
        self.end_ids = frozenset({self._frame.end_id} if eos is None else {self._frame.end_id, int(eos)})
        self.pad_id = _choose_pad(tokenizer, controls, self.end_ids, self._name)
        self._keeps_system: bool | None = None

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of a conversation, up to where the answer starts.

        Raises ModelError if the template refuses the conversation or has no place for its system message.
        """
        if prompt[0].role == "system":
            if self._merge_system:
                prompt = _merge_system(prompt)
            elif not self._has_system_role():
                raise ModelError(
                    f"The chat template of {self._name} has no system role, and a prompt has a system message. "
                    "Set system=merge to put it at the head of the first user message, or remove it from the data."
                )
        return self._encode_prompt(prompt)

    def response_ids(self, text: str) -> tuple[int, ...]:
        """Token ids of an answer, closed by the end-of-turn token. Stripped where the template strips."""
        frame = self._frame
        text = text.lstrip() if frame.strips_left else text
        text = (text.rstrip() if frame.strips_right else text) + frame.tail
        anchor = self._encode(self._anchor)
        ids = self._encode_spelled(self._anchor + text)
        # Where the answer's first characters merge with the anchor, the answer on its own is the better reading.
        ids = ids[len(anchor) :] if ids[: len(anchor)] == anchor else self._encode_spelled(text)
        return (*ids, frame.end_id)

    def group(self, prompt: Prompt, texts: Sequence[str]) -> TokenGroup:
        """One prompt with its answers, as token ids."""
        return TokenGroup(self.prompt_ids(prompt), tuple(self.response_ids(text) for text in texts))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without the end of turn. Other special tokens stay visible, for judges to see."""
        kept = list(ids[:-1]) if ids and ids[-1] in self.end_ids else list(ids)
        return self._decode(kept)

    def preview(self, group: TokenGroup) -> Text:
        """A rendered example: the prompt dim, the supervised tokens coloured in two alternating shades."""
        return paint_tokens(group, self._decode)

    # Rendering

    def _render(self, prompt: Prompt, *, generate: bool) -> str:
        """The text of a conversation, in the template's syntax."""
        if self._plain:
            end = str(self.tokenizer.eos_token)
            turns = [m.content + (end if m.role == "assistant" else "") + "\n" for m in prompt]
            return self._bos + "".join(turns)
        messages = [{"role": message.role, "content": message.content} for message in prompt]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
        except TemplateError as error:
            roles = ", ".join(message.role for message in prompt)
            raise ModelError(
                f"The chat template of {self._name} refuses a conversation with the roles {roles}: {error}. "
                "Change the conversation, or use a model whose template allows it."
            ) from None
        return str(text)

    def _encode_prompt(self, prompt: Prompt) -> tuple[int, ...]:
        typed = [text for message in prompt for text in self._control.findall(message.content)]
        if not typed:
            return tuple(self._encode(self._render(prompt, generate=True) + self._frame.lead))
        # A person typed a control token. Marks stand in for it while the template is rendered; then the text is cut at
        # the marks, exactly where the tokenizer would have cut it, and the typed token is spelled out in letters.
        mark = "plauditmark"
        while any(mark in message.content for message in prompt):
            mark += "x"
        numbered = iter(range(len(typed)))
        marked = tuple(
            Message(m.role, self._control.sub(lambda _: f"{mark}{next(numbered)}.", m.content)) for m in prompt
        )
        text = self._render(marked, generate=True) + self._frame.lead
        ids: list[int] = []
        for position, piece in enumerate(re.split(rf"{mark}(\d+)\.", text)):
            ids += self._encode(piece) if position % 2 == 0 else self._encode_spelled(typed[int(piece)])
        return tuple(ids)

    def _encode(self, text: str) -> list[int]:
        """Token ids; the text of a control token becomes that token. Never adds a BOS: the template writes its own."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) if text else []

    def _encode_spelled(self, text: str) -> list[int]:
        """Token ids; the text of a control token is spelled out in letters."""
        if not self._control.search(text):
            return self._encode(text)
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return list(encoded["input_ids"])

    def _decode(self, ids: Sequence[int]) -> str:
        text = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    # Finding out about the template

    def _find_frame(self) -> _Frame:
        prompt = self._render(user_prompt(_QUESTION), generate=True)
        before, after = self._around(_ANSWER)
        if before.startswith(prompt):
            lead = before[len(prompt) :]
        elif prompt.startswith(before):
            lead = ""  # the generation prompt itself goes further (opens a think block): the answer starts there
        else:
            raise ModelError(
                f"The chat template of {self._name} opens an answer with {before[-40:]!r}, but its generation prompt "
                f"ends with {prompt[-40:]!r}: a model trained on one would be sampled from the other. Fix the template."
            )
        before_spaced, after_spaced = self._around(f"\n {_ANSWER} \n")
        tail = after[: len(after) - len(after.lstrip())]
        return _Frame(
            lead,
            tail,
            self._find_end(after.lstrip()),
            strips_left=before_spaced != before + "\n ",
            strips_right=after_spaced != " \n" + after,
        )

    def _around(self, answer: str) -> tuple[str, str]:
        """The text before and after the answer of a rendered conversation."""
        text = self._render((*user_prompt(_QUESTION), Message("assistant", answer)), generate=False)
        if text.count(_ANSWER) != 1:
            raise ModelError(
                f"The chat template of {self._name} writes an assistant's answer {text.count(_ANSWER)} times, not "
                "once, so where it starts is unclear. Fix the template, or set template=plain."
            )
        before, _, after = text.partition(_ANSWER)
        return before, after

    def _find_end(self, after: str) -> int:
        match = self._control.match(after)
        if match is None:
            found = f"with {after[:30]!r}, which is no special token" if after else "with nothing"
            raise ModelError(
                f"The chat template of {self._name} ends an answer {found}: the model could not learn to stop. "
                "Let the template write eos_token after an answer, or set template=plain."
            )
        ids = self._encode(match.group())
        if len(ids) != 1:
            raise ModelError(
                f"The end of turn {match.group()!r} of {self._name} is {len(ids)} tokens, not one special token. "
                "Add it to the tokenizer's special tokens."
            )
        return ids[0]

    def _find_anchor(self) -> str:
        """Text to tokenise an answer after, so that it gets the tokens it has behind a prompt.

        SentencePiece tokenizers put a space before the first word of a text, but not before one that follows the
        template's newline; without the anchor, training would teach that space as part of every answer.
        """
        prompt = self._render(user_prompt(_QUESTION), generate=True) + self._frame.lead
        whole = self._encode(prompt + _ANSWER)[len(self._encode(prompt)) :]
        for anchor in ("", "\n"):
            if self._encode(anchor + _ANSWER)[len(self._encode(anchor)) :] == whole:
                return anchor
        return ""

    def _has_system_role(self) -> bool:
        if self._keeps_system is None:
            try:
                probe = (Message("system", _SYSTEM), *user_prompt(_QUESTION))
                self._keeps_system = _SYSTEM in self._render(probe, generate=True)
            except ModelError:
                self._keeps_system = False
        return self._keeps_system


def _merge_system(prompt: Prompt) -> Prompt:
    """The system message moved to the head of the first user message."""
    system, first, *rest = prompt
    return (Message("user", f"{system.content}\n\n{first.content}"), *rest)


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Text and id of every special token: what a template may write and a person may not."""
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    controls = {str(token.content): index for index, token in added.items() if token.special}
    pairs = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    controls.update({str(text): index for text, index in pairs})
    if not controls:
        name = getattr(tokenizer, "name_or_path", "") or "This tokenizer"
        raise ModelError(f"{name} has no special tokens, so an answer cannot be ended. Use a model that has some.")
    return controls


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    ids: Any = tokenizer(_QUESTION)["input_ids"]
    return tokenizer.bos_token_id is not None and bool(ids) and ids[0] == tokenizer.bos_token_id


def _choose_pad(
    tokenizer: PreTrainedTokenizerBase, controls: dict[str, int], end_ids: frozenset[int], name: str
) -> int:
    """The tokenizer's pad token, or another special token where that one also ends an answer.

    With pad = end of turn, code that tells padding by its id would ignore or stop at the wrong place.
    """
    named: list[Any] = [tokenizer.pad_token_id, tokenizer.unk_token_id]
    candidates = [*named, *(controls.get(text) for text in _PAD_NAMES), *sorted(controls.values())]
    for candidate in candidates:
        if candidate is not None and candidate not in end_ids:
            return int(candidate)
    raise ModelError(
        f"Every special token of {name} ends an answer ({', '.join(sorted(controls))}), so none is left for padding. "
        'Add one: tokenizer.add_special_tokens({"pad_token": "<|pad|>"}).'
    )
