import math
import re
from xml.etree import ElementTree

from plaudit.reports.bars import bars
from plaudit.reports.figures import Figure
from plaudit.reports.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Dots, Line, Mark, draw
from plaudit.reports.scales import Range

HOSTILE = "<b>\u202e&\"'"


def tree(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(figure)


def path_of(figure: str, class_: str) -> list[tuple[float, float]]:
    found = next(
        e for e in tree(figure).iter("path") if e.get("class") == class_ and not e.get("d", "").startswith("M1 6")
    )
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", found.get("d", ""))]


def test_a_line_is_drawn_where_its_numbers_are():
    chart = Chart("t", "x", "y", [Line("a", [(0, 0), (5, 1), (10, 2)])], x_bounds=Range(0, 10), y_bounds=Range(0, 2))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    middle = ((LEFT + right) / 2, (TOP + bottom) / 2)
    assert path_of(draw(chart), "line tone-0") == [(LEFT, bottom), middle, (right, TOP)]


def test_the_drawing_is_well_formed_and_has_a_text_alternative_whatever_the_names():
    lines = [Line(HOSTILE, [(0, 1), (1, 2)], band=[(0.5, 1.5), (1.5, 2.5)]), Dots(HOSTILE, [(0, 1)], 1, [(0.5, 1.5)])]
    shown = draw(Chart(HOSTILE, HOSTILE, HOSTILE, lines, [Mark(HOSTILE, 0.5), Mark(HOSTILE, 1.0, vertical=False)]))
    root = tree(shown)
    svg = next(e for e in root.iter("svg") if e.get("role") == "img")
    assert svg.find("title") is not None
    assert "lowest 1.00 at 0, highest 2.00 at 1.00" in svg.get("aria-label", "")
    # inside SVG an HTML element would end the drawing
    assert not any(e.tag in ("span", "b", "p") for e in svg.iter())


def test_values_that_are_not_finite_leave_a_gap_and_are_counted():
    shown = draw(Chart("t", "x", "y", [Line("a", [(0, 1), (1, math.nan), (2, 1), (3, 1)])]))
    assert "1 value is not finite" in shown
    assert re.search(r'd="M[\d. ]+M[\d. ]+L[\d. ]+" class="line tone-0"', shown)


def test_an_empty_chart_is_nothing():
    assert draw(Chart("t", "x", "y", [Line("a", []), Line("b", [(0, math.inf)])])) == ""


def test_one_point_and_equal_values_are_drawn():
    assert "<circle" in draw(Chart("t", "x", "y", [Line("a", [(3, 7.0)])]))
    assert "<path" in draw(Chart("t", "x", "y", [Line("a", [(0, 2.0), (1, 2.0)])]))


def test_long_curves_are_thinned_to_bin_means_within_their_range():
    points = [(float(i), float(i % 2)) for i in range(10_000)]
    shown = draw(Chart("t", "x", "y", [Line("a", points)], y_bounds=Range(0, 1)))
    drawn = path_of(shown, "line tone-0")
    assert len(drawn) <= 80
    middle = (TOP + HEIGHT - BOTTOM) / 2
    assert all(abs(y - middle) < 2 for _, y in drawn)
    assert "Means of 125 steps" in shown
    assert len(shown) < 12_000


def test_bars_start_at_their_zero():
    shown = tree(bars("t", "share", [("model", Figure(0.75, 0.7, 0.8)), ("rule", Figure(0.25))], share=True, zero=0.5))
    first, second = (e for e in shown.iter("rect"))
    assert float(first.get("x", "")) == float(second.get("x", "")) + float(second.get("width", ""))
    assert first.get("width") == second.get("width")
    assert "model: 75.0\u00a0% (70.0 to 80.0)." in next(e for e in shown.iter("desc")).text
