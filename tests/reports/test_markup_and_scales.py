import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.reports.markup import label, plain, table, tag, text
from plaudit.reports.scales import Range, duration, nice_range, nice_ticks, number, percent, tick_label


def test_model_text_is_shown_and_never_run():
    shown = text("<script>alert(1)</script> & \"quotes\" 'too'")
    assert "<" not in shown
    assert shown.startswith("&lt;script&gt;")
    assert "&quot;quotes&quot;" in shown


@pytest.mark.parametrize(
    "c", ["\x00", "\x1b", "\x7f", "\x85", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\ud800"]
)
def test_characters_that_hide_or_reorder_are_spelt_out(c):
    assert c not in text(f"a{c}b")
    assert f"U+{ord(c):04X}" in text(f"a{c}b")
    assert f"⟨U+{ord(c):04X}⟩" in plain(c)


def test_ordinary_text_stays_as_it_is():
    ordinary = "Grüße, 你好, नमस्ते, 👩\u200d👩\u200d👧, نم\u200cی\u200cخواهم\nnew line\ttab"
    assert text(ordinary) == ordinary


@given(st.text(st.characters()))
def test_any_text_is_safe_to_write(value):
    for shown in (text(value), label(value), tag("p", text(value), title=value)):
        shown.encode("utf-8")  # no lone surrogate is left
    assert "<" not in label(value)
    assert '"' not in plain(value).replace('"', "") + label(value)


def test_attributes_cannot_be_left():
    assert tag("p", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;"></p>'


def test_tables_have_headers_and_a_caption():
    shown = table("What it is", ["Run", "Value"], [[text("ppo"), text("1")]], numeric=[1])
    assert "<caption>What it is</caption>" in shown
    assert '<th scope="col">Run</th>' in shown
    assert '<th scope="row">ppo</th>' in shown


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9))
def test_ticks_are_round_few_and_inside(low, span):
    bounds = Range(low, low + max(span, abs(low) * 1e-6))
    ticks = nice_ticks(bounds)
    assert len(ticks) <= 11
    assert all(bounds.low - 1e-6 * bounds.span <= t <= bounds.high + 1e-6 * bounds.span for t in ticks)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_the_range_holds_the_data_and_has_ticks_at_both_ends(values):
    bounds = nice_range(values)
    rounding = 1e-8 * bounds.span
    assert bounds.low - rounding <= min(values) <= max(values) <= bounds.high + rounding
    assert len(nice_ticks(bounds)) >= 2


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (-0.8312, "−0.831"),
        (12.345, "12.3"),
        (999.7, "1000"),
        (123456.0, "123,456"),
        (1e-5, "1e−5"),
        (0.0123, "0.0123"),
        (math.nan, "not a number"),
    ],
)
def test_numbers(value, written):
    assert number(value) == written


def test_units():
    assert percent(0.7119) == "71.2\u00a0%"
    assert [duration(s) for s in (0.42, 38, 725, 12_000)] == ["0.420 s", "38 s", "12 min 5 s", "3 h 20 min"]
    assert [tick_label(t, [0.0, 0.05, 0.1]) for t in (0.0, 0.05)] == ["0", "0.05"]
