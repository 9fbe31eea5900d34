"""Mean and spread of numbers, such as advantages, which may be spread over several groups of environments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npTRPO._typing import Array
from npTRPO.sampling.normalization import Moments


@dataclass(frozen=True)
class Spread:
    """Mean, variance and range of numbers.

    Attributes
    ----------
    moments : Moments
        Mean and population variance, without an axis.
    least, largest : float
        Their range.
    """

    moments: Moments
    least: float
    largest: float

    @classmethod
    def of(cls, numbers: Array) -> Spread:
        """Return the spread of numbers (N,), N ≥ 1."""
        return cls(Moments.of(numbers), float(np.min(numbers)), float(np.max(numbers)))

    @classmethod
    def merged(cls, parts: Sequence[Spread]) -> Spread:
        """Return the spread of the numbers of all parts, which are taken in their order."""
        first, *others = (part.moments for part in parts)
        least, largest = min(part.least for part in parts), max(part.largest for part in parts)
        return cls(first.merged(*others), least, largest)

    @property
    def mean(self) -> float:
        """Mean of the numbers."""
        return float(self.moments.mean)

    @property
    def variance(self) -> float:
        """Population variance; 0 for equal numbers, whose mean may be rounded."""
        return float(self.moments.variance) if self.largest > self.least else 0.0

    def normalized(self, numbers: Array) -> Array:
        """Return numbers with mean 0 and standard deviation 1, or all zero if they don't vary."""
        deviation = math.sqrt(self.variance)
        return np.asarray((numbers - self.mean) / deviation) if deviation else np.zeros_like(numbers)


def explained_variance(values: Array, returns: Array) -> float:
    """Return 1 − Var(returns − values) / Var(returns): 1 is perfect, 0 no better than a constant.

    It is NaN if the returns don't vary.
    """
    return explained(Spread.of(returns - values), Spread.of(returns))


def explained(errors: Spread, returns: Spread) -> float:
    """Return :func:`explained_variance` from the spread of the errors and that of the returns."""
    # The variance of equal numbers may round to more than 0, and that of very small ones to 0.
    return 1 - float(errors.moments.variance) / returns.variance if returns.variance > 0 else math.nan
