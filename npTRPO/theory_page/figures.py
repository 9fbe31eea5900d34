"""The figures of the verification page: SVG by matplotlib, with colours that the page's style sheet sets."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npTRPO.theory.checks import Kind
from npTRPO.theory.report import Report, Row, drawn_instances
from npTRPO.theory.sweeps import TRAJECTORIES, cg_errors, gaps, lambda_sweep, remainder

if TYPE_CHECKING:
    from matplotlib.axes import Axes


DAMPINGS = (0.1, 0.01, 0.001)
"""λ of the systems whose conjugate gradients are drawn."""

# Both ends and the ticks of the histograms' axes, and what they show.
_AXES: dict[Kind, tuple[float, float, tuple[float, ...], str]] = {
    Kind.IDENTITY: (1e-17, 1e-7, (1e-16, 1e-12, 1e-8), "differences"),
    Kind.INEQUALITY: (1e-17, 10.0, (1e-16, 1e-8, 1.0), "slacks"),
    Kind.STATISTICAL: (0.0, 9.0, (0, 2, 4, 6, 8), "distances in standard errors"),
}
_BLUE, _RED, _GREEN, _QUIET = "#0a63a8", "#b84300", "#00724f", "#565e66"
_VARIABLES = {_BLUE: "blue", _RED: "red", _GREEN: "green", _QUIET: "quiet", "#dcdfe2": "rule"}
"""The style sheet's variables that take the place of the colours, which are light in dark schemes."""


def power_of_ten(exponent: int) -> str:
    """Return the power as text.

    Examples
    --------
    >>> power_of_ten(-12), power_of_ten(0)
    ('10⁻¹²', '1')
    """
    if exponent in (0, 1):
        return str(10**exponent)
    return f"10{str(exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def figure(number: str, report: Report) -> str:
    """Return the figure of an equation, one of :data:`FIGURES`, with its caption."""
    title, draw = FIGURES[number]
    captions: list[str] = []
    svg = _svg((4.6, 3.5), f"{number}-figure", title, lambda axes: captions.append(draw(axes, report)))
    return f"<figure>{svg}<figcaption>{escape(captions[0])}</figcaption></figure>"


def strip(row: Row) -> str:
    """Return a histogram of the measurements of all instances, with what is allowed of them as a red line.

    Values off the axis count at its ends; the line is drawn if it is on it. It is empty if there are none.
    """
    low, high, ticks, what = _AXES[row.check.kind]
    values, limit = {
        Kind.IDENTITY: (row.residuals, row.check.tolerance.value),
        Kind.INEQUALITY: (row.slacks, 0.0),
        Kind.STATISTICAL: (row.deviations, row.threshold),
    }[row.check.kind]
    compared = values[~np.isnan(values)]
    if not len(compared):
        return ""
    edges = np.geomspace(low, high, 37) if low else np.linspace(low, high, 37)
    counts, _ = np.histogram(np.clip(compared, low, high), edges)
    heights = np.where(counts, np.maximum(counts, 0.06 * counts.max()), 0)

    def draw(axes: Axes) -> None:
        axes.stairs(heights, edges, fill=True, color=_BLUE)
        if low <= limit <= high:
            axes.axvline(limit, color=_RED)
        axes.set(xscale="log" if low else "linear", xlim=(low, high), xticks=ticks, yticks=[])
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.grid(False)
        if low:
            _label_powers(axes.xaxis)

    title = f"How the {what} are spread over {len(compared)} instances"
    missing = len(values) - len(compared)
    note = f"<p>In {missing} of {len(values)} instances there was nothing to compare.</p>" if missing else ""
    return _svg((3.0, 0.6), f"{row.check.equation.number}-strip", title, draw) + note


