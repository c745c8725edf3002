"""Foreign text as HTML that cannot do anything: answers of models, prompts, reasons, guidelines.

Markdown is rendered without HTML and without images, then cleaned against a short list of elements. Characters that
reorder or hide text are spelt out first. Links show where they lead.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from plaudit.reports import markup

# Hostile Markdown costs more than linear time (20,000 opening brackets: 0.4 s). A longer text is shown in full, but as
# plain text.
MAX_FORMATTED: Final = 12_000
MAX_DOCUMENT: Final = 40_000  # guidelines: by an admin, and the same for everybody

_BLOCKS = {"p", "ul", "ol", "li", "blockquote", "pre", "hr", "table", "thead", "tbody", "tr", "th", "td"}
_INLINE = {"a", "br", "code", "em", "s", "span", "strong"}
_HEADINGS = {f"h{level}" for level in range(2, 7)}
_MARKS = re.compile(r"(⟨U\+([0-9A-F]{4,6})⟩)\1*")  # of `markup.plain`; a run of the same one becomes one
_WEB_ADDRESS = re.compile(r"https?://[^/?#]", re.IGNORECASE)


class _Renderer(RendererHTML):
    """Markdown-it's renderer; a link is followed by its target, so that its text cannot claim another."""

    def link_close(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, _env: EnvType) -> str:
        opening, depth = idx - 1, 0
        while tokens[opening].type != "link_open" or depth:
            depth += {"link_close": 1, "link_open": -1}.get(tokens[opening].type, 0)
            opening -= 1
        target = str(tokens[opening].attrs.get("href", ""))
        if idx - opening == 2 and tokens[opening + 1].content == target:
            return "</a>"
        return f'</a> <span class="target">({escape(target)})</span>'

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        said = escape(tokens[idx].info.strip())  # mostly a language, but whatever a model wrote there is judged too
        return (f'<p class="language">{said}</p>' if said else "") + super().fence(tokens, idx, options, env)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer)
    # Other addresses stay text: relative ones would be links into this site, written by a model.
    parser.validateLink = lambda url: _WEB_ADDRESS.match(url) is not None  # pyright: ignore[reportAttributeAccessIssue]
    # Definitions of references would vanish from a page where every word is judged.
    return parser.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline", "reference"])


def _clean(html: str, elements: set[str]) -> str:
    return nh3.clean(
        html,
        tags=elements,
        attributes={"a": {"href"}, "ol": {"start"}},
        allowed_classes={"span": {"target"}, "p": {"heading", "language"}},
        url_schemes={"http", "https"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        strip_comments=True,
    )


def visible(text: str) -> Markup:
    """Plain text with its hidden characters marked, for a line or a `white-space: pre-wrap` block."""
    return _marked(escape(markup.plain(text)))


@lru_cache(maxsize=2048)
def formatted(text: str) -> Markup:
    """What a model or a person wrote, as Markdown. Its headings become bold lines, for they are none of our page."""
    if len(text) > MAX_FORMATTED:
        return _unformatted(text, "long")
    parser = _parser()
    tokens = parser.parse(markup.plain(text))
    if any(token.level >= parser.options["maxNesting"] - 1 for token in tokens):
        return _unformatted(text, "deeply nested")  # the parser leaves out what lies deeper
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "p"
            token.attrs = {"class": "heading"} if token.nesting == 1 else {}
    return _finish(tokens, _BLOCKS | _INLINE)


@lru_cache(maxsize=64)
def document(text: str) -> Markup:
    """Guidelines: Markdown whose headings are headings of the page, from the second level down and without gaps."""
    if len(text) > MAX_DOCUMENT:
        return _unformatted(text, "long")
    tokens = _parser().parse(markup.plain(text))
    level = 1
    for token in tokens:
        if token.type == "heading_open":
            level = min(int(token.tag[1]) + 1, level + 1, 6)
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{level}"
    return _finish(tokens, _BLOCKS | _INLINE | _HEADINGS)


def _unformatted(text: str, why: str) -> Markup:
    template = Markup('<p class="note">Too {} to format: shown as plain text.</p><div class="plain">{}</div>')
    return template.format(why, visible(text))


def _finish(tokens: list[Token], elements: set[str]) -> Markup:
    parser = _parser()
    html = _clean(parser.renderer.render(tokens, parser.options, {}), elements)
    # A table may be wider than the page; the wrapper scrolls, and takes the focus so that keys can scroll it.
    html = html.replace("<table>", '<div class="table" tabindex="0" role="group" aria-label="Table"><table>')
    html = html.replace("</table>", "</table></div>")
    return _marked(html)


def _marked(html: str) -> Markup:
    """Set the marks of hidden characters apart. In a tag their brackets are percent-encoded: this meets text only."""
    return Markup(_MARKS.sub(_mark, html))


def _mark(found: re.Match[str]) -> str:
    times = len(found[0]) // len(found[1])
    return f'<span class="code-point">U+{found[2]}{f" × {times}" if times > 1 else ""}</span>'


FILTERS: Final[dict[str, Any]] = {"formatted": formatted, "document": document, "visible": visible}
