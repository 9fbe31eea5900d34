import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO.theory_page.charts import Axis, Chart, power_of_ten, strip


@pytest.fixture
def chart() -> Chart:
    return Chart(Axis("x", 0.0, 10.0, (0, 5, 10)), Axis.decades("y", 1e-3, 10.0))


def drawn(chart: Chart) -> ET.Element:
    return ET.fromstring(chart.svg("a", "Title & more", "Description"))


@pytest.mark.parametrize(("exponent", "words"), [(-12, "10⁻¹²"), (0, "1"), (1, "10"), (3, "10³")])
def test_powers_of_ten_are_written_as_one_reads_them(exponent: int, words: str) -> None:
    assert power_of_ten(exponent) == words


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    axis = Axis.decades("y", 1e-3, 1e3, every=2)
    np.testing.assert_allclose(axis.fractions(np.array([1e-3, 1.0, 1e3])), [0, 0.5, 1], rtol=1e-15)
    np.testing.assert_allclose(axis.ticks, (1e-3, 1e-1, 1e1, 1e3), rtol=1e-15)
    assert [axis.words(tick) for tick in axis.ticks] == ["10⁻³", "10⁻¹", "10", "10³"]


def test_what_is_not_positive_lies_below_a_logarithmic_axis() -> None:
    assert Axis.decades("y", 1e-3, 1.0).fractions(np.array([0.0]))[0] == -np.inf


@given(st.floats(1e-2, 1e4))
def test_an_axis_from_zero_holds_the_largest_value_with_few_ticks(largest: float) -> None:
    axis = Axis.from_zero("y", largest)
    assert axis.low == 0 < largest < axis.high <= 2 * largest
    assert 4 <= len(axis.ticks) <= 10
    assert axis.ticks[-1] == axis.high
    assert all(len(axis.words(tick)) <= 6 for tick in axis.ticks)


def test_a_line_and_dots_leave_out_what_lies_off_the_axes(chart: Chart) -> None:
    xs, ys = np.array([-1.0, 0.0, 10.0, 5.0, np.nan]), np.array([1.0, 1e-3, 10.0, 0.0, 1.0])
    chart.line(xs, ys, "blue")
    chart.dots(xs, ys, "red")
    path, group = chart.marks
    left, right = f"{chart.LEFT:.1f}", f"{chart.width - chart.RIGHT:.1f}"
    top, bottom = f"{chart.TOP:.1f}", f"{chart.height - chart.BOTTOM:.1f}"
    assert f'd="M{left} {bottom}L{right} {top}"' in path
    assert group.count("<circle") == 2


def test_a_line_without_points_draws_nothing(chart: Chart) -> None:
    chart.line(np.array([20.0]), np.array([1.0]), "blue")
    assert chart.marks == []


def test_words_stand_where_they_are_told_to(chart: Chart) -> None:
    chart.write(5.0, 0.1, "a < b", "blue")
    chart.note(0.5, 0.5, "middle", "red", "end")
    at_point, at_fraction = (ET.fromstring(mark) for mark in chart.marks)
    assert at_point.text == "a < b"
    assert at_point.get("text-anchor") == "start"
    assert at_fraction.get("text-anchor") == "end"
    assert (at_point.get("x"), at_point.get("y")) == (at_fraction.get("x"), at_fraction.get("y"))


def test_a_chart_tells_its_title_and_description_and_labels_its_axes(chart: Chart) -> None:
    root = drawn(chart)
    ids = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    assert [ids[name] for name in str(root.get("aria-labelledby")).split()] == ["Title & more", "Description"]
    assert root.get("role") == "img"
    words = [element.text for element in root.iter("text")]
    assert words == ["0", "5", "10", "10⁻³", "10⁻²", "10⁻¹", "1", "10", "x", "y"]


def bars(element: str) -> list[float]:
    """Heights of the bars of a strip."""
    [path] = re.findall(r'class="bars" d="([^"]+)"', element)
    return [float(height) for height in re.findall(r"v-([\d.]+)", path)]


def test_a_strip_counts_everything_and_marks_what_is_allowed() -> None:
    axis = Axis("", 1e-16, 1e-7, (1e-12,), log=True)
    values = np.array([1e-16, 1e-16, 1e-10, np.inf])
    element = strip(axis, values, 1e-12, "E1", "Differences & more")
    assert bars(element) == [26.0, 13.0, 13.0]
    assert element.count('class="limit"') == 1
    root = ET.fromstring(element)
    assert [title.text for title in root.iter("title")] == ["Differences & more"]
    assert [text.text for text in root.iter("text")] == ["10⁻¹²"]


def test_a_limit_off_the_axis_is_not_drawn() -> None:
    assert "limit" not in strip(Axis("", 1e-16, 1e-7, (), log=True), np.array([1e-9]), 0.0, "E1", "words")
