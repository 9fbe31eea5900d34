"""Conjugate gradients for a symmetric positive definite system that is known by its products."""

import enum
import math
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np

from npTRPO._typing import Array

Beta: TypeAlias = Literal["fletcher-reeves", "polak-ribiere"]


class CGOutcome(enum.Enum):
    """Reason why conjugate gradients stopped."""

    CONVERGED = "The residual norm is within the tolerance."
    MAXITER = "The iteration limit was reached before the residual norm was within the tolerance."
    NEGATIVE_CURVATURE = "A direction p with pᵀAp ≤ 0 was met: A isn't positive definite. x precedes it."
    INDEFINITE_PRECONDITIONER = (
        "A residual r with rᵀMr ≤ 0 was met: M isn't positive definite. x precedes it."
    )
    NOT_FINITE = "A product was not finite. x precedes it."


@dataclass(frozen=True)
class CGResult:
    """Solution of conjugate gradients and how it was found.

    Attributes
    ----------
    x : array, shape (n,)
        The iterate at which the iteration ended.
    iterations : int
        Number of steps taken, which is the number of products with A (plus one if x0 was given).
    residual_norm : float
        ‖b − A x‖ as the recursion E33 carries it.
    outcome : CGOutcome
        Why the iteration ended; its value is a sentence.
    """

    x: Array
    iterations: int
    residual_norm: float
    outcome: CGOutcome

    @property
    def converged(self) -> bool:
        """True if the residual norm is within the tolerance."""
        return self.outcome is CGOutcome.CONVERGED


@dataclass(frozen=True)
class ConjugateGradient:
    """Conjugate gradients with their settings, as :func:`conjugate_gradient` takes them.

    Attributes
    ----------
    rtol, atol : float
        E37: the iteration ends when ‖r‖ ≤ max(rtol · ‖b‖, atol).
    maxiter : int, optional
        Largest number of steps; 10 n unless given.
    beta : {"fletcher-reeves", "polak-ribiere"}
        Formula for β (E34).
    """

    rtol: float = 1e-5
    atol: float = 0.0
    maxiter: int | None = None
    beta: Beta = "fletcher-reeves"

    def solve(self, A: Any, b: Array, M: Any = None, x0: Array | None = None) -> CGResult:
        """Solve A x = b, with a preconditioner M and from x₀ if they are given."""
        return conjugate_gradient(A, b, x0, M=M, **asdict(self))


def conjugate_gradient(
    A: Any,
    b: Array,
    x0: Array | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    beta: Beta = "fletcher-reeves",
    callback: Callable[[Array], Any] | None = None,
) -> CGResult:
    r"""Solve A x = b for a symmetric positive definite A.

    E33: with r₀ = b − A x₀ and p₀ = r₀, repeat α = rᵀr / pᵀAp, x ← x + αp, r ← r − αAp, p ← r + βp.
    E34: β is Fletcher–Reeves, r'ᵀr' / rᵀr, or Polak–Ribière, r'ᵀ(r' − r) / rᵀr, where r' is the new
    residual; in exact arithmetic they are equal. E35: with a preconditioner, z = M r takes the place
    of one r in each product. E36: in exact arithmetic the residuals are orthogonal, the directions
    conjugate, and x is exact after as many steps as A has distinct eigenvalues.

    Parameters
    ----------
    A : array (n, n), scipy LinearOperator, or callable
        The system; a callable is given an array of shape (n,) and returns A times it.
    b : array, shape (n,)
        Right-hand side. It isn't changed. Vectors keep its dtype; their inner products are float64.
    x0 : array, shape (n,), optional
        Starting point; zero unless given.
    rtol, atol : float
        E37: the iteration ends when ‖r‖ ≤ max(rtol · ‖b‖, atol).
    maxiter : int, optional
        Largest number of steps; 10 n unless given.
    M : array (n, n), scipy LinearOperator, or callable, optional
        Preconditioner, symmetric positive definite and near to A⁻¹.
    beta : {"fletcher-reeves", "polak-ribiere"}
        Formula for β.
    callback : callable, optional
        Called as ``callback(x)`` after each step, with an array that later steps don't change.

    Returns
    -------
    CGResult
        With ``x``, ``iterations``, ``residual_norm``, ``outcome``.

    Raises
    ------
    ValueError
        For ill-shaped or non-finite input and for options out of range.

    References
    ----------
    Nocedal and Wright, "Numerical Optimization", 2nd ed., Algorithms 5.2 and 5.3.

    Examples
    --------
    >>> import numpy as np
    >>> result = conjugate_gradient(np.diag([1.0, 2.0, 4.0]), np.ones(3))
    >>> result.x, result.iterations, result.outcome.value
    (array([1.  , 0.5 , 0.25]), 3, 'The residual norm is within the tolerance.')
    """
    b, maxiter = _checked(b, x0, rtol, atol, maxiter, beta)
    product, precondition = _as_product(A, "A", b), _as_product(M, "M", b)
    tolerance = max(rtol * _norm(b), atol)

    x = np.zeros_like(b) if x0 is None else np.array(x0, dtype=b.dtype)
    r = b.copy() if x0 is None else b - product(x)
    p, r_old = np.zeros_like(b), r
    rz = math.inf  # so that the first β is 0
    residual, iterations = _norm(r), 0
    while (outcome := _end(residual, tolerance, iterations, maxiter)) is None:
        z = precondition(r)
        rz_old, rz = rz, _dot(r, z)
        if outcome := _unless_positive(rz, CGOutcome.INDEFINITE_PRECONDITIONER):
            break
        carried = _dot(r_old, z) if beta == "polak-ribiere" else 0.0
        coefficient = b.dtype.type((rz - carried) / rz_old)
        p = z + coefficient * p
        Ap = product(p)
        curvature = _dot(p, Ap)
        if outcome := _unless_positive(curvature, CGOutcome.NEGATIVE_CURVATURE):
            break
        alpha = b.dtype.type(rz / curvature)
        x = x + alpha * p
        r_old, r = r, r - alpha * Ap
        residual, iterations = _norm(r), iterations + 1
        if callback is not None:
            callback(x)
    return CGResult(x, iterations, residual, outcome)


