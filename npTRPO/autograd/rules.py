"""One rule per NumPy function, each written in NumPy calls that have rules themselves.

Functions that work element by element state their partial derivatives; structural functions state a
linear map and its transpose. ``compositions.py`` writes everything else with these.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

from npTRPO.autograd.tracer import (
    Box,
    LinearMap,
    broadcast,
    define_rule,
    define_variadic_rule,
    primitive,
    unbroadcast,
)

__all__ = [
    "as_array",
    "as_axes",
    "joined",
    "log_softmax",
    "logsumexp",
    "max_over",
    "mean_over",
    "reshaped",
    "scattered",
    "sum_over",
]

# --- element by element: partial derivatives ---------------------------------------------------

define_rule(np.add, lambda ans, x, y: 1, lambda ans, x, y: 1)
define_rule(np.subtract, lambda ans, x, y: 1, lambda ans, x, y: -1)
define_rule(np.multiply, lambda ans, x, y: y, lambda ans, x, y: x)
define_rule(np.divide, lambda ans, x, y: 1 / y, lambda ans, x, y: -ans / y)
define_rule(np.positive, lambda ans, x: 1)
define_rule(np.negative, lambda ans, x: -1)
define_rule(np.absolute, lambda ans, x: np.sign(x))
define_rule(np.exp, lambda ans, x: ans)
define_rule(np.expm1, lambda ans, x: ans + 1)
define_rule(np.log, lambda ans, x: 1 / x)
define_rule(np.log1p, lambda ans, x: 1 / (1 + x))
define_rule(np.sqrt, lambda ans, x: 0.5 / ans)
define_rule(np.square, lambda ans, x: 2 * x)
define_rule(np.sin, lambda ans, x: np.cos(x))
define_rule(np.cos, lambda ans, x: -np.sin(x))
define_rule(np.tanh, lambda ans, x: 1 - ans * ans)
define_rule(scipy.special.expit, lambda ans, x: ans * (1 - ans))
for _power in (np.power, operator.pow):  # of NumPy's scalars, these two can differ in the last bit
    define_rule(
        _power,
        # x⁰ has derivative 0 everywhere, also where x⁻¹ would not exist.
        lambda ans, x, y: y * x ** _where_zero(y, 1, y - 1),
        # 0ʸ has derivative 0 in y > 0, where log 0 would not exist.
        lambda ans, x, y: ans * _log(_where_zero(x, 1, x)),
    )
# At a tie the derivative is a subgradient: all of it goes to the first argument.
define_rule(np.maximum, lambda ans, x, y: _mask(x >= y, ans), lambda ans, x, y: _mask(x < y, ans))
define_rule(np.minimum, lambda ans, x, y: _mask(x <= y, ans), lambda ans, x, y: _mask(x > y, ans))


def _where_zero(x: Any, then: Any, otherwise: Any) -> Any:
    """Return np.where(x == 0, then, otherwise), but a Python number for one, which changes no dtype."""
    if isinstance(x, (int, float, complex)):
        return then if x == 0 else otherwise
    return np.where(x == 0, then, otherwise)


def _log(x: Any) -> Any:
    """Return np.log(x), a Python number for one."""
    return np.log(x).item() if isinstance(x, (int, float, complex)) else np.log(x)


def _mask(condition: Any, answer: Any) -> Any:
    """Return 0 and 1 in the dtype of the answer, so that multiplying by them changes no dtype."""
    return condition.astype(answer.dtype)


# --- structure: a linear map and its transpose -------------------------------------------------


def _where(chosen: bool, answer: Any, condition: Any, argument: Any) -> LinearMap:
    shape, outer = np.shape(argument), np.shape(answer)

    def select(x: Any) -> Any:
        return np.where(condition, x, 0) if chosen else np.where(condition, 0, x)

    return LinearMap(lambda t: broadcast(select(t), outer), lambda g: unbroadcast(select(g), shape))


define_rule(
    np.where,
    None,
    lambda ans, condition, x, y: _where(True, ans, condition, x),
    lambda ans, condition, x, y: _where(False, ans, condition, y),
)


def _matmul_left(answer: Any, x: Any, y: Any) -> LinearMap:
    if x.ndim == y.ndim == 2:
        return LinearMap(lambda t: t @ y, lambda g: g @ y.T)
    transposed = np.swapaxes(y[:, None] if y.ndim == 1 else y, -1, -2)
    rows = (1, *x.shape) if x.ndim == 1 else x.shape

    def vjp(g: Any) -> Any:
        return np.reshape(unbroadcast(_as_matrices(g, x.ndim, y.ndim) @ transposed, rows), x.shape)

    return LinearMap(lambda t: t @ y, vjp)


def _matmul_right(answer: Any, x: Any, y: Any) -> LinearMap:
    if x.ndim == y.ndim == 2:
        return LinearMap(lambda t: x @ t, lambda g: x.T @ g)
    transposed = np.swapaxes(x[None, :] if x.ndim == 1 else x, -1, -2)
    columns = (*y.shape, 1) if y.ndim == 1 else y.shape

    def vjp(g: Any) -> Any:
        return np.reshape(unbroadcast(transposed @ _as_matrices(g, x.ndim, y.ndim), columns), y.shape)

    return LinearMap(lambda t: x @ t, vjp)


def _as_matrices(product: Any, left_ndim: int, right_ndim: int) -> Any:
    """Put back the axes that matmul drops for operands with one axis."""
    if right_ndim == 1:
        product = product[..., None]
    if left_ndim == 1:
        product = product[..., None, :]
    return product


define_rule(np.matmul, _matmul_left, _matmul_right)


def _dot_rule(position: int, answer: Any, x: Any, y: Any) -> Any:
    """Differentiate np.dot, a product by a scalar or what matmul is for a right operand of up to two axes."""
    x, y = as_array(x), as_array(y)
    if y.ndim > 2:
        raise NotImplementedError("np.dot has no derivative rule for a right operand with more than two axes")
    if x.ndim == 0 or y.ndim == 0:
        return (y, x)[position]
    return (_matmul_left, _matmul_right)[position](answer, x, y)


define_rule(np.dot, functools.partial(_dot_rule, 0), functools.partial(_dot_rule, 1))


@primitive
def sum_over(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Sum over the axes given, which are not negative."""
    return np.sum(x, axis=axis, keepdims=keepdims)


