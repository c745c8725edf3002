"""Plots of statistics: they show the figures, and names in them are inert."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from plaudit.core.records import user_prompt
from plaudit.feedback.quality.report import Quality, report
from plaudit.feedback.simulation.planted import judge_all, planted_labelers
from plaudit.web.quality_plots import (
    agreement_of_labelers,
    agreement_of_pairs,
    bias_effects,
    drift_charts,
    ties_of_labelers,
)

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def quality() -> Quality:
    generator = random.Random(0)
    items = [
        (
            user_prompt(f"p{n}"),
            [f"quality {generator.gauss(0, 1):.3f} " + "word " * generator.randint(5, 40) for _ in "abc"],
        )
        for n in range(40)
    ]
    labelers = planted_labelers(preference=lambda _, text: float(text.split()[1]))
    hostile = replace(labelers[0], labeler=replace(labelers[0].labeler, name=HOSTILE))
    return report(judge_all((hostile, *labelers[1:]), items, 0))[0]


def test_every_plot_is_well_formed_and_inert(quality):
    plots = [agreement_of_labelers(quality), ties_of_labelers(quality), agreement_of_pairs(quality)]
    plots += drift_charts(quality)
    plots += [bias_effects(quality, probe) for probe in ("position", "length", "speed")]
    assert len(plots) == 9
    for plot in plots:
        assert plot.startswith("<figure>")
        ET.fromstring(plot)
        assert "<script" not in plot
        assert " style=" not in plot


def test_plots_say_their_numbers(quality):
    card = next(card for card in quality.labelers if card.labeler == "inverted")
    assert f"inverted: {100 * (card.majority.value or 0):.1f}" in agreement_of_labelers(quality)
    pair = next(pair for pair in quality.labeler_pairs if {pair.first, pair.second} == {"careful-2", "careful-3"})
    assert f"{pair.first} and {pair.second}: {100 * (pair.strict.value or 0):.1f}" in agreement_of_pairs(quality)


def test_a_probe_without_figures_draws_nothing(quality):
    assert bias_effects(quality, "bold") == ""