def _checked(
    b: Array, x0: Array | None, rtol: float, atol: float, maxiter: int | None, beta: str
) -> tuple[Array, int]:
    """Return b as floats and the limit of steps, or raise a ValueError for an invalid argument."""
    b = np.asarray(b)
    if b.dtype.kind in "biu":
        b = b.astype(float)
    if b.dtype.kind != "f" or b.shape != (b.size,) or not np.all(np.isfinite(b)):
        raise ValueError(f"b must be a vector of finite real numbers, not of shape {b.shape}: {b}")
    if x0 is not None and np.shape(x0) != b.shape:
        raise ValueError(f"x0 must have the shape of b, {b.shape}, not {np.shape(x0)}")
    if beta not in ("fletcher-reeves", "polak-ribiere"):
        raise ValueError(f"beta must be 'fletcher-reeves' or 'polak-ribiere', not {beta!r}")
    if not (rtol >= 0 and atol >= 0):
        raise ValueError(f"rtol and atol must not be negative, but they are {rtol!r} and {atol!r}")
    maxiter = 10 * b.size if maxiter is None else maxiter
    if maxiter < 0:
        raise ValueError(f"maxiter must not be negative, but it is {maxiter!r}")
    return b, maxiter


def _end(residual: float, tolerance: float, iterations: int, maxiter: int) -> CGOutcome | None:
    """Return how the iteration ends with this residual norm, or None while it goes on."""
    if not np.isfinite(residual):
        return CGOutcome.NOT_FINITE
    if residual <= tolerance:
        return CGOutcome.CONVERGED
    return CGOutcome.MAXITER if iterations >= maxiter else None


def _unless_positive(value: float, outcome: CGOutcome) -> CGOutcome | None:
    """Return how the iteration ends with a quadratic form that isn't positive, or None if it is."""
    if not np.isfinite(value):
        return CGOutcome.NOT_FINITE
    return outcome if value <= 0 else None


def _norm(v: Array) -> float:
    return float(np.sqrt(_dot(v, v)))


def _dot(u: Array, v: Array) -> float:
    """Return the inner product in float64, whatever the vectors' dtype."""
    return float(np.dot(u.astype(np.float64, copy=False), v.astype(np.float64, copy=False)))


def _as_product(A: Any, name: str, b: Array) -> Callable[[Array], Array]:
    """Return the function v ↦ A v, whose results have b's shape and dtype."""
    if A is None:
        return lambda v: v
    multiply, n = A, b.size
    if not callable(A) or hasattr(A, "shape"):
        matrix = A if hasattr(A, "shape") else np.asarray(A)
        if matrix.shape != (n, n):
            raise ValueError(f"{name} must have shape ({n}, {n}), as b has {n} elements, not {matrix.shape}")
        multiply = partial(operator.matmul, matrix)

    def product(v: Array) -> Array:
        result = np.asarray(multiply(v), dtype=b.dtype)
        if result.shape != b.shape:
            raise ValueError(f"{name} must give a product of shape {b.shape}, not {result.shape}")
        return result

    return product
