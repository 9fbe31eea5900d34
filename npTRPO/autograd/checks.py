"""Checks of the engine's derivatives, for functions of one's own."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from npTRPO.autograd.transforms import linearize

# With a complex step nothing is subtracted, so it may be as small as the numbers allow.
COMPLEX_STEP = 1e-100


def check_derivatives(
    f: Callable[[Any], Any],
    x: Any,
    *,
    order: int = 2,
    method: Literal["complex step", "central difference"] = "complex step",
    rtol: float | None = None,
    rng: np.random.Generator | None = None,
) -> None:
    r"""Check the engine's derivatives of ``f`` at ``x``; raise an AssertionError where they are wrong.

    Two things are compared along random directions v and u: J v with a derivative that the engine
    had no part in, and ⟨u, J v⟩ with ⟨Jᵀ u, v⟩, which agree exactly when the reverse mode is the
    transpose of the forward mode. For order 2 the same is done with the functions x ↦ J(x) v and
    x ↦ J(x)ᵀ u, and so on.

    Parameters
    ----------
    f : callable
        Plain NumPy code of one array or one tuple of arrays, with arrays or tuples as its value.
    x : array or tuple of arrays
        Where to check; taken as float64.
    order : int
        Highest order of derivatives to check.
    method : {"complex step", "central difference"}
        The complex step, Im f(x + ihv) / h [1]_, is exact to rounding, but ``f`` must be analytic
        (not abs) and accept complex numbers. The central difference stops at about ten digits.
    rtol : float, optional
        Largest difference allowed, relative to the larger of 1 and the largest entry compared;
        1e-10 for the complex step and 1e-6 for the central difference unless given.
    rng : numpy.random.Generator, optional
        Source of the directions; a fixed one unless given.

    References
    ----------
    .. [1] Squire and Trapp, "Using complex variables to estimate derivatives of real functions", 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import check_derivatives
    >>> check_derivatives(np.tanh, np.array([0.3, -1.2]))
    """
    if method not in ("complex step", "central difference"):
        raise ValueError(f"method must be 'complex step' or 'central difference', not {method!r}")
    if order < 1:
        raise ValueError(f"order must be at least 1, not {order!r}")
    rng = np.random.default_rng(0) if rng is None else rng
    rtol = (1e-10 if method == "complex step" else 1e-6) if rtol is None else rtol
    difference = _complex_step if method == "complex step" else _central_difference
    x = _each(lambda part: np.asarray(part, dtype=float), x)
    _check(f, x, order, difference, rtol, rng, "")


def _check(
    f: Callable[[Any], Any],
    x: Any,
    order: int,
    difference: Callable[..., Any],
    rtol: float,
    rng: np.random.Generator,
    path: str,
) -> None:
    lin = linearize(f, x)
    v = _each(lambda part: rng.standard_normal(part.shape), x)
    u = _each(lambda part: rng.standard_normal(part.shape), lin.value)
    forward, backward = lin.jvp(v), lin.vjp(u)
    for ours, expected in zip(_parts(forward), _parts(difference(f, x, v)), strict=True):
        _compare(ours, expected, rtol, f"J v of {path or 'f'}, against the {difference.__name__[1:]}")
    for ours, part in zip(_parts(backward), _parts(x), strict=True):
        _same_shape(ours, part, f"Jᵀ u of {path or 'f'}")
    _compare(_dot(u, forward), _dot(backward, v), rtol, f"⟨u, J v⟩ of {path or 'f'}, against ⟨Jᵀ u, v⟩")
    if order > 1:
        tangent = f"({path or 'f'}' v)"
        cotangent = f"(uᵀ {path or 'f'}')"
        _check(lambda z: linearize(f, z).jvp(v), x, order - 1, difference, rtol, rng, tangent)
        _check(lambda z: linearize(f, z).vjp(u), x, order - 1, difference, rtol, rng, cotangent)


def _complex_step(f: Callable[[Any], Any], x: Any, v: Any) -> Any:
    moved = f(_each(lambda a, b: a + 1j * COMPLEX_STEP * b, x, v))
    return _each(lambda part: np.imag(part) / COMPLEX_STEP, moved)


def _central_difference(f: Callable[[Any], Any], x: Any, v: Any) -> Any:
    h = float(np.cbrt(np.finfo(float).eps))  # balances truncation, h², against rounding, eps / h
    above, below = (f(_each(lambda a, b, s=s: a + s * h * b, x, v)) for s in (1, -1))
    return _each(lambda a, b: (a - b) / (2 * h), above, below)


def _compare(ours: Any, expected: Any, rtol: float, what: str) -> None:
    _same_shape(ours, expected, what)
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    error = float(np.max(np.abs(np.asarray(ours) - expected), initial=0.0)) / scale
    if not error <= rtol:
        raise AssertionError(f"{what}: relative error {error:.3g} exceeds {rtol:.3g}")


def _same_shape(ours: Any, expected: Any, what: str) -> None:
    if np.shape(ours) != np.shape(expected):
        raise AssertionError(f"{what}: shape {np.shape(ours)} instead of {np.shape(expected)}")


def _parts(tree: Any) -> tuple[Any, ...]:
    return tree if isinstance(tree, tuple) else (tree,)


def _each(function: Callable[..., Any], *trees: Any) -> Any:
    if isinstance(trees[0], tuple):
        return tuple(function(*parts) for parts in zip(*trees, strict=True))
    return function(*trees)


def _dot(left: Any, right: Any) -> Any:
    return sum(np.sum(a * b) for a, b in zip(_parts(left), _parts(right), strict=True))
