"""HTML in small pieces: a type for safe markup, and the only functions that turn foreign text into it.

Everything a report shows was written by somebody else: models, data files, configuration. `text` and `label` are the
only ways in, so a `<script>` in an answer stays a picture of itself, and characters that reorder or hide text are spelt
out.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NewType

Html = NewType("Html", str)

_VISIBLE_WHITESPACE = frozenset("\n\t ")
# Cc control, Cf format (bidi overrides, zero-width), Co private use, Cs lone surrogates, Zl and Zp separators.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # spelling of Persian or Hindi words, and of emoji, needs them
_VOID = frozenset({"meta", "br"})
_SELF_CLOSING = frozenset({"line", "rect", "path", "circle"})  # of SVG


def plain(value: object) -> str:
    """Foreign text with hidden characters spelt out (`⟨U+202E⟩`); still to be escaped."""
    return "".join(f"⟨U+{ord(c):04X}⟩" if _hidden(c) else c for c in _newlines(str(value)))


def text(value: object) -> Html:
    """Foreign text as markup: escaped, with hidden characters spelt out and set apart."""
    return Html(
        "".join(
            f'<span class="code-point">U+{ord(c):04X}</span>' if _hidden(c) else html.escape(c)
            for c in _newlines(str(value))
        )
    )


def label(value: object) -> Html:
    """Foreign text without any element of its own: inside SVG, a `<span>` would end the drawing."""
    return Html(html.escape(plain(value)))


def _newlines(value: str) -> str:
    return value.replace("\r\n", "\n")


def _hidden(c: str) -> bool:
    if c in _VISIBLE_WHITESPACE or c in _JOINERS:
        return False
    return unicodedata.category(c) in _HIDDEN_CATEGORIES


def join(parts: Iterable[str], separator: str = "") -> Html:
    """Markup one after the other. Takes `str` because `+` of two `Html` is typed so; never give it foreign text."""
    return Html(separator.join(parts))


def tag(element: str, /, *children: Html, **attributes: object) -> Html:
    """One element. `None` and `False` leave an attribute out; a trailing underscore escapes a keyword (`class_`)."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(plain(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if element in _VOID:
        return Html(f"<{element}{written}>")
    if element in _SELF_CLOSING:
        return Html(f"<{element}{written}/>")
    return Html(f"<{element}{written}>{''.join(children)}</{element}>")


def about(name: object, sentence: object) -> Html:
    """A sentence that begins with the name, in bold, of what it is about."""
    return join([tag("strong", text(name)), Html(" "), text(sentence)])


def paragraph(*children: Html, class_: str | None = None) -> Html:
    return tag("p", *children, class_=class_)


def code(value: object) -> Html:
    return tag("code", text(value))


def listing(items: Iterable[Html]) -> Html:
    return tag("ul", *(tag("li", item) for item in items))


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Html]], *, numeric: Iterable[int] = ()) -> Html:
    """A table whose first column heads its rows; `numeric` columns are set to the right in tabular figures."""
    right = set(numeric)
    head = tag(
        "tr",
        *(
            tag("th", text(title), scope="col", class_="number" if i in right else None)
            for i, title in enumerate(header)
        ),
    )
    body = (
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, class_="number" if i in right else None) for i, cell in enumerate(row[1:], start=1)),
        )
        for row in rows
    )
    # On a narrow screen the wrapper scrolls instead of the page; it takes the focus so that keys can scroll it.
    grid = tag("table", tag("caption", text(caption)), tag("thead", head), tag("tbody", *body))
    return tag("div", grid, class_="table", role="region", aria_label=caption, tabindex=0)


def folded(summary: str, *children: Html, open_: bool = False) -> Html:
    opening = "<details open>" if open_ else "<details>"
    return Html(f"{opening}{tag('summary', text(summary))}{''.join(children)}</details>")


class Section(NamedTuple):
    """A titled part of the page; `body` may be empty, then the section is left out."""

    identity: str
    title: str
    body: Html

    def html(self) -> Html:
        heading = f"{self.identity}-title"
        return tag(
            "section", tag("h2", text(self.title), id=heading), self.body, id=self.identity, aria_labelledby=heading
        )
