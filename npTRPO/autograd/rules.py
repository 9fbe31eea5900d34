"""Rules of the functions that pick, join and move elements: a linear map and its transpose.

They are written in NumPy calls that have rules themselves. ``compositions.py`` expresses by them whatever
else only moves elements.
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from npTRPO.autograd.tracer import (
    Box,
    LinearMap,
    broadcast,
    define_rule,
    define_variadic_rule,
    primitive,
    unbroadcast,
)


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
    axes = tuple(int(a) % ndim for a in axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis {axis} has an axis twice")
    return axes


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
def cast(x: Any, dtype: Any) -> Any:
    """Convert to another floating-point dtype; a complex number is never cut to its real part."""
    x = np.asarray(x)
    return x.astype(np.result_type(dtype, np.complex64) if x.dtype.kind == "c" else dtype)


def _cast_rule(answer: Any, x: Any, dtype: Any) -> LinearMap:
    before = x.dtype
    return LinearMap(lambda t: cast(t, dtype), lambda g: cast(g, before))


define_rule(cast, _cast_rule)
