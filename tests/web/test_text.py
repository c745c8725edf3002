"""Foreign text as HTML: nothing runs, nothing is fetched, nothing is hidden, and nothing is lost."""

import re
import time
from html.parser import HTMLParser

import pytest
from hostile import CORPUS

from plaudit.web.text import MAX_FORMATTED, document, formatted, visible

ELEMENTS = {"a", "blockquote", "br", "code", "div", "em", "hr", "li", "ol", "p", "pre", "s", "span", "strong", "ul"}
ELEMENTS |= {"table", "tbody", "td", "th", "thead", "tr", "h2", "h3", "h4", "h5", "h6"}
ATTRIBUTES = {"href", "rel", "target", "class", "start", "tabindex", "role", "aria-label"}


class Reader(HTMLParser):
    """Elements, attributes and text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


@pytest.mark.parametrize("render", [formatted, document, visible])
@pytest.mark.parametrize("text", CORPUS)
def test_hostile_text_yields_harmless_elements_only(render, text):
    for tag, attributes in Reader(render(text)).elements:
        assert tag in ELEMENTS
        assert set(attributes) <= ATTRIBUTES
        if tag == "a":
            assert re.match(r"https?://[^/]", attributes["href"] or "")
            assert set((attributes["rel"] or "").split()) >= {"noreferrer", "nofollow", "noopener"}


def test_a_link_says_where_it_leads():
    assert "(https://evil.example/x)" in Reader(formatted("[your bank](https://evil.example/x)")).words
    assert Reader(formatted("<https://a.example/x>")).words.strip() == "https://a.example/x"


def test_hidden_characters_are_spelt_out():
    assert Reader(formatted("a\u202eb")).words.strip() == "aU+202Eb"
    assert Reader(visible("a\u200b\u200b\u200bb")).words == "aU+200B × 3b"
    assert "می‌خواهم" in formatted("می‌خواهم"), "spelling of Persian needs the joiner"


@pytest.mark.parametrize(
    "text",
    [
        "[name]: https://a.example 'title'",
        "".join("  " * depth + f"- word{depth}\n" for depth in range(60)),
        "```language of\ncode\n```",
        "w" * (MAX_FORMATTED + 1) + " end",
        "[a](b) ![alt text](https://a.example/i.png)",
    ],
)
def test_no_word_is_lost(text):
    shown = Reader(formatted(text)).words
    for word in re.findall(r"\w+", text):
        assert word in shown


def test_headings_of_an_answer_are_no_headings_of_the_page():
    assert formatted("# Title").strip() == '<p class="heading">Title</p>'


def test_headings_of_guidelines_leave_no_gap():
    tags = [tag for tag, _ in Reader(document("# A\n\n#### B\n\n## C\n\ntext")).elements]
    assert tags == ["h2", "h3", "h3", "p"]


HOSTILE_SHAPES = {
    "brackets": "[",
    "links": "[a](b",
    "emphasis": "**a",
    "stars": "*a ",
    "tables": "a|b\n-|-\n",
    "entities": "&lt",
    "ticks": "`a``",
    "quotes": "> ",
    "marks": "\u202e\u202d",
}


@pytest.mark.parametrize("shape", HOSTILE_SHAPES)
def test_the_costliest_text_is_bounded(shape):
    text = (HOSTILE_SHAPES[shape] * MAX_FORMATTED)[:MAX_FORMATTED]
    started = time.process_time()
    html = formatted(text)
    assert time.process_time() - started < 2.0
    assert len(html) < 100 * MAX_FORMATTED
