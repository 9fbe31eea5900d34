"""The figures of the verification page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.instances import Instance
from npTRPO.theory.sweeps import TRAJECTORIES, Curve, cg_errors, gaps, lambda_sweep, remainder
from npTRPO.theory_page.charts import Axis, Chart

__all__ = ["Figure", "draw_advantages", "draw_bounds", "draw_conjugate_gradients", "draw_remainders"]

DAMPINGS = (0.1, 0.01, 0.001)
"""λ of the systems whose conjugate gradients are drawn."""


@dataclass(frozen=True)
class Figure:
    """A chart for the page.

    Attributes
    ----------
    svg : str
        The chart as an element.
    caption : str
        What is to be seen.
    """

    svg: str
    caption: str


def draw_bounds(instances: Iterable[Instance]) -> Figure:
    """E11, E13: both bounds over the true error, for every instance."""
    found = gaps(instances)
    everything = np.concatenate([found.error, found.average, found.worst])
    low, high = _decades(everything)
    chart = Chart(
        Axis.decades("true error |J(π′) − L(π′)|", low, high, every=2),
        Axis.decades("bound of it", low, high, every=2),
    )
    ends = np.array([low, high])
    chart.line(ends, ends, "plain")
    chart.dots(found.error, found.worst, "red")
    chart.dots(found.error, found.average, "blue")
    chart.note(0.97, 0.13, "E11, by the worst state", "red", "end")
    chart.note(0.97, 0.06, "E13, on average", "blue", "end")
    chart.note(0.6, 0.52, "bound = error", "plain")
    tighter = float(np.median(found.worst / found.average))
    title = "The bounds of E11 and E13 against the true error of the surrogate"
    seen = (
        f"All {2 * len(found.error)} dots lie above the diagonal, as a bound must, and each of E13 no higher "
        f"than that of E11: it is tighter by a factor of {tighter:.0f} in the median."
    )
    return Figure(chart.svg("bounds", title, seen), seen)


def draw_remainders(seed: int) -> Figure:
    """E20: remainders over the length of the step."""
    curves = [remainder(np.random.default_rng((seed, 20, i))) for i in range(4)]
    low, _ = _decades(np.concatenate([curve.measured[:1] for curve in curves]))
    chart = Chart(
        Axis.decades("length of the step ‖Δ‖", float(curves[0].at[0]), float(curves[0].at[-1])),
        Axis.decades("|KL − ½ΔᵀFΔ| in nats", low, 10.0, every=2),
    )
    for curve in curves:
        chart.line(curve.at, curve.bound, "red dashed")
    for curve in curves:
        chart.line(curve.at, curve.measured, "blue")
    slopes = [_slope(curve) for curve in curves]
    chart.line(np.array([0.1, 1.0]), np.array([low * 10, low * 1e4]), "plain")
    chart.write(0.5, low * 300, "slope 3", "plain")
    chart.note(0.03, 0.92, "cubic bounds", "red")
    chart.note(0.03, 0.85, "remainders", "blue")
    title = "The remainder of the quadratic model of KL over the length of the step"
    seen = (
        f"{len(curves)} softmax policies, a random direction each. On logarithmic axes the remainders rise "
        f"with slopes from {min(slopes):.3f} to {max(slopes):.3f} (fitted up to ‖Δ‖ = 0.1): the model is "
        "right to second order. None exceeds its bound ∑ν(s)R(s)³ / 36√3, with R the range by which Δ moves "
        "the logits."
    )
    return Figure(chart.svg("remainder", title, seen), seen)


def _slope(curve: Curve) -> float:
    small = curve.at <= 0.1
    return float(np.polyfit(np.log(curve.at[small]), np.log(curve.measured[small]), 1)[0])


def draw_conjugate_gradients(seed: int) -> Figure:
    """E36: errors over the steps."""
    curves = [cg_errors(np.random.default_rng((seed, 36)), damping) for damping in DAMPINGS]
    steps = float(max(curve.at[-1] for curve in curves))
    chart = Chart(
        Axis("steps of conjugate gradients", 0.0, steps, tuple(np.arange(0.0, steps + 1, 4))),
        Axis.decades("error in the H-norm", 1e-10, 10.0, every=2),
    )
    for curve, style in zip(curves, ("green", "blue", "red"), strict=True):
        chart.line(curve.at, curve.bound, f"{style} dashed")
        chart.line(curve.at, curve.measured, style)
        chart.dots(curve.at, curve.measured, style, radius=1.8)
        k = int(0.7 * np.flatnonzero(curve.measured > 1e-10)[-1])
        words, slowest = f"κ = {curve.parameter:.0f}", curve is curves[-1]
        if slowest:
            chart.write(k - 0.3, float(curve.measured[k]) / 20, words, style, "end")
        else:
            chart.write(k + 0.5, float(curve.measured[k]) * 2, words, style)
    title = "The error of conjugate gradients over its steps, and Chebyshev's bound"
    dampings = ", ".join(f"{damping:g}" for damping in DAMPINGS)
    seen = (
        "Errors (dots) and their bounds (dashed) relative to the first error, on H = F + λI of one policy "
        f"with λ = {dampings}. The smaller the condition number κ, the faster; and always faster than "
        "promised, as the bound knows only the largest and the smallest eigenvalue."
    )
    return Figure(chart.svg("cg", title, seen), seen)


def draw_advantages(seed: int) -> Figure:
    """E41, E43: bias and variance over λ."""
    exact, sampled = lambda_sweep(np.random.default_rng((seed, 43)))
    total = exact.bias + exact.variance
    chart = Chart(
        Axis("λ", 0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        Axis.from_zero("squared error of Â", float(np.max(total))),
    )
    for sweep, mark in ((exact, chart.line), (sampled, chart.dots)):
        mark(sweep.lambdas, sweep.bias, "red")
        mark(sweep.lambdas, sweep.variance, "blue")
    chart.line(exact.lambdas, total, "plain")
    for i, (words, style) in enumerate((("their sum", "plain"), ("bias²", "red"), ("variance", "blue"))):
        chart.note(0.5, 0.92 - 0.07 * i, words, style, "middle")
    best = float(exact.lambdas[np.argmin(total)])
    title = "Bias and variance of generalized advantage estimation over λ"
    seen = (
        "On a deterministic MDP, with a V that is wrong. Towards λ = 1 the bias vanishes and the variance "
        f"grows; their sum is least at λ = {best:.2f}. Curves are exact, by linear systems; dots are gae() "
        f"on {TRAJECTORIES:,} simulated trajectories. Bias here is what differs between actions: the rest "
        "moves no gradient."
    )
    return Figure(chart.svg("lambda", title, seen), seen)


def _decades(values: Array) -> tuple[float, float]:
    """The powers of ten around positive values."""
    exponents = np.log10(values)
    return float(10 ** np.floor(np.min(exponents))), float(10 ** np.ceil(np.max(exponents)))
