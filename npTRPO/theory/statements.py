"""What a numbered equation of the derivation is: its words, its formula, and how it is measured.

A statement is measured on a :class:`~npTRPO.theory.cases.Case` by a function that returns comparisons,
each of which holds both sides: :class:`Equal`, :class:`AtMost` or :class:`Estimate`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from npTRPO.theory.equations import EQUATIONS

if TYPE_CHECKING:
    from npTRPO.theory.cases import Case

__all__ = [
    "COUNTED",
    "DIFFERENCES",
    "KRYLOV",
    "ROUNDING",
    "SOLVED",
    "AtMost",
    "Comparison",
    "Equal",
    "Estimate",
    "Kind",
    "Statement",
    "Tolerance",
    "registered",
    "states",
    "threshold",
]


class Kind(enum.Enum):
    """How a statement can be true."""

    IDENTITY = "identity"
    INEQUALITY = "inequality"
    STATISTICAL = "statistical"


@dataclass(frozen=True, eq=False)
class Equal:
    """Two computations of the same thing.

    Attributes
    ----------
    left, right : float or array
    scale : float
        Size of what was subtracted on the way, if that is larger than the results.
    """

    left: Any
    right: Any
    scale: float = 0.0

    @property
    def residual(self) -> float:
        """Largest difference, relative to the largest magnitude compared; infinite if there is a NaN."""
        with np.errstate(invalid="ignore"):  # infinities have no difference
            difference = _largest(np.asarray(self.left) - self.right)
        return _relative(difference, self.left, self.right, self.scale, undefined=math.inf)


@dataclass(frozen=True, eq=False)
class AtMost:
    """An inequality: ``smaller`` ≤ ``larger``, element by element.

    Attributes
    ----------
    smaller, larger : float or array
    scale : float
        Size of what was subtracted on the way, if that is larger than the sides.
    """

    smaller: Any
    larger: Any
    scale: float = 0.0

    @property
    def slack(self) -> float:
        """Smallest ``larger − smaller``, relative to the largest magnitude; negative if violated."""
        with np.errstate(invalid="ignore"):
            gap = float(np.min(np.asarray(self.larger, dtype=float) - self.smaller, initial=math.inf))
        return _relative(gap, self.smaller, self.larger, self.scale, undefined=-math.inf)


@dataclass(frozen=True, eq=False)
class Estimate:
    """Means of n independent samples, beside what they estimate.

    Attributes
    ----------
    mean, expected : float or array
    variance : float or array
        Exact variance σ² of one sample.
    bound : float or array
        Largest distance b of a sample from its expectation.
    n : int
        Number of samples.
    scale : float
        Size of what was subtracted on the way, if that is larger than all these.
    """

    mean: Any
    expected: Any
    variance: Any
    bound: Any
    n: int
    scale: float = 0.0

    @property
    def size(self) -> int:
        """Number of means that are compared."""
        return int(np.size(self.expected))

    @property
    def deviation(self) -> float:
        """Largest error in standard errors, after Bernstein's correction.

        An error ε of a mean is counted as ε√n / √(σ² + bε/3), which is a little less than ε√n / σ.
        By Bernstein's inequality it exceeds t with probability 2 exp(−t²/2) at most, for every n and
        however skew the samples are. [Boucheron, Lugosi and Massart 2013, theorem 2.10]
        """
        # What is less than rounding is no error, also where there is no variance.
        rounding = SOLVED.value * _largest(self.expected, self.bound, self.scale)
        error = np.maximum(np.abs(np.asarray(self.mean) - self.expected) - rounding, 0)
        spread = np.sqrt(np.maximum(self.variance, 0) + np.asarray(self.bound) * error / 3)
        with np.errstate(divide="ignore"):  # an error without any spread is infinitely large
            deviation = _largest(error * math.sqrt(self.n) / np.where(error == 0, 1, spread))
        return math.inf if math.isnan(deviation) else deviation


Comparison: TypeAlias = Equal | AtMost | Estimate


class Tolerance(NamedTuple):
    """How far from true a statement may be measured, and why."""

    value: float
    reason: str


COUNTED = Tolerance(0.0, "none: whole numbers and bits")
ROUNDING = Tolerance(1e-12, "rounding: 2⁻⁵³ × some thousand operations")
DIFFERENCES = Tolerance(1e-10, "rounding × size of θ per size of Δ, ≤ 10⁵")
SOLVED = Tolerance(1e-11, "rounding × condition of I − γP, ≤ 200")
KRYLOV = Tolerance(1e-9, "rounding × condition of H, ≤ 10³, × 10⁴")
"""The 10⁴ is what rounding grows by while the residuals of conjugate gradients fall to one in a hundred."""

FALSE_ALARM = 1e-9
"""Largest probability with which a statistical statement that is true is refused in a verification."""


def threshold(comparisons: int) -> float:
    """Standard errors, above which no correct one of so many estimates lies but for a false alarm.

    Bonferroni: each of m comparisons may fail with probability FALSE_ALARM / m, and 2 exp(−t²/2) is that
    for t = √(2 log(2m / FALSE_ALARM)).
    """
    return math.sqrt(2 * math.log(2 * max(comparisons, 1) / FALSE_ALARM))


@dataclass(frozen=True)
class Statement:
    """One numbered equation of the derivation.

    Attributes
    ----------
    number : str
        "E1" to "E44".
    title : str
        The equation in words.
    equation : str
        As text.
    mathml : str
        As presentation MathML, a ``<math>`` element.
    source : str
        Paper and equation.
    implemented_by : tuple of str
        Qualified names of the functions and classes of the package that compute it.
    kind : Kind
        A statistical statement is also checked exactly, and an identity may come with inequalities.
    tolerance : float
        Largest residual, and largest violation of an inequality, that count as rounding; relative.
    reason : str
        Where the tolerance comes from.
    measure : callable
        From a :class:`~npTRPO.theory.cases.Case` to its comparisons; none where there is nothing to
        compare, such as a step where the gradient is zero.
    """

    number: str
    title: str
    equation: str
    mathml: str
    source: str
    implemented_by: tuple[str, ...]
    kind: Kind
    tolerance: float
    reason: str
    measure: Callable[[Case], tuple[Comparison, ...]]


Measure: TypeAlias = "Callable[[Case], tuple[Comparison, ...]]"
_REGISTRY: dict[str, Statement] = {}


def states(
    number: str, kind: Kind, tolerance: Tolerance, *implemented_by: str
) -> Callable[[Measure], Measure]:
    """Register the decorated function as the measure of an equation."""

    def register(measure: Measure) -> Measure:
        words = EQUATIONS[number]
        _REGISTRY[number] = Statement(
            number=number,
            title=words.title,
            equation=words.text,
            mathml=words.mathml,
            source=words.source,
            implemented_by=implemented_by,
            kind=kind,
            tolerance=tolerance.value,
            reason=tolerance.reason,
            measure=measure,
        )
        return measure

    return register


def registered() -> tuple[Statement, ...]:
    """Every statement registered so far, in the order of their numbers."""
    return tuple(sorted(_REGISTRY.values(), key=lambda statement: int(statement.number[1:])))


def _largest(*arrays: Any) -> float:
    """Largest magnitude in any of the arrays; NaN if there is one."""
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays), key=lambda x: (math.isnan(x), x))


def _relative(difference: float, left: Any, right: Any, scale: float, undefined: float) -> float:
    """Difference per largest magnitude; a difference of zero is zero."""
    if difference == 0:
        return 0.0
    ratio = difference / _largest(left, right, scale)
    return undefined if math.isnan(ratio) else ratio
