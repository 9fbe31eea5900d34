"""The logarithm of a sum of exponentials, and the softmax, computed without overflow.

They take the place of SciPy's functions of the same names, which can't be traced.
"""

from typing import Any

import numpy as np

from npTRPO.autograd.elementwise import mask
from npTRPO.autograd.reductions import sum_over
from npTRPO.autograd.rules import as_array, as_axes
from npTRPO.autograd.tracer import Box, LinearMap, as_plain, define_rule, primitive


def _largest(x: Any, axis: tuple[int, ...]) -> Any:
    """Return the largest elements, kept as axes of length 1; 0 in place of infinities, as in SciPy."""
    largest = np.max(x, axis=axis, keepdims=True)
    return np.where(np.isfinite(largest), largest, 0) if not np.all(np.isfinite(largest)) else largest


@primitive
def _logsumexp(x: Any, axis: tuple[int, ...]) -> Any:
    largest = _largest(x, axis)
    with np.errstate(divide="ignore", over="ignore"):  # log 0, where all elements are −∞; e¹⁰⁰⁰ beside +∞
        return largest + np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True))


@primitive
def _log_softmax(x: Any, axis: tuple[int, ...]) -> Any:
    shifted = x - _largest(x, axis)  # first, or a large common offset would round the rest
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _log_softmax_rule(answer: Any, x: Any, axis: tuple[int, ...]) -> LinearMap:
    softmax = np.exp(answer)
    return LinearMap(
        lambda t: t - sum_over(t * softmax, axis, True), lambda g: g - sum_over(g, axis, True) * softmax
    )


define_rule(_log_softmax, _log_softmax_rule)


def _logsumexp_rule(answer: Any, x: Any, axis: tuple[int, ...]) -> LinearMap:
    if np.all(np.isfinite(answer)):
        shares = np.exp(_log_softmax(x, axis))  # not x - answer, which is off by the rounding of both
    else:  # the elements that are +∞ share equally; of elements that are all −∞ none counts
        all_of_it = answer == np.inf
        infinite = mask(x == np.inf, answer)
        infinite = infinite / np.maximum(np.sum(infinite, axis=axis, keepdims=True), 1)
        finite = np.exp(np.where(all_of_it, -np.inf, x) - np.where(np.isinf(answer), 0, answer))
        shares = np.where(all_of_it, infinite, finite)
    return LinearMap(lambda t: sum_over(t * shares, axis, True), lambda g: g * shares)


define_rule(_logsumexp, _logsumexp_rule)


def logsumexp(
    a: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, b: Any = None
) -> Any:
    """Compute the logarithm of the sum of exponentials, differentiable to any order.

    It takes the place of ``scipy.special.logsumexp``, which can't be differentiated through.

    Parameters
    ----------
    a : array
        Any real or complex dtype, which is kept.
    axis : int, tuple of int or None
        Axes to sum over; None means all of them, as in SciPy.
    keepdims : bool
        Keep the summed axes with length one.
    b : array, optional
        Factors of the exponentials, which broadcast with ``a``; they may be negative or zero.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import grad, logsumexp
    >>> grad(logsumexp)(np.log([1.0, 3.0]))
    array([0.25, 0.75])
    """
    a = as_array(a)
    if b is not None:
        a, b = np.broadcast_arrays(a, as_array(b))
    axes = as_axes(axis, a.ndim)
    if b is None:
        result = _logsumexp(a, axes)
    else:
        if not isinstance(b, Box):  # what has no factor may be infinite; a factor of 0 can have a derivative
            a = np.where(b == 0, -np.inf, a)
        largest = _largest(as_plain(a), axes)  # any constant gives the same sum
        with np.errstate(divide="ignore"):
            result = largest + np.log(np.sum(b * np.exp(a - largest), axis=axes, keepdims=True))
    return (
        result if keepdims else np.reshape(result, tuple(n for i, n in enumerate(a.shape) if i not in axes))
    )


def log_softmax(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Compute the logarithm of the softmax, differentiable to any order.

    It takes the place of ``scipy.special.log_softmax``, which can't be differentiated through.

    Parameters
    ----------
    x : array
        Any real or complex dtype, which is kept.
    axis : int, tuple of int or None
        Axes over which the probabilities sum to one; None means all of them, as in SciPy.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import log_softmax
    >>> np.exp(log_softmax(np.array([0.0, np.log(3.0)])))
    array([0.25, 0.75])
    """
    x = as_array(x)
    return _log_softmax(x, as_axes(axis, x.ndim))


def softmax(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Compute the softmax, exponentials that sum to one, differentiable to any order.

    It takes the place of ``scipy.special.softmax``, which can't be differentiated through; its
    parameters are those of :func:`log_softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import softmax
    >>> softmax(np.log([1.0, 3.0]))
    array([0.25, 0.75])
    """
    return np.exp(log_softmax(x, axis))
