"""Derivatives of functions of arrays: each transform is a few lines around :func:`linearize`.

All of them take ``f``, a function of one array (or of one tuple of arrays) written in plain NumPy,
that returns one array (or a tuple of arrays), and all of them can be nested.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npTRPO.autograd.tracer import Box, Edges, LinearMap, LostDerivativeError, Trace

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Linearization:
    """A function near one point, recorded once: its value there and its Jacobian as two products.

    Attributes
    ----------
    value : array or tuple of arrays
        f(x).
    """

    value: Any
    _shapes: tuple[tuple[int, ...], ...]  # of the inputs
    _outputs: tuple[tuple[int | None, tuple[int, ...], Any], ...]  # tape position (or None), shape, dtype
    # The calls that lead to an output: position, edges, and parents that no later call needs.
    _steps: tuple[tuple[int, Edges, set[int]], ...]
    _tuple_in: bool
    _tuple_out: bool

    def jvp(self, v: Any) -> Any:
        """Compute the Jacobian-vector product J v, the derivative of f at x along ``v`` (shaped as x)."""
        given = _checked("jvp", v, self._tuple_in, self._shapes)
        tangents = dict(enumerate(given))
        for index, edges, done in self._steps:
            parts = (linear.jvp(tangents[parent]) for parent, linear in edges)
            tangents[index] = functools.reduce(operator.add, parts)
            for parent in done:  # to keep them would cost 4 % of a Fisher product, as caches are small
                del tangents[parent]
        found = (
            tangents[index] if index in tangents else np.zeros(shape, dtype)
            for index, shape, dtype in self._outputs
        )
        results = _unshared(found, given)
        return results if self._tuple_out else results[0]

    def vjp(self, u: Any, visit: Callable[[LinearMap, Any], bool] | None = None) -> Any:
        """Compute the vector-Jacobian product Jᵀ u, the gradient of ⟨u, f(x)⟩ in x, for ``u`` shaped as f(x).

        ``visit(linear, g)``, if given, is called for each linear map that f was recorded as, from the last
        to the first, with the cotangent g of the map's result. Where it returns True, nothing is carried back
        through that map: it has taken what it needs. (Carrying it back would take 2 % of an update.)
        """
        given = _checked("vjp", u, self._tuple_out, tuple(shape for _, shape, _ in self._outputs))
        cotangents: dict[int, Any] = {}
        for (index, _, _), g in zip(self._outputs, given, strict=True):
            if index is not None:
                _add(cotangents, index, g)
        for index, edges, _ in reversed(self._steps):
            if index not in cotangents:  # all that leads here was taken
                continue
            g = cotangents.pop(index)
            for parent, linear in edges:
                if visit is None or not visit(linear, g):
                    _add(cotangents, parent, linear.vjp(g))
        dtype = given[0].dtype if given else None
        found = (
            cotangents[i] if i in cotangents else np.zeros(shape, dtype)
            for i, shape in enumerate(self._shapes)
        )
        results = _unshared(found, given)
        return results if self._tuple_in else results[0]


def linearize(f: Function, x: Any) -> Linearization:
    """Run ``f`` once at ``x`` and keep its Jacobian there as a pair of matrix-free products.

    Parameters
    ----------
    f : callable
        Plain NumPy code of one array, or of one tuple of arrays.
    x : array or tuple of arrays
        Real or complex floating point; the dtype is kept.

    Returns
    -------
    Linearization
        With ``value``, ``jvp(v)`` and ``vjp(u)``, which can be applied any number of times; neither
        runs ``f`` again.

    Notes
    -----
    ``x`` is copied, and no result shares memory with it or with another. Other arrays that ``f`` uses
    are not copied: leave them as they are for as long as the products are needed.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import linearize
    >>> lin = linearize(lambda x: x * x[::-1], np.array([2.0, 3.0]))
    >>> lin.value, lin.jvp(np.array([1.0, 0.0])), lin.vjp(np.array([1.0, 0.0]))
    (array([6., 6.]), array([3., 3.]), array([3., 2.]))
    """
    tuple_in = isinstance(x, tuple)
    inputs = tuple(_floating(part) for part in (x if tuple_in else (x,)))
    trace = Trace()
    boxes = tuple(trace.box(part, ()) for part in inputs)
    try:
        result = f(boxes if tuple_in else boxes[0])
    except ValueError as error:
        if isinstance(error.__cause__, LostDerivativeError):
            raise error.__cause__ from None  # of a[0] = x, NumPy only says that x is a sequence
        raise
    finally:
        trace.open = False
    tuple_out = isinstance(result, tuple)
    positions, values = [], []
    for part in result if tuple_out else (result,):
        traced = isinstance(part, Box) and part.recorder is trace
        positions.append(part.index if traced else None)
        values.append(_returned(part.value if traced else part))
    needed = {index for index in positions if index is not None}
    steps = []
    for index in reversed(range(len(inputs), len(trace.tape))):
        if index in needed:
            edges = trace.tape[index]
            done = {parent for parent, _ in edges} - needed  # no later step needs them
            needed |= done
            steps.append((index, edges, done))
    return Linearization(
        value=tuple(values) if tuple_out else values[0],
        _shapes=tuple(part.shape for part in inputs),
        _outputs=tuple((i, v.shape, v.dtype) for i, v in zip(positions, values, strict=True)),
        _steps=tuple(reversed(steps)),
        _tuple_in=tuple_in,
        _tuple_out=tuple_out,
    )


def vjp(f: Function, x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the value of ``f`` at ``x`` and its pullback ``u ↦ Jᵀ u`` (reverse mode)."""
    lin = linearize(f, x)
    return lin.value, lin.vjp


