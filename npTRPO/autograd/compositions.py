"""NumPy functions that need no rule of their own: compositions, constants, and methods of arrays.

A function that can be written with others is traced as that composition; one that is locally
constant, or only depends on shapes, gives a plain array.
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from npTRPO.autograd.rules import as_array, as_axes, joined, max_over, mean_over, reshaped, sum_over
from npTRPO.autograd.tracer import Box, apply, as_operand, define_composition, define_constants


@define_composition(np.sum)
def _np_sum(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return sum_over(a, as_axes(axis, a.ndim), keepdims)


@define_composition(np.mean)
def _np_mean(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return mean_over(a, as_axes(axis, a.ndim), keepdims)


@define_composition(np.max)
def _np_max(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return max_over(a, as_axes(axis, a.ndim), keepdims)


@define_composition(np.min)
def _np_min(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return -max_over(-a, as_axes(axis, a.ndim), keepdims)


@define_composition(np.reshape)
def _np_reshape(a: Any, shape: Any) -> Any:
    return reshaped(a, shape)


@define_composition(np.ravel)
def _np_ravel(a: Any) -> Any:
    return reshaped(a, -1)


@define_composition(np.expand_dims)
def _np_expand_dims(a: Any, axis: Any) -> Any:
    return reshaped(a, np.expand_dims(np.empty(a.shape, dtype=bool), axis).shape)


@define_composition(np.squeeze)
def _np_squeeze(a: Any, axis: Any = None) -> Any:
    return reshaped(a, np.squeeze(np.empty(a.shape, dtype=bool), axis).shape)


@define_composition(np.swapaxes)
def _np_swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    order = list(range(a.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return np.transpose(a, order)


@define_composition(np.clip)
def _np_clip(a: Any, a_min: Any = None, a_max: Any = None) -> Any:
    a = a if a_min is None else np.maximum(a, a_min)
    return a if a_max is None else np.minimum(a, a_max)


@define_composition(np.concatenate)
def _np_concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    if axis is None:
        return joined(*(np.ravel(a) for a in arrays), axis=0)
    return joined(*(as_array(a) for a in arrays), axis=axis)


@define_composition(np.stack)
def _np_stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    return joined(*(np.expand_dims(as_array(a), axis) for a in arrays), axis=axis)


@define_composition(np.take_along_axis)
def _np_take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    arr, axis = (np.ravel(arr), 0) if axis is None else (arr, as_axes(axis, arr.ndim)[0])
    along = np.asarray(indices)
    if along.ndim != arr.ndim:
        raise ValueError(f"np.take_along_axis needs indices with {arr.ndim} axes, but they have {along.ndim}")
    index = [
        np.arange(n).reshape((1,) * i + (-1,) + (1,) * (arr.ndim - i - 1)) if i != axis else along
        for i, n in enumerate(arr.shape)
    ]
    return arr[tuple(index)]


@define_composition(np.full_like)
def _np_full_like(a: Any, fill_value: Any, dtype: Any = None) -> Any:
    if isinstance(fill_value, Box) and dtype is None:
        return np.broadcast_to(fill_value, a.shape)
    return np.full(a.shape, fill_value, a.dtype if dtype is None else dtype)


define_constants(
    *(np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal),
    *(np.logical_and, np.logical_or, np.logical_not, np.isfinite, np.isnan, np.isinf),
    *(np.sign, np.floor, np.ceil, np.rint, np.signbit, np.argmax, np.argmin, np.argsort),
    *(np.shape, np.ndim, np.size, np.zeros_like, np.ones_like, np.empty_like),
    *(np.result_type, np.all, np.any, np.isclose, np.allclose, np.array_equal, np.iscomplexobj),
)


# --- methods of arrays -----------------------------------------------------------------------------


def _method(function: Any) -> Any:
    def method(self: Box, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__name__ = function.__name__
    method.__doc__ = f"The same as ``np.{function.__name__}(self, ...)``."
    return method


for _function in (np.sum, np.mean, np.max, np.min, np.ravel, np.squeeze, np.swapaxes, np.clip, np.dot):
    setattr(Box, _function.__name__, _method(_function))


def _box_reshape(self: Box, *shape: Any) -> Any:
    return np.reshape(self, shape[0] if len(shape) == 1 else shape)


def _box_transpose(self: Box, *axes: Any) -> Any:
    return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)


def _box_getitem(self: Box, index: Any) -> Any:
    return apply(operator.getitem, (self, index), {})


def _box_pow(self: Box, other: Any) -> Any:
    return apply(operator.pow, (self, as_operand(other)), {})


def _box_rpow(self: Box, other: Any) -> Any:
    return apply(operator.pow, (as_operand(other), self), {})


for _name, _attribute in {
    "reshape": _box_reshape,
    "transpose": _box_transpose,
    "flatten": _method(np.ravel),
    "T": property(_box_transpose),
    "__getitem__": _box_getitem,
    "__pow__": _box_pow,
    "__rpow__": _box_rpow,
}.items():
    setattr(Box, _name, _attribute)
