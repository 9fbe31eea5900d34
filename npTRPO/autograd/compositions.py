"""NumPy functions that move, join and choose elements, as compositions; and those without derivatives.

A function that can be written with others is traced as that composition; one that is locally
constant, or only depends on shapes, gives a plain array.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npTRPO.autograd.elementwise import refuse_complex
from npTRPO.autograd.rules import as_array, as_axes, cast, joined, reshaped, scattered
from npTRPO.autograd.tracer import Box, as_plain, define_composition, define_constants

_function: Callable[..., Any]

# --- shapes ----------------------------------------------------------------------------------------


@define_composition(np.reshape)
def _np_reshape(a: Any, /, shape: Any, order: Any = "C", *, copy: bool | None = None) -> Any:
    if order == "F":
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        return np.transpose(reshaped(np.transpose(as_array(a)), shape[::-1]))
    if order != "C":
        raise NotImplementedError(
            f"np.reshape has no derivative rule for order={order!r}, only for 'C' and 'F'"
        )
    return reshaped(a, shape)


@define_composition(np.ravel)
def _np_ravel(a: Any, order: Any = "C") -> Any:
    return np.reshape(a, -1, order=order)


def _define_reshaping(function: Callable[..., Any]) -> None:
    """Trace a function that changes the shape alone: what NumPy gives for an empty array tells which."""

    def reshaping(a: Any, *args: Any, **kwargs: Any) -> Any:
        return reshaped(a, function(np.empty(np.shape(a), dtype=bool), *args, **kwargs).shape)

    define_composition(function)(reshaping)


for _function in (np.expand_dims, np.squeeze):
    _define_reshaping(_function)


def _define_transposition(function: Callable[..., Any]) -> None:
    """Trace a function that moves axes: where NumPy moves those of lengths 0, 1, 2, ... tells the order."""

    def transposition(a: Any, *args: Any, **kwargs: Any) -> Any:
        return np.transpose(a, function(np.empty(range(a.ndim)), *args, **kwargs).shape)

    define_composition(function)(transposition)


for _function in (np.swapaxes, np.moveaxis, np.rollaxis, np.matrix_transpose):
    _define_transposition(_function)


def _define_atleast(function: Callable[..., Any]) -> None:
    def atleast(*arrays: Any) -> Any:
        results = tuple(reshaped(a, function(np.empty(np.shape(a), dtype=bool)).shape) for a in arrays)
        return results if len(results) != 1 else results[0]

    define_composition(function)(atleast)


for _function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    _define_atleast(_function)


@define_composition(np.broadcast_arrays)
def _np_broadcast_arrays(*args: Any) -> Any:
    shape = np.broadcast_shapes(*(np.shape(a) for a in args))
    return tuple(np.broadcast_to(a, shape) for a in args)


@define_composition(np.astype)
def _np_astype(x: Any, dtype: Any, /, *, copy: bool = True) -> Any:
    dtype = np.dtype(dtype)
    if dtype.kind not in "fc" or (dtype.kind == "f" and np.iscomplexobj(x)):
        raise TypeError(
            f"an array of {np.result_type(x)} that is being differentiated can't be converted to {dtype}, "
            f"which would lose its derivative"
        )
    return cast(x, dtype)


@define_composition(np.copy)
def _np_copy(a: Any, order: str = "K") -> Any:
    return np.positive(a)


# --- where elements go -------------------------------------------------------------------------------


def _define_rearrangement(function: Callable[..., Any]) -> None:
    """Trace a function that puts elements elsewhere: what it does to their numbers tells where."""

    def rearrangement(a: Any, *args: Any, **kwargs: Any) -> Any:
        a = as_array(a)
        return _gathered(a, function(_numbered(a), *map(as_plain, args), **kwargs))

    define_composition(function)(rearrangement)


def _numbered(a: Any) -> Any:
    return np.arange(a.size).reshape(a.shape)


def _gathered(a: Any, numbers: Any) -> Any:
    # With one index along one axis, adding up in the transpose is three times as fast.
    return np.reshape(np.ravel(a)[np.ravel(numbers)], np.shape(numbers))


for _function in (
    *(np.roll, np.rot90, np.tile, np.repeat, np.take, np.delete, np.resize, np.diagonal),
    *(np.lib.stride_tricks.sliding_window_view, np.fft.fftshift, np.fft.ifftshift),
):
    _define_rearrangement(_function)


@define_composition(np.compress)
def _np_compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    return np.take(a, np.flatnonzero(condition), axis)


@define_composition(np.flip)
def _np_flip(m: Any, axis: int | Sequence[int] | None = None) -> Any:
    axes = as_axes(axis, m.ndim)
    return m[tuple(slice(None, None, -1 if i in axes else 1) for i in range(m.ndim))]


@define_composition(np.flipud)
def _np_flipud(m: Any) -> Any:
    return np.flip(m, 0)


@define_composition(np.fliplr)
def _np_fliplr(m: Any) -> Any:
    return np.flip(m, 1)


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


@define_composition(np.pad)
def _np_pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    if mode == "constant":
        frame = np.pad(np.zeros(array.shape, array.dtype), pad_width, mode, **kwargs)
        [start] = np.argwhere(np.pad(np.ones((1,) * array.ndim, bool), pad_width))
        index = tuple(slice(i, i + n) for i, n in zip(start, array.shape, strict=True))
        return frame + scattered(array, index, frame.shape)
    if callable(mode) or mode in ("linear_ramp", "maximum", "mean", "median", "minimum", "empty"):
        raise NotImplementedError(f"np.pad has no derivative rule for mode={mode!r}")
    return _gathered(array, np.pad(_numbered(array), pad_width, mode, **kwargs))


@define_composition(np.diag)
def _np_diag(v: Any, k: int = 0) -> Any:
    if v.ndim > 2:
        raise ValueError(f"np.diag needs a vector or a matrix, but it has {v.ndim} axes")
    if v.ndim != 1:
        return np.diagonal(v, k)
    row, column = np.nonzero(np.diag(np.ones(len(v)), k))
    return scattered(v, (row, column), np.diag(np.empty(len(v)), k).shape)


@define_composition(np.trace)
def _np_trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


@define_composition(np.tril)
def _np_tril(m: Any, k: int = 0) -> Any:
    return np.where(np.tril(np.ones(m.shape[-2:], bool), k), m, 0)


@define_composition(np.triu)
def _np_triu(m: Any, k: int = 0) -> Any:
    return np.where(np.triu(np.ones(m.shape[-2:], bool), k), m, 0)


@define_composition(np.diff)
def _np_diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    ends = [prepend, a, append]
    shape = [1 if i == as_axes(axis, a.ndim)[0] else side for i, side in enumerate(a.shape)]
    parts = [
        np.broadcast_to(part, shape) if np.ndim(part) == 0 else part for part in ends if part is not None
    ]
    a = np.concatenate(parts, axis) if len(parts) > 1 else a
    a = np.moveaxis(a, axis, 0)
    for _ in range(n):
        a = a[1:] - a[:-1]
    return np.moveaxis(a, 0, axis)


# --- joining and splitting ---------------------------------------------------------------------------


@define_composition(np.concatenate)
def _np_concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    if axis is None:
        return joined(*(np.ravel(a) for a in arrays), axis=0)
    return joined(*(as_array(a) for a in arrays), axis=axis)


@define_composition(np.stack)
def _np_stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    return joined(*(np.expand_dims(as_array(a), axis) for a in arrays), axis=axis)


@define_composition(np.vstack)
def _np_vstack(tup: Sequence[Any]) -> Any:
    return np.concatenate([np.atleast_2d(as_array(a)) for a in tup], 0)


@define_composition(np.hstack)
def _np_hstack(tup: Sequence[Any]) -> Any:
    arrays = [np.atleast_1d(as_array(a)) for a in tup]
    return np.concatenate(arrays, 0 if arrays[0].ndim == 1 else 1)


@define_composition(np.dstack)
def _np_dstack(tup: Sequence[Any]) -> Any:
    return np.concatenate([np.atleast_3d(as_array(a)) for a in tup], 2)


@define_composition(np.column_stack)
def _np_column_stack(tup: Sequence[Any]) -> Any:
    arrays = [as_array(a) for a in tup]
    return np.concatenate([np.reshape(a, (-1, 1)) if a.ndim < 2 else a for a in arrays], 1)


@define_composition(np.append)
def _np_append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return np.concatenate([as_array(arr), as_array(values)], axis)


def _define_splitting(function: Callable[..., Any], axis_of: Callable[[int], int] | None) -> None:
    """Trace a function that cuts an array along an axis: where it cuts the row numbers tells where."""

    def splitting(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
        axis = axis if axis_of is None else axis_of(ary.ndim)
        cut = np.array_split if function is np.array_split else np.split
        before = (slice(None),) * as_axes(axis, ary.ndim)[0]
        parts = cut(np.arange(ary.shape[axis]), indices_or_sections)
        return [ary[(*before, slice(p[0], p[-1] + 1) if len(p) else slice(0, 0))] for p in parts]

    define_composition(function)(splitting)


_define_splitting(np.split, None)
_define_splitting(np.array_split, None)
_define_splitting(np.vsplit, lambda ndim: 0)
_define_splitting(np.hsplit, lambda ndim: min(1, ndim - 1))
_define_splitting(np.dsplit, lambda ndim: 2)

# --- choosing ----------------------------------------------------------------------------------------


@define_composition(np.full_like)
def _np_full_like(a: Any, fill_value: Any, dtype: Any = None) -> Any:
    dtype = a.dtype if dtype is None else np.dtype(dtype)
    if not isinstance(fill_value, Box):
        return np.full(a.shape, fill_value, dtype)
    filled = np.broadcast_to(fill_value, a.shape)
    return filled if filled.dtype == dtype else np.astype(filled, dtype)


@define_composition(np.select)
def _np_select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = np.where(as_plain(condition), choice, result)
    return result


@define_composition(np.nan_to_num)
def _np_nan_to_num(x: Any, copy: bool = True, **kwargs: Any) -> Any:
    return np.where(np.isfinite(x), x, np.nan_to_num(as_plain(x), **kwargs))


def _define_for_reals(function: Callable[..., Any], imaginary: bool = False) -> None:
    """Trace a function of complex numbers for real ones, where it is linear; elsewhere it isn't analytic."""

    def for_reals(x: Any) -> Any:
        refuse_complex(f"np.{function.__name__}", x)
        return np.zeros(np.shape(x), x.dtype) if imaginary else np.positive(x)

    define_composition(function)(for_reals)


_define_for_reals(np.real)
_define_for_reals(np.conjugate)
_define_for_reals(np.imag, imaginary=True)


@define_composition(np.sign)
def _np_sign(x: Any) -> Any:
    refuse_complex("np.sign", x)
    return np.sign(as_plain(x))


# --- what has no derivatives -------------------------------------------------------------------------

define_constants(
    *(np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal),
    *(np.logical_and, np.logical_or, np.logical_not, np.logical_xor, np.isfinite, np.isnan, np.isinf),
    *(np.floor, np.ceil, np.rint, np.trunc, np.fix, np.round, np.around, np.floor_divide, np.signbit),
    *(np.argmax, np.argmin, np.argsort, np.argpartition, np.argwhere, np.nonzero, np.flatnonzero),
    *(np.count_nonzero, np.searchsorted, np.digitize, np.shape, np.ndim, np.size),
    *(np.zeros_like, np.ones_like, np.empty_like, np.result_type),
    *(np.all, np.any, np.isclose, np.allclose, np.array_equal, np.isposinf, np.isneginf),
    *(np.iscomplexobj, np.isrealobj, np.iscomplex, np.isreal),
)
