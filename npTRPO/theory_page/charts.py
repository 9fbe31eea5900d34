"""Small charts as SVG, to stand in a page: their colours are classes, which the page's style sheet fills."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np

from npTRPO._typing import Array

__all__ = ["Axis", "Chart", "power_of_ten"]

Anchor = Literal["start", "middle", "end"]
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(exponent: int) -> str:
    """The power as text.

    Examples
    --------
    >>> power_of_ten(-12), power_of_ten(0)
    ('10⁻¹²', '1')
    """
    if exponent in (0, 1):
        return str(10**exponent)
    return f"10{str(exponent).translate(_SUPERSCRIPTS)}"


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high``.

    Attributes
    ----------
    label : str
        What it shows, with units.
    low, high : float
        Its ends.
    ticks : tuple of float
        Where it has lines and numbers.
    log : bool
        Whether it is logarithmic.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    @classmethod
    def decades(cls, label: str, low: float, high: float, every: int = 1) -> Axis:
        """A logarithmic axis with ticks at powers of ten, at every one or every so-manieth."""
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        return cls(label, low, high, tuple(10.0**k for k in range(first, last + 1, every)), log=True)

    @classmethod
    def from_zero(cls, label: str, largest: float) -> Axis:
        """A linear axis from 0 to the first tick above ``largest``, with four to ten ticks."""
        step = 10.0 ** math.floor(math.log10(largest / 2))
        step *= next(factor for factor in (1, 2, 5) if largest / (factor * step) <= 8)
        count = math.floor(largest / step) + 1
        return cls(label, 0.0, count * step, tuple(i * step for i in range(count + 1)))

    def fractions(self, values: Array) -> Array:
        """Where values lie along the axis: 0 at its low end and 1 at its high end."""
        ends, values = np.array([self.low, self.high]), np.asarray(values, dtype=float)
        if self.log:
            with np.errstate(divide="ignore"):
                ends, values = np.log(ends), np.log(values)
        fractions: Array = (values - ends[0]) / (ends[1] - ends[0])
        return fractions

    def words(self, tick: float) -> str:
        """A tick's number."""
        return power_of_ten(round(math.log10(tick))) if self.log else f"{tick:g}".replace("-", "−")


