"""Arithmetic modulo a prime near 2⁶¹: rational functions without rounding, in NumPy's object arrays.

An identity between rational functions that fails somewhere is a polynomial that isn't zero; at random points
modulo a prime p it is zero with a probability of at most its degree / p. [Schwartz 1980, "Fast probabilistic
algorithms for verification of polynomial identities"]
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from npTRPO._typing import Array

PRIME = 2**61 - 1


class Residue:
    """A number modulo :data:`PRIME`, which mixes with whole numbers and with object arrays of residues.

    It stands for a number of any size: comparisons for order are all true, so that functions which check
    that an argument lies within a range take it.

    Examples
    --------
    >>> x = Residue(7)
    >>> x / 3 * 3, x**2 - 49
    (Residue(7), Residue(0))
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = int(value) % PRIME

    def _of(self, other: Any, operation: Any) -> Any:
        """Return the residue of an operation on values, or NotImplemented for what isn't a whole number."""
        if isinstance(other, Residue):
            return Residue(operation(self.value, other.value))
        if isinstance(other, (int, float, np.number, np.bool_)) and other == int(other):
            return Residue(operation(self.value, int(other)))
        return NotImplemented

    def __add__(self, other: Any) -> Any:
        return self._of(other, operator.add)

    def __sub__(self, other: Any) -> Any:
        return self._of(other, operator.sub)

    def __rsub__(self, other: Any) -> Any:
        return self._of(other, lambda mine, theirs: theirs - mine)

    def __mul__(self, other: Any) -> Any:
        return self._of(other, operator.mul)

    def __truediv__(self, other: Any) -> Any:
        return self._of(other, lambda mine, theirs: mine * pow(theirs, -1, PRIME))

    def __rtruediv__(self, other: Any) -> Any:
        return self._of(other, lambda mine, theirs: theirs * pow(mine, -1, PRIME))

    def __pow__(self, exponent: Any) -> Any:
        if isinstance(exponent, np.ndarray):
            return NotImplemented
        return Residue(pow(self.value, int(exponent), PRIME))

    def __neg__(self) -> Residue:
        return Residue(-self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == Residue(other.value if isinstance(other, Residue) else other).value)

    def __le__(self, other: Any) -> bool:
        return True

    __radd__, __rmul__, __ge__ = __add__, __mul__, __le__
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Residue({self.value})"


def drawn(rng: np.random.Generator, *shape: int) -> Array:
    """Return random residues, an object array."""
    flat = [Residue(number) for number in rng.integers(PRIME, size=int(np.prod(shape)))]
    return np.array(flat, dtype=object).reshape(shape)


def distributions(rng: np.random.Generator, *shape: int) -> Array:
    """Return random residues with sum 1 over the last axis."""
    rows = drawn(rng, *shape)
    rows[..., -1] = 1 - np.sum(rows[..., :-1], axis=-1)
    return rows


def solve(matrix: Array, right: Array) -> Array:
    """Solve a regular linear system, (n, n) by (n,) or (n, k), by elimination."""
    n = len(matrix)
    rows = np.concatenate([matrix, right.reshape(n, -1)], axis=1)
    for i in range(n):
        pivot = next(j for j in range(i, n) if rows[j, i] != 0)
        rows[[i, pivot]] = rows[[pivot, i]]
        rows[i] = rows[i] * (1 / rows[i, i])
        for j in range(n):
            if j != i:
                rows[j] = rows[j] - rows[j, i] * rows[i]
    solution: Array = rows[:, n:].reshape(right.shape)
    return solution
