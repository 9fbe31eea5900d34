import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from npTRPO.theory.report import drawn_instances
from npTRPO.theory_page import figures
from npTRPO.theory_page.figures import Figure

DRAWN: dict[str, Callable[[int], Figure]] = {
    "bounds": lambda seed: figures.draw_bounds(drawn_instances(40, seed)),
    "remainders": figures.draw_remainders,
    "conjugate gradients": figures.draw_conjugate_gradients,
    "advantages": figures.draw_advantages,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", DRAWN)
def test_every_mark_of_a_figure_lies_within_it(name: str, seed: int) -> None:
    root = ET.fromstring(DRAWN[name](seed).svg)
    _, _, width, height = (float(number) for number in str(root.get("viewBox")).split())
    points = [(float(mark.get("cx", 0)), float(mark.get("cy", 0))) for mark in root.iter("circle")]
    for path in root.iter("path"):
        if "curve" in str(path.get("class")):
            numbers = [float(number) for number in re.findall(r"[\d.]+", str(path.get("d")))]
            points += list(zip(numbers[::2], numbers[1::2], strict=True))
    for text in root.iter("text"):
        if text.get("transform") is None:
            points.append((float(text.get("x", -1)), float(text.get("y", -1))))
    assert len(points) > 50
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_the_same_for_the_same_seed_and_another_for_another(name: str) -> None:
    assert DRAWN[name](0) == DRAWN[name](0) != DRAWN[name](1)


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_says_in_words_what_is_to_be_seen(name: str) -> None:
    figure = DRAWN[name](0)
    root = ET.fromstring(figure.svg)
    assert [text.text for text in root.iter("desc")] == [figure.caption]
    assert len(figure.caption) > 80


def test_the_fitted_slopes_of_the_remainder_are_near_to_three() -> None:
    slopes = re.findall(r"slopes from ([\d.]+) to ([\d.]+)", figures.draw_remainders(0).caption)
    assert all(abs(float(slope) - 3) < 0.05 for slope in slopes[0])