class Chart:
    """Marks on a pair of axes.

    Parameters
    ----------
    x, y : Axis
    width, height : float
        In units of the picture, which is scaled as a whole; letters are 11 high.

    Examples
    --------
    >>> import numpy as np
    >>> chart = Chart(Axis("x", 0, 1, (0, 1)), Axis("y", 0, 1, (0, 1)))
    >>> chart.line(np.array([0, 1]), np.array([0, 1]), "blue")
    >>> chart.svg("a-chart", "A diagonal", "It rises from 0 to 1.").startswith("<svg")
    True
    """

    LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 40.0

    def __init__(self, x: Axis, y: Axis, width: float = 360.0, height: float = 260.0) -> None:
        self.x, self.y = x, y
        self.width, self.height = width, height
        self.marks: list[str] = []

    def line(self, xs: Array, ys: Array, style: str) -> None:
        """A curve through those of the points that lie within the axes; ``style`` is its class."""
        points = self._points(xs, ys)
        if len(points):
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            self.marks.append(f'<path class="curve {style}" d="M{path}"/>')

    def dots(self, xs: Array, ys: Array, style: str, radius: float = 2.2) -> None:
        """A disc for each of those of the points that lie within the axes."""
        discs = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>' for x, y in self._points(xs, ys)
        )
        self.marks.append(f'<g class="dots {style}">{discs}</g>')

    def write(self, x: float, y: float, words: str, style: str, anchor: Anchor = "start") -> None:
        """Words at a point within the axes, which take the place of a legend."""
        u, v = (float(axis.fractions(np.array(at))) for axis, at in ((self.x, x), (self.y, y)))
        self.note(u, v, words, style, anchor)

    def note(self, u: float, v: float, words: str, style: str, anchor: Anchor = "start") -> None:
        """Words at fractions of the width and of the height of what the axes span."""
        left = self.LEFT + u * (self.width - self.LEFT - self.RIGHT)
        top = self.TOP + (1 - v) * (self.height - self.TOP - self.BOTTOM)
        place = f'x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}"'
        self.marks.append(f'<text class="{style}" {place}>{escape(words)}</text>')

    def svg(self, name: str, title: str, description: str) -> str:
        """The chart as an element; ``name`` makes ids, and the texts are for who can't see it."""
        return (
            f'<svg class="chart" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-labelledby="{name}-title {name}-description">'
            f'<title id="{name}-title">{escape(title)}</title>'
            f'<desc id="{name}-description">{escape(description)}</desc>'
            f"{self._frame()}{''.join(self.marks)}</svg>"
        )

    def _frame(self) -> str:
        """Grid lines, numbers and labels."""
        right, bottom = self.width - self.RIGHT, self.height - self.BOTTOM
        parts = []
        along_x = self._spots(self.x.ticks, np.full(len(self.x.ticks), self.y.low))
        along_y = self._spots(np.full(len(self.y.ticks), self.x.low), self.y.ticks)
        for tick, (x, _) in zip(self.x.ticks, along_x, strict=True):
            parts.append(f'<path class="grid" d="M{x:.1f} {self.TOP:g}V{bottom:g}"/>')
            parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 14:g}">{self.x.words(tick)}</text>')
        for tick, (_, y) in zip(self.y.ticks, along_y, strict=True):
            parts.append(f'<path class="grid" d="M{self.LEFT:g} {y:.1f}H{right:g}"/>')
            parts.append(
                f'<text class="tick side" x="{self.LEFT - 6:g}" y="{y + 3.5:.1f}">{self.y.words(tick)}</text>'
            )
        middle, centre = (self.LEFT + right) / 2, (self.TOP + bottom) / 2
        parts.append(
            f'<text class="axis" x="{middle:g}" y="{self.height - 6:g}">{escape(self.x.label)}</text>'
            f'<text class="axis" transform="translate(11 {centre:g}) rotate(-90)">'
            f"{escape(self.y.label)}</text>"
        )
        return "".join(parts)

    def _spots(self, xs: Sequence[float] | Array, ys: Sequence[float] | Array) -> list[tuple[float, float]]:
        across = self.x.fractions(np.asarray(xs)) * (self.width - self.LEFT - self.RIGHT) + self.LEFT
        down = (1 - self.y.fractions(np.asarray(ys))) * (self.height - self.TOP - self.BOTTOM) + self.TOP
        return list(zip(across.tolist(), down.tolist(), strict=True))

    def _points(self, xs: Array, ys: Array) -> list[tuple[float, float]]:
        """Coordinates in the picture of those of the points that lie within the axes."""
        u, v = self.x.fractions(xs), self.y.fractions(ys)
        inside = (u >= -1e-9) & (u <= 1 + 1e-9) & (v >= -1e-9) & (v <= 1 + 1e-9)
        return self._spots(np.asarray(xs)[inside], np.asarray(ys)[inside])


def strip(axis: Axis, values: Array, limit: float, name: str, description: str) -> str:
    """How often values occur along an axis, and what is allowed of them, as an element of two lines' height.

    Values off the axis count at its ends; the limit is drawn if it is on it.
    """
    left, width, top, bottom, bins = 6.0, 248.0, 2.0, 28.0, 36
    fractions = np.clip(axis.fractions(values), 0, 1 - 1e-9)
    counts = np.bincount((fractions * bins).astype(int), minlength=bins)
    tallest, step = max(1, int(counts.max())), width / bins
    parts = [f'<path class="grid" d="M{left:g} {bottom:g}h{width:g}"/>']
    bars = ""
    for i, count in enumerate(counts.tolist()):
        if count:
            x, height = left + i * step + 0.5, max(1.5, count / tallest * (bottom - top))
            bars += f"M{x:.1f} {bottom:g}v{-height:.1f}h{step - 1:.1f}V{bottom:g}z"
    parts.append(f'<path class="bars" d="{bars}"/>')
    for tick, x in zip(axis.ticks, left + axis.fractions(np.array(axis.ticks)) * width, strict=True):
        parts.append(f'<path class="grid" d="M{x:.1f} {bottom:g}v3"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 14:g}">{axis.words(tick)}</text>')
    if axis.low <= limit <= axis.high:
        x = left + float(axis.fractions(np.array(limit))) * width
        parts.append(f'<path class="limit" d="M{x:.1f} 0V{bottom + 3:g}"/>')
    return (
        f'<svg class="strip" viewBox="0 0 {width + 2 * left:g} 47" role="img" aria-labelledby="{name}-strip">'
        f'<title id="{name}-strip">{escape(description)}</title>{"".join(parts)}</svg>'
    )