def jvp(f: Function, x: Any, v: Any) -> tuple[Any, Any]:
    """Return the value of ``f`` at ``x`` and its derivative J v along ``v`` (forward mode)."""
    lin = linearize(f, x)
    return lin.value, lin.jvp(v)


def value_and_grad(f: Function) -> Callable[[Any], tuple[Any, Any]]:
    """Return a function that computes f(x), a scalar, together with its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import value_and_grad
    >>> value, gradient = value_and_grad(lambda x: np.sum(np.exp(x)))(np.zeros(2))
    >>> float(value), gradient
    (2.0, array([1., 1.]))
    """

    def of(x: Any) -> tuple[Any, Any]:
        lin = linearize(f, x)
        if isinstance(lin.value, tuple) or lin.value.shape != ():
            came = "a tuple" if isinstance(lin.value, tuple) else f"shape {lin.value.shape}"
            raise ValueError(
                f"a gradient needs a function with a scalar value, but this one returned {came}: "
                f"sum it, or use jacobian or vjp"
            )
        return lin.value, lin.vjp(np.ones_like(lin.value))

    return of


def grad(f: Function) -> Function:
    """Return the gradient of a scalar function, by reverse mode.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import grad
    >>> W = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> grad(lambda x: np.sum(np.tanh(x @ W)))(np.zeros(2))
    array([3., 7.])
    >>> float(grad(grad(grad(np.sin)))(0.0))
    -1.0
    """
    return lambda x: value_and_grad(f)(x)[1]


def hvp(f: Function, x: Any, v: Any) -> Any:
    """Compute the Hessian-vector product of a scalar function, the derivative of its gradient along ``v``.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import hvp
    >>> hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    return jvp(grad(f), x, v)[1]


def jacobian(f: Function) -> Function:
    """Return the Jacobian of a function of one array, ``f(x).shape + x.shape``, by the cheaper mode.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import jacobian
    >>> jacobian(lambda x: np.stack([x[0] * x[1], x[0]]))(np.array([2.0, 3.0]))
    array([[3., 2.],
           [1., 0.]])
    """

    def of(x: Any) -> Any:
        lin = linearize(f, x)
        if isinstance(x, tuple) or isinstance(lin.value, tuple):
            raise TypeError("jacobian works on a function of one array with one array as its value")
        outer, inner = lin.value.shape, np.shape(x)
        wide = math.prod(outer) <= math.prod(inner)
        product, shape, axis = (lin.vjp, outer, 0) if wide else (lin.jvp, inner, -1)
        n = math.prod(shape)
        if not n:
            return np.zeros(outer + inner, lin.value.dtype)
        units = np.eye(n, dtype=lin.value.dtype).reshape((n, *shape))
        return np.reshape(np.stack([product(unit) for unit in units], axis), outer + inner)

    return of


def hessian(f: Function) -> Function:
    """Return the Hessian of a scalar function of one array, shaped ``x.shape + x.shape``."""
    return jacobian(grad(f))


def _floating(x: Any) -> Any:
    """Return the array to differentiate in, copied, so that changing x later changes no derivative."""
    if isinstance(x, (dict, tuple, list)) and _holds_arrays(x):
        raise TypeError(
            f"derivatives need an array or a tuple of arrays, but x is or holds a {type(x).__name__}: "
            f"give all arrays in one tuple, and put them in their places inside the function, as in "
            f"grad(lambda arrays: f(dict(zip(x, arrays))))(tuple(x.values())) for a dict x"
        )
    array = x if isinstance(x, Box) else np.array(x)
    if array.dtype.kind not in "fc":
        raise TypeError(
            f"derivatives need floating-point numbers, but x has dtype {array.dtype}: "
            f"use np.asarray(x, float)"
        )
    return array


def _holds_arrays(x: Any) -> bool:
    """Return whether a container is more than a list of numbers."""
    return not isinstance(x, list) or any(isinstance(part, (Box, np.ndarray, dict, tuple)) for part in x)


def _returned(value: Any) -> Any:
    """Return what a function gave as an array, copied, as rules may look at it again."""
    if isinstance(value, Box):
        return value
    array = None if isinstance(value, (dict, tuple)) else np.array(value)
    if array is None or array.dtype.kind not in "biufc":
        raise TypeError(
            f"a function to differentiate must return an array or a tuple of arrays, "
            f"but this one returned a {type(value).__name__}"
        )
    return array


def _unshared(results: Iterable[Any], given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy arrays that are views, were given or come twice, so that each result can be written into."""
    taken, own = {id(part) for part in given}, []
    for result in results:
        shared = isinstance(result, np.ndarray) and (not result.flags.owndata or id(result) in taken)
        own.append(result.copy() if shared else result)
        taken.add(id(result))
    return tuple(own)


def _checked(
    product: str, given: Any, is_tuple: bool, shapes: tuple[tuple[int, ...], ...]
) -> tuple[Any, ...]:
    """Return the parts of a tangent or cotangent, after checking their shapes."""
    parts = tuple(given) if is_tuple else (given,)
    parts = tuple(part if isinstance(part, Box) else np.asarray(part) for part in parts)
    came = tuple(part.shape for part in parts)
    if came != shapes:
        raise ValueError(f"{product} needs shape {_one(shapes)}, but the given vector has shape {_one(came)}")
    return parts


def _add(cotangents: dict[int, Any], index: int, g: Any) -> None:
    cotangents[index] = cotangents[index] + g if index in cotangents else g


def _one(shapes: tuple[tuple[int, ...], ...]) -> Any:
    return shapes[0] if len(shapes) == 1 else shapes
