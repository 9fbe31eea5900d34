import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from npTRPO.theory import Report, verify
from npTRPO.theory.derivation import CHECKS
from npTRPO.theory.report import Row
from npTRPO.theory_page.figures import FIGURES, figure, strip

pytest.importorskip("matplotlib", reason="drawing needs an extra")


@pytest.fixture(scope="module")
def reports():
    """Of two seeds, and nothing measured: figures draw their own."""
    return [Report((), 40, seed, 0.0) for seed in range(2)]


@pytest.mark.parametrize("number", FIGURES)
def test_every_mark_of_a_figure_lies_within_it_and_its_caption_says_what_is_to_be_seen(number, reports):
    element = ET.fromstring(figure(number, reports[0]))
    [svg], [caption] = element.findall("svg"), element.findall("figcaption")
    assert len(caption.text or "") > 80
    assert svg.get("aria-label") == FIGURES[number][0]
    _, _, width, height = (float(x) for x in str(svg.get("viewBox")).split())
    dots = [(float(use.get("x", 0)), float(use.get("y", 0))) for use in svg.iter("use")]
    assert len(dots) > 10
    assert all(0 <= x <= width and 0 <= y <= height for x, y in dots)


@pytest.mark.parametrize(
    "number",
    ["E36", *(pytest.param(number, marks=pytest.mark.slow) for number in FIGURES if number != "E36")],
)
def test_a_figure_is_the_same_for_the_same_seed_and_another_for_another(number, reports):
    assert figure(number, reports[0]) == figure(number, reports[0]) != figure(number, reports[1])


def test_the_fitted_slopes_of_the_remainder_are_near_to_three(reports):
    slopes = re.findall(r"slopes from ([\d.]+) to ([\d.]+)", figure("E20", reports[0]))
    assert all(abs(float(slope) - 3) < 0.05 for slope in slopes[0])


def test_a_histogram_counts_values_off_the_axis_at_its_ends_and_marks_what_is_allowed():
    row = Row(CHECKS[0], np.array([0.0, 0.0, 1e-10, np.inf, np.nan]), np.array([]), np.array([]), 0)
    drawn = strip(row)
    assert "spread over 4 instances" in drawn
    assert "In 1 of 5 instances there was nothing to compare." in drawn
    assert drawn.count("var(--red)") == 1
    [path] = re.findall(r'<path d="([^"]+)"[^>]*style="fill: var\(--blue\)"', drawn)
    heights = {float(y) for y in re.findall(r"L [\d.]+ ([\d.]+)", path)}
    assert len(heights) == 3  # none, one and two
    assert "var(--red)" not in strip(Row(CHECKS[1], row.residuals, row.slacks, np.array([1.0]), 10**99))


def test_without_measurements_there_is_no_histogram():
    assert strip(verify(1, checks=[]).rows or Row(CHECKS[0], *3 * (np.array([np.nan]),), 0)) == ""
