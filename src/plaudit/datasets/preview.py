"""What a model is trained on, made visible: one rendered example in colour."""

from collections.abc import Callable, Iterator, Sequence

from rich.text import Text

from plaudit.core.records import TokenGroup

_SHADES = ("black on green", "black on bright_green")
_VISIBLE = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {127: "\u2421"}


def paint_tokens(group: TokenGroup, decode: Callable[[Sequence[int]], str]) -> Text:
    """The prompt dim, then every response, its tokens in two alternating shades so that their borders show."""
    painted = Text()
    painted.append(harmless(decode(group.prompt)), style="dim")
    for number, response in enumerate(group.responses):
        if number:
            painted.append("\n")
        for position, piece in enumerate(_pieces(response, decode)):
            painted.append(harmless(piece), style=_SHADES[position % 2])
    return painted


def _pieces(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """The text that each token adds. A character of several tokens (an emoji, say) comes with the last of them."""
    shown = ""
    for end in range(1, len(ids) + 1):
        text = decode(ids[:end])
        if end < len(ids) and text.endswith("\ufffd"):
            continue
        yield text[len(shown) :]
        shown = text


def harmless(text: str) -> str:
    """Terminal control characters as visible symbols: data must not be able to move the reader's cursor."""
    return text.translate(_VISIBLE)
