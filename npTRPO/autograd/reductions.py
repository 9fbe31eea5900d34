"""Reductions: sums, products, extremes, norms and what is made of them, over any axes.

``sum_over``, ``mean_over`` and ``max_over`` have rules, and so have products and cumulative sums; the
rest are compositions.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npTRPO.autograd.elementwise import refuse_complex, root
from npTRPO.autograd.rules import as_array, as_axes
from npTRPO.autograd.tracer import LinearMap, define_composition, define_rule, primitive

Axis = int | Sequence[int] | None


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


def _kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a reduction with keepdims."""
    return tuple(1 if i in axis else n for i, n in enumerate(shape))


@primitive
def product_over(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Multiply over the axes given, which are not negative."""
    return np.prod(x, axis=axis, keepdims=keepdims)


def _product_rule(answer: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> LinearMap:
    """Differentiate a product: the derivative in each factor is the product of the others."""
    kept = _kept(x.shape, axis)
    if np.all(x != 0):
        others = np.reshape(answer, kept) / x
    else:  # the products of all factors before, times those of all after
        order = axis + tuple(i for i in range(x.ndim) if i not in axis)
        front = np.transpose(x, order)
        factors = np.reshape(front, (math.prod(front.shape[: len(axis)]), -1))
        before, after = [np.ones_like(factors[0])], [np.ones_like(factors[0])]
        for i in range(len(factors) - 1):
            before.append(before[-1] * factors[i])
            after.append(after[-1] * factors[-1 - i])
        others = np.stack([b * a for b, a in zip(before, reversed(after), strict=True)])
        others = np.transpose(np.reshape(others, front.shape), np.argsort(order))
    return LinearMap(lambda t: sum_over(t * others, axis, keepdims), lambda g: np.reshape(g, kept) * others)


define_rule(product_over, _product_rule)


@primitive
def _cumulative(x: Any, axis: int) -> Any:
    return np.cumsum(x, axis)


def _cumulative_rule(answer: Any, x: Any, axis: int) -> LinearMap:
    def vjp(g: Any) -> Any:
        return np.flip(_cumulative(np.flip(g, axis), axis), axis)

    return LinearMap(lambda t: _cumulative(t, axis), vjp)


define_rule(_cumulative, _cumulative_rule)


# --- NumPy's functions ---------------------------------------------------------------------------


def _terms(a: Any, dtype: Any, where: Any, otherwise: float) -> Any:
    """Return what is reduced: in the dtype asked for, with the neutral element where it doesn't count."""
    a = as_array(a) if dtype is None else np.astype(a, dtype)
    return a if where is True else np.where(where, a, otherwise)


def _reduction(over: Callable[..., Any], neutral: float, combine: Callable[..., Any]) -> Callable[..., Any]:
    """Return NumPy's reduction that combines elements as ``over`` does; ``neutral`` changes nothing in it."""

    def reduce(
        a: Any,
        axis: Axis = None,
        dtype: Any = None,
        *,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        a = _terms(a, dtype, where, neutral)
        total = over(a, as_axes(axis, a.ndim), keepdims)
        return total if initial is None else combine(total, initial)

    return reduce


define_composition(np.sum)(_reduction(sum_over, 0, operator.add))
define_composition(np.prod)(_reduction(product_over, 1, operator.mul))


@define_composition(np.mean)
def _np_mean(
    a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, where: Any = True
) -> Any:
    if where is not True:
        total = np.sum(a, axis, dtype, keepdims=keepdims, where=where)
        count = np.sum(np.broadcast_to(where, np.shape(a)), axis, keepdims=keepdims)
        return total / count.astype(total.dtype)
    a = _terms(a, dtype, True, 0)
    return mean_over(a, as_axes(axis, a.ndim), keepdims)


@define_composition(np.var)
def _np_var(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
    correction: float | None = None,
) -> Any:
    refuse_complex("np.var", a)
    a = _terms(a, dtype, True, 0)
    axes = as_axes(axis, a.ndim)
    count = math.prod(a.shape[i] for i in axes)
    deviations = a - sum_over(a, axes, True) / count
    degrees = max(count - (ddof if correction is None else correction), 0)
    return sum_over(deviations * deviations, axes, keepdims) / degrees


@define_composition(np.std)
def _np_std(*args: Any, **kwargs: Any) -> Any:
    return root(np.var(*args, **kwargs))


@define_composition(np.max, np.amax)
def _np_max(a: Any, axis: Axis = None, *, keepdims: bool = False, initial: Any = None) -> Any:
    axes = as_axes(axis, a.ndim)
    if initial is not None and any(a.shape[i] == 0 for i in axes):
        return np.sum(a, axes, keepdims=keepdims) + initial  # of no elements
    largest = max_over(a, axes, keepdims)
    return largest if initial is None else np.maximum(largest, initial)


@define_composition(np.min, np.amin)
def _np_min(a: Any, axis: Axis = None, *, keepdims: bool = False, initial: Any = None) -> Any:
    return -_np_max(-a, axis, keepdims=keepdims, initial=None if initial is None else -initial)


@define_composition(np.ptp)
def _np_ptp(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.max(a, axis, keepdims=keepdims) - np.min(a, axis, keepdims=keepdims)


@define_composition(np.average)
def _np_average(a: Any, axis: Axis = None, weights: Any = None, *, keepdims: bool = False) -> Any:
    a = as_array(a)
    if weights is None:
        return np.mean(a, axis, keepdims=keepdims)
    weights = as_array(weights)
    if weights.shape != a.shape:  # one for each place along an axis, or several
        axes = as_axes(axis, a.ndim)
        weights = np.reshape(weights, tuple(n if i in axes else 1 for i, n in enumerate(a.shape)))
        weights = np.broadcast_to(weights, a.shape)
    scale = np.sum(weights, axis, keepdims=keepdims)
    if np.any(scale == 0):
        raise ZeroDivisionError("np.average needs weights that do not sum to zero")
    return np.sum(a * weights, axis, keepdims=keepdims) / scale


@define_composition(np.cumsum)
def _np_cumsum(a: Any, axis: int | None = None, dtype: Any = None) -> Any:
    a = _terms(a, dtype, True, 0)
    a, axis = (np.ravel(a), 0) if axis is None else (a, as_axes(axis, a.ndim)[0])
    return _cumulative(a, axis)


def _norm_of_vectors(size: Any, order: float, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Compute the norm of any order of vectors along one axis, from their elements' absolute values."""
    if order == np.inf:
        return np.max(size, axes, keepdims=keepdims, initial=0)
    if order == -np.inf:
        return np.min(size, axes, keepdims=keepdims)
    if order == 0:
        return np.sum((size != 0).astype(size.dtype), axes, keepdims=keepdims)
    total = np.sum(size**order, axes, keepdims=keepdims)
    if order < 0:
        return total ** (1 / order)
    return np.where(total == 0, 0, np.where(total == 0, 1, total) ** (1 / order))


@define_composition(np.linalg.norm)
def _np_norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:  # noqa: A002
    refuse_complex("np.linalg.norm", x)
    x = as_array(x)
    axes = as_axes(axis, x.ndim)
    if ord is None or (ord, len(axes)) in {("fro", 2), (2, 1)}:
        if axis is None:
            flat = np.ravel(x)
            return np.reshape(root(np.dot(flat, flat)), (1,) * x.ndim if keepdims else ())
        return root(np.sum(x * x, axes, keepdims=keepdims))
    size = np.abs(x)
    if len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):
        # The largest or the smallest of the sums of columns (±1) or rows (±∞).
        added, compared = axes if abs(ord) == 1 else axes[::-1]
        sums = np.sum(size, added, keepdims=True)
        extreme = (np.max if ord > 0 else np.min)(sums, compared, keepdims=True)
        return extreme if keepdims else np.squeeze(extreme, axes)
    if len(axes) == 1:
        return _norm_of_vectors(size, ord, axes, keepdims)
    raise NotImplementedError(f"np.linalg.norm has no derivative rule for ord={ord!r} over {len(axes)} axes")


@define_composition(np.sort)
def _np_sort(a: Any, axis: int | None = -1, *, stable: Any = None) -> Any:
    a, axis = (np.ravel(a), -1) if axis is None else (a, axis)
    return np.take_along_axis(a, np.argsort(a, axis, stable=True), axis)


@define_composition(np.partition)
def _np_partition(a: Any, kth: Any, axis: int | None = -1) -> Any:
    a, axis = (np.ravel(a), -1) if axis is None else (a, axis)
    return np.take_along_axis(a, np.argpartition(a, kth, axis), axis)