def _sum_rule(answer: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> LinearMap:
    shape = x.shape
    return LinearMap(
        lambda t: sum_over(t, axis, keepdims),
        lambda g: np.broadcast_to(np.reshape(g, _kept(shape, axis)), shape),
    )


define_rule(sum_over, _sum_rule)


@primitive
def mean_over(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Average over the axes given, which are not negative."""
    return np.mean(x, axis=axis, keepdims=keepdims)


def _mean_rule(answer: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> LinearMap:
    shape, count = x.shape, math.prod(x.shape[i] for i in axis)
    return LinearMap(
        lambda t: mean_over(t, axis, keepdims),
        lambda g: np.broadcast_to(np.reshape(g / count, _kept(shape, axis)), shape),
    )


define_rule(mean_over, _mean_rule)


@primitive
def max_over(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Take the largest element over the axes given, which are not negative."""
    return np.max(x, axis=axis, keepdims=keepdims)


def _max_rule(answer: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> LinearMap:
    shape, kept = x.shape, _kept(x.shape, axis)
    largest = x == np.reshape(answer, kept)
    weights = (largest / np.sum(largest, axis=axis, keepdims=True)).astype(x.dtype)  # ties share equally
    return LinearMap(
        lambda t: sum_over(t * weights, axis, keepdims),
        lambda g: np.broadcast_to(np.reshape(g, kept), shape) * weights,
    )


define_rule(max_over, _max_rule)


def as_array(x: Any) -> Any:
    """Return a traced array as it is, anything else as a plain array."""
    return x if isinstance(x, Box) else np.asarray(x)


def as_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Return the axes of a reduction as non-negative numbers."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    if any(not -ndim <= a < ndim for a in axes):
        raise np.exceptions.AxisError(f"axis {axis} is out of bounds for an array with {ndim} axes")
    return tuple(int(a) % ndim for a in axes)


def _kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a reduction with keepdims."""
    return tuple(1 if i in axis else n for i, n in enumerate(shape))


@primitive
def reshaped(x: Any, shape: Any) -> Any:
    """Return the same elements, in C order, in another shape."""
    return np.reshape(x, shape)


def _reshape_rule(answer: Any, x: Any, shape: Any) -> LinearMap:
    return LinearMap(lambda t: np.reshape(t, answer.shape), lambda g: np.reshape(g, x.shape))


define_rule(reshaped, _reshape_rule)


def _transpose_rule(answer: Any, x: Any, axes: Sequence[int] | None = None) -> LinearMap:
    inverse = None if axes is None else tuple(int(i) for i in np.argsort([a % x.ndim for a in axes]))
    return LinearMap(lambda t: np.transpose(t, axes), lambda g: np.transpose(g, inverse))


define_rule(np.transpose, _transpose_rule)


def _broadcast_to_rule(answer: Any, x: Any, shape: Any) -> LinearMap:
    inner = np.shape(x)
    return LinearMap(lambda t: np.broadcast_to(t, shape), lambda g: unbroadcast(g, inner))


define_rule(np.broadcast_to, _broadcast_to_rule)


def _is_basic(index: Any) -> bool:
    """Return whether an index gives a view, which has no element twice (slices, integers, None)."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (slice, int, np.integer)) for p in parts)


@primitive
def scattered(x: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Apply the transpose of ``array[index]``: zeros of a shape with ``x`` added where the index points."""
    total = np.zeros(shape, dtype=np.asarray(x).dtype)
    if _is_basic(index):
        total[index] = x
    else:
        np.add.at(total, index, x)  # an element selected twice receives both
    return total


def _getitem_rule(answer: Any, x: Any, index: Any) -> LinearMap:
    shape = x.shape
    return LinearMap(lambda t: t[index], lambda g: scattered(g, index, shape))


def _scatter_rule(answer: Any, x: Any, index: Any, shape: tuple[int, ...]) -> LinearMap:
    return LinearMap(lambda t: scattered(t, index, shape), lambda g: g[index])


define_rule(operator.getitem, _getitem_rule, None)
define_rule(scattered, _scatter_rule)


@primitive
def joined(*arrays: Any, axis: int) -> Any:
    """Join arrays along an axis."""
    return np.concatenate(arrays, axis=axis)


def _concatenate_rule(position: int, answer: Any, *arrays: Any, axis: int) -> LinearMap:
    start = sum(a.shape[axis] for a in arrays[:position])
    part = slice(start, start + arrays[position].shape[axis])
    index = (slice(None),) * (axis % answer.ndim) + (part,)
    return LinearMap(lambda t: scattered(t, index, answer.shape), lambda g: g[index])


define_variadic_rule(joined, _concatenate_rule)


@primitive
def _logsumexp(x: Any, axis: tuple[int, ...]) -> Any:
    largest = np.max(x, axis=axis, keepdims=True)
    return largest + np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True))


def _logsumexp_rule(answer: Any, x: Any, axis: tuple[int, ...]) -> LinearMap:
    softmax = np.exp(x - answer)
    return LinearMap(lambda t: sum_over(t * softmax, axis, True), lambda g: g * softmax)


define_rule(_logsumexp, _logsumexp_rule)


@primitive
def _log_softmax(x: Any, axis: tuple[int, ...]) -> Any:
    shifted = x - np.max(x, axis=axis, keepdims=True)  # first, or a large common offset would round the rest
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _log_softmax_rule(answer: Any, x: Any, axis: tuple[int, ...]) -> LinearMap:
    softmax = np.exp(answer)
    return LinearMap(
        lambda t: t - sum_over(t * softmax, axis, True), lambda g: g - sum_over(g, axis, True) * softmax
    )


define_rule(_log_softmax, _log_softmax_rule)


def logsumexp(a: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
    """Compute the logarithm of the sum of exponentials, differentiable to any order.

    Parameters
    ----------
    a : array
        Any real or complex dtype, which is kept.
    axis : int, tuple of int or None
        Axes to sum over; None means all of them, as in SciPy.
    keepdims : bool
        Keep the summed axes with length one.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import grad, logsumexp
    >>> grad(logsumexp)(np.log([1.0, 3.0]))
    array([0.25, 0.75])
    """
    a = as_array(a)
    axes = as_axes(axis, a.ndim)
    result = _logsumexp(a, axes)
    return (
        result if keepdims else np.reshape(result, tuple(n for i, n in enumerate(a.shape) if i not in axes))
    )


def log_softmax(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Compute the logarithm of the softmax, differentiable to any order.

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
