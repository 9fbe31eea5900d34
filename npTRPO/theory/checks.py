"""Comparisons of the two sides of an equation, computed on an instance, and how far they may differ.

A measure is a function of an :class:`~npTRPO.theory.instances.Instance` that returns comparisons, each of
which holds both sides: :class:`Equal`, :class:`AtMost` or :class:`Estimate`.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from npTRPO.theory.equations import EQUATIONS, Equation
from npTRPO.theory.instances import Instance


class Kind(enum.Enum):
    """The sense in which an equation holds."""

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
        if isinstance(self.left, float) and isinstance(self.right, float):  # most are; arrays take longer
            difference = abs(float(self.left) - float(self.right))
        else:
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
    """The largest relative error that an equation may be measured with, and the reason for it."""

    value: float
    reason: str


COUNTED = Tolerance(0.0, "none: whole numbers and bits")
ROUNDING = Tolerance(1e-12, "rounding: 2⁻⁵³ × some thousand operations")
DIFFERENCES = Tolerance(1e-10, "rounding × size of θ per size of Δ, ≤ 10⁵")
SOLVED = Tolerance(1e-11, "rounding × condition of I − γP, ≤ 200")
KRYLOV = Tolerance(1e-9, "rounding × condition of H, ≤ 10³, × 10⁴")
"""The 10⁴ is what rounding grows by while the residuals of conjugate gradients fall to one in a hundred."""

FALSE_ALARM = 1e-9
"""Probability that a verification refuses a statistical equation that holds, at most."""


def threshold(comparisons: int) -> float:
    """Return the standard errors that no correct one of so many estimates exceeds, but for a false alarm.

    Bonferroni: each of m comparisons may fail with probability FALSE_ALARM / m, and 2 exp(−t²/2) is that
    for t = √(2 log(2m / FALSE_ALARM)).
    """
    return math.sqrt(2 * math.log(2 * max(comparisons, 1) / FALSE_ALARM))


Measure: TypeAlias = Callable[[Instance], tuple[Comparison, ...]]


@dataclass(frozen=True)
class Check:
    """A numbered equation of the derivation, and how it is measured.

    Attributes
    ----------
    equation : Equation
        Its number, words, formula and source.
    kind : Kind
        A statistical equation is also checked exactly, and an identity may come with inequalities.
    tolerance : Tolerance
        Largest residual, and largest violation of an inequality, that count as rounding; relative.
    implementations : tuple of functions and classes
        What computes the equation in the package.
    measure : callable
        From an :class:`~npTRPO.theory.instances.Instance` to its comparisons.
    needs_gradient : bool
        Whether there is nothing to compare where the gradient of the surrogate is zero, and no step to take.
    """

    equation: Equation
    kind: Kind
    tolerance: Tolerance
    implementations: tuple[Any, ...]
    measure: Measure
    needs_gradient: bool = False

    def compare(self, instance: Instance) -> tuple[Comparison, ...]:
        """Measure the equation on an instance; there may be nothing to compare."""
        skipped = self.needs_gradient and not np.any(instance.gradient)
        return () if skipped else self.measure(instance)

    @property
    def implemented_by(self) -> list[str]:
        """Qualified names of what computes the equation."""
        return [f"{thing.__module__}.{thing.__qualname__}" for thing in self.implementations]


_REGISTERED: dict[str, Check] = {}


def measures(
    number: str, kind: Kind, tolerance: Tolerance, *implementations: Any, needs_gradient: bool = False
) -> Callable[[Measure], Measure]:
    """Register the decorated function as the measure of an equation that ``implementations`` compute."""

    def register(measure: Measure) -> Measure:
        equation = EQUATIONS[number]
        _REGISTERED[number] = Check(equation, kind, tolerance, implementations, measure, needs_gradient)
        return measure

    return register


def registered() -> tuple[Check, ...]:
    """Return every check registered so far, in the order of the derivation."""
    return tuple(_REGISTERED[number] for number in EQUATIONS if number in _REGISTERED)


def _largest(*arrays: Any) -> float:
    """Return the largest magnitude in any of the arrays; NaN if there is one."""
    sizes = [abs(float(a)) if isinstance(a, float) else float(np.abs(a).max(initial=0.0)) for a in arrays]
    return math.nan if any(map(math.isnan, sizes)) else max(sizes)


def _relative(difference: float, left: Any, right: Any, scale: float, undefined: float) -> float:
    """Return a difference relative to the largest magnitude; a difference of zero is zero."""
    if difference == 0:
        return 0.0
    ratio = difference / _largest(left, right, scale)
    return undefined if math.isnan(ratio) else ratio
