"""The methods and properties by which a traced array looks like a NumPy array."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from npTRPO.autograd.tracer import Box, apply, as_operand


def _method(function: Callable[..., Any]) -> Any:
    def method(self: Box, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__name__ = function.__name__
    method.__doc__ = f"The same as ``np.{function.__name__}(self, ...)``."
    return method


def _reshape(self: Box, *shape: Any, order: Any = "C") -> Any:
    return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)


def _transpose(self: Box, *axes: Any) -> Any:
    return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)


def _compress(self: Box, condition: Any, axis: int | None = None) -> Any:
    return np.compress(condition, self, axis)


def _sort(self: Box, *args: Any, **kwargs: Any) -> Any:
    raise TypeError(
        "an array that is being differentiated can't be sorted in place: write x = np.sort(x), not x.sort()"
    )


def _number(self: Box, *args: Any) -> Any:
    raise TypeError(
        "item() and tolist() of an array that is being differentiated would lose its derivative: "
        "an element x[i] can be used as a number"
    )


def _getitem(self: Box, index: Any) -> Any:
    return apply(operator.getitem, (self, index), {})


def _pow(self: Box, other: Any) -> Any:
    return apply(operator.pow, (self, as_operand(other)), {})


def _rpow(self: Box, other: Any) -> Any:
    return apply(operator.pow, (as_operand(other), self), {})


for _name in ("shape", "ndim", "size", "dtype"):
    setattr(
        Box, _name, property(operator.attrgetter(f"value.{_name}"), doc=f"The same as ``ndarray.{_name}``.")
    )
for _function in (
    *(np.sum, np.prod, np.mean, np.var, np.std, np.max, np.min, np.cumsum, np.clip, np.round),
    *(np.ravel, np.squeeze, np.swapaxes, np.diagonal, np.trace, np.take, np.repeat),
    *(np.dot, np.copy, np.astype, np.conjugate, np.all, np.any, np.argmax, np.argmin, np.argsort),
    *(np.argpartition, np.nonzero, np.searchsorted),
):
    setattr(Box, _function.__name__, _method(_function))
for _name, _attribute in {
    "conj": _method(np.conjugate),
    "compress": _compress,
    "reshape": _reshape,
    "transpose": _transpose,
    "flatten": _method(np.ravel),
    "sort": _sort,
    "item": _number,
    "tolist": _number,
    "T": property(_transpose),
    "mT": property(_method(np.matrix_transpose)),
    "real": property(_method(np.real)),
    "imag": property(_method(np.imag)),
    "__getitem__": _getitem,
    "__pow__": _pow,
    "__rpow__": _rpow,
}.items():
    setattr(Box, _name, _attribute)