def _svg(size: tuple[float, float], name: str, title: str, draw: Callable[[Axes], None]) -> str:
    """Return what ``draw`` draws as an element for the page, with ids that begin with ``name``."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    file = io.StringIO()
    with rc_context(fname=str(Path(__file__).with_name("figures.mplstyle"))):
        drawing = Figure(size, layout="constrained")
        draw(drawing.add_subplot())
        drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    view_box = re.search(r'viewBox="[^"]+"', svg)
    body = svg[svg.index("</metadata>") + len("</metadata>") : svg.index("</svg>")]
    body = re.sub(r"<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'(id="|href="#|url\(#)', rf"\1{name}-", body).replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    return f'<svg {view_box and view_box[0]} role="img" aria-label="{escape(title)}">{body}</svg>'


def _label_powers(axis: Any) -> None:
    """Label the ticks of a logarithmic axis with powers of ten, and leave out those in between."""
    axis.set_major_formatter(lambda x, _: power_of_ten(round(math.log10(x))))
    axis.minorticks_off()


def _log_axes(axes: Axes, x: tuple[float, float] | None, y: tuple[float, float]) -> None:
    """Make y logarithmic over a range, and x unless it is None."""
    axes.set(yscale="log", ylim=y)
    _label_powers(axes.yaxis)
    if x is not None:
        axes.set(xscale="log", xlim=x)
        _label_powers(axes.xaxis)


def _bounds(axes: Axes, report: Report) -> str:
    """E11, E13: draw both bounds over the true error, for every instance."""
    found = gaps(drawn_instances(max(report.instances, 100), report.seed))
    everything = np.concatenate([found.error, found.average, found.worst])
    ends = 10 ** np.floor(np.log10(np.min(everything))), 10 ** np.ceil(np.log10(np.max(everything)))
    _log_axes(axes, ends, ends)
    axes.plot(found.error, found.worst, "o", color=_RED, alpha=0.75, label="E11, by the worst state")
    axes.plot(found.error, found.average, "o", color=_BLUE, alpha=0.75, label="E13, on average")
    axes.plot(ends, ends, color=_QUIET, label="bound = error")
    axes.set(xlabel="true error |J(π′) − L(π′)|", ylabel="bound of it")
    axes.legend(loc="lower right")
    tighter = float(np.median(found.worst / found.average))
    return (
        f"All {2 * len(found.error)} dots lie above the diagonal, as a bound must, and each of E13 no higher "
        f"than that of E11: it is tighter by a factor of {tighter:.0f} in the median."
    )


def _remainders(axes: Axes, report: Report) -> str:
    """E20: draw remainders of the quadratic model over the length of the step, and their bounds."""
    curves = [remainder(np.random.default_rng((report.seed, 20, i))) for i in range(4)]
    low = 10 ** np.floor(np.log10(min(curve.measured[0] for curve in curves)))
    _log_axes(axes, (curves[0].at[0], curves[0].at[-1]), (low, 10.0))
    slopes = []
    for i, curve in enumerate(curves):
        axes.plot(curve.at, curve.bound, "--", color=_RED, label=None if i else "cubic bounds")
        axes.plot(curve.at, curve.measured, color=_BLUE, label=None if i else "remainders")
        small = curve.at <= 0.1
        slopes.append(np.polyfit(np.log(curve.at[small]), np.log(curve.measured[small]), 1)[0])
    axes.plot([0.1, 1.0], [low * 10, low * 1e4], color=_QUIET, label="slope 3")
    axes.set(xlabel="length of the step ‖Δ‖", ylabel="|KL − ½ΔᵀFΔ| in nats")
    axes.legend(loc="upper left")
    return (
        f"{len(curves)} softmax policies, a random direction each. On logarithmic axes the remainders rise "
        f"with slopes from {min(slopes):.3f} to {max(slopes):.3f} (fitted up to ‖Δ‖ = 0.1): the model is "
        "right to second order. None exceeds its bound ∑ν(s)R(s)³ / 36√3, with R the range by which Δ moves "
        "the logits."
    )


def _conjugate_gradients(axes: Axes, report: Report) -> str:
    """E36: draw the errors of conjugate gradients over the steps, and their bounds."""
    _log_axes(axes, None, (1e-10, 10.0))
    for damping, colour in zip(DAMPINGS, (_GREEN, _BLUE, _RED), strict=True):
        curve = cg_errors(np.random.default_rng((report.seed, 36)), damping)
        axes.plot(curve.at, curve.bound, "--", color=colour)
        axes.plot(curve.at, curve.measured, "o-", color=colour, label=f"κ = {curve.parameter:.0f}")
    axes.set(xlabel="steps of conjugate gradients", ylabel="error in the H-norm")
    axes.legend(loc="lower left")
    dampings = ", ".join(f"{damping:g}" for damping in DAMPINGS)
    return (
        "Errors (dots) and their bounds (dashed) relative to the first error, on H = F + λI of one policy "
        f"with λ = {dampings}. The smaller the condition number κ, the faster; and always faster than "
        "promised, as the bound knows only the largest and the smallest eigenvalue."
    )


def _advantages(axes: Axes, report: Report) -> str:
    """E41, E43: draw bias and variance of estimated advantages over λ."""
    exact, sampled = lambda_sweep(np.random.default_rng((report.seed, 43)))
    total = exact.bias + exact.variance
    axes.plot(exact.lambdas, total, color=_QUIET, label="their sum")
    for colour, label, curve, dots in (
        (_RED, "bias²", exact.bias, sampled.bias),
        (_BLUE, "variance", exact.variance, sampled.variance),
    ):
        axes.plot(exact.lambdas, curve, color=colour, label=label)
        axes.plot(sampled.lambdas, dots, "o", color=colour)
    axes.set(xlabel="λ", ylabel="squared error of Â", xlim=(-0.02, 1.02), ylim=(0, None))
    axes.legend(loc="upper center")
    best = float(exact.lambdas[np.argmin(total)])
    return (
        "On a deterministic MDP, with a V that is wrong. Towards λ = 1 the bias vanishes and the variance "
        f"grows; their sum is least at λ = {best:.2f}. Curves are exact, by linear systems; dots are gae() "
        f"on {TRAJECTORIES:,} simulated trajectories. Bias here is what differs between actions: the rest "
        "moves no gradient."
    )


FIGURES: dict[str, tuple[str, Callable[[Axes, Report], str]]] = {
    "E13": ("The bounds of E11 and E13 against the true error of the surrogate", _bounds),
    "E20": ("The remainder of the quadratic model of KL over the length of the step", _remainders),
    "E36": ("The error of conjugate gradients over its steps, and Chebyshev's bound", _conjugate_gradients),
    "E43": ("Bias and variance of generalized advantage estimation over λ", _advantages),
}
"""Titles of the figures, and the functions that draw them and return their captions, by equation."""
