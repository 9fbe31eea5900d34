"""Boxes, tapes and levels: how plain NumPy code is recorded while it runs.

A :class:`Box` stands in for an array. NumPy hands every call that meets one to the box
(``__array_ufunc__`` and ``__array_function__``), and the box evaluates the call on the value it
holds and writes one entry on the tape of its :class:`Trace`: which earlier entries the arguments
came from, and which linear map leads from each of them to the result. Nothing in this file knows
any NumPy function; the linear maps come from the rules registered with :func:`define_rule`.

Derivatives of derivatives need no code of their own. Every differentiation opens a trace with a
level higher than all before it; a call is recorded by the trace with the highest level among its
arguments, and evaluated on values that may be boxes of a lower one, which record it in turn.
Levels count upwards for the life of the process and are never reused, so a box that outlives its
trace is recognised and refused instead of giving a wrong gradient.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

_levels = itertools.count()


class LinearMap(NamedTuple):
    """The derivative of a call in one of its arguments, as a pair of products.

    Both functions are linear and each is the other's transpose (not its conjugate transpose, so
    that complex-step differentiation works through them). They are written in NumPy calls that have
    rules themselves, and so can be differentiated again.
    """

    jvp: Callable[[Any], Any]
    """Tangent of the argument to tangent of the result."""
    vjp: Callable[[Any], Any]
    """Cotangent of the result to cotangent of the argument."""


Edges = tuple[tuple[int, LinearMap], ...]
"""One recorded call: the tape position of each traced argument, and the map from it to the result."""

_F = TypeVar("_F", bound=Callable[..., Any])
Rule = Callable[[int, Any, tuple[Any, ...], dict[str, Any]], LinearMap]

_rules: dict[Callable[..., Any], Rule] = {}
_compositions: dict[Callable[..., Any], Callable[..., Any]] = {}
_constants: set[Callable[..., Any]] = set()


class LostDerivativeError(TypeError):
    """A traced array was to become a plain one."""


class Trace:
    """The tape of one differentiation."""

    __slots__ = ("level", "open", "tape")

    def __init__(self) -> None:
        self.level = next(_levels)
        self.tape: list[Edges] = []
        self.open = True

    def box(self, value: Any, edges: Edges) -> Box:
        """Write a call on the tape and return the box that stands for its result."""
        self.tape.append(edges)
        return Box(value, self, len(self.tape) - 1)


class Box(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that is being differentiated through; it looks like the array it holds.

    Its methods and properties are in methods.py.
    """

    __slots__ = ("index", "recorder", "value")

    def __init__(self, value: Any, trace: Trace, index: int) -> None:
        self.value = value
        self.recorder = trace
        self.index = index

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise NotImplementedError(
                f"{_name(ufunc)}.{method} has no derivative rule; use the function it stands for, "
                f"such as np.sum for np.add.reduce"
            )
        if kwargs:
            if "out" in kwargs:
                raise _writes(ufunc)
            raise NotImplementedError(
                f"{_name(ufunc)} with {', '.join(sorted(kwargs))} has no derivative rule"
            )
        return apply(ufunc, tuple(map(as_operand, inputs)), {})

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return apply(func, args, kwargs)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise LostDerivativeError(
            "an array that is being differentiated can't be turned into a plain one (by np.asarray, np.array,"
            " an assignment to a plain array, or a function that does so inside): use np.stack to build "
            "an array from traced parts, and logsumexp, log_softmax and softmax of npTRPO.autograd, "
            "not those of SciPy"
        )

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "an array that is being differentiated can't be assigned to in place: "
            "build the result with np.where, np.concatenate or np.stack"
        )

    def __float__(self) -> float:
        raise LostDerivativeError(
            "float() of an array that is being differentiated would lose its derivative: use NumPy's "
            "functions instead of those of math, and instead of assigning to an element of a plain array "
            "build the result with np.stack, np.where or np.concatenate"
        )

    def __int__(self) -> int:
        raise LostDerivativeError("int() of an array that is being differentiated would lose its derivative")

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self.__getitem__(i) for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Box({self.value!r})"

    def __getattr__(self, name: str) -> Any:
        if hasattr(np.ndarray, name) and not name.startswith("__"):
            raise AttributeError(
                f"ndarray.{name} has no derivative rule; numpy functions get one with "
                f"npTRPO.autograd.define_rule"
            )
        raise AttributeError(f"'Box' object has no attribute {name!r}")


def apply(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Evaluate ``function`` and record it on the tape of the innermost trace among its arguments."""
    rule = _rules.get(function)
    if rule is None:
        return _without_rule(function, args, kwargs)
    trace: Trace | None = None
    for a in args:
        if isinstance(a, Box) and (trace is None or a.recorder.level > trace.level):
            trace = a.recorder
    if trace is None or (kwargs and any(isinstance(v, Box) for v in kwargs.values())):
        raise _no_rule(function)
    if not trace.open:
        raise RuntimeError(
            f"{_name(function)} met an array of a differentiation that has already ended: "
            f"return values from the function instead of storing them while it is differentiated"
        )
    values = tuple([a.value if isinstance(a, Box) and a.recorder is trace else a for a in args])
    answer = function(*values, **kwargs)
    if not isinstance(answer, (np.ndarray, np.generic, Box)):
        answer = np.asarray(answer)  # a primitive may return a Python number
    edges = [
        (argument.index, rule(position, answer, values, kwargs))
        for position, argument in enumerate(args)
        if isinstance(argument, Box) and argument.recorder is trace
    ]
    return trace.box(answer, tuple(edges))


def _without_rule(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Evaluate a function that is expressed by others, or is locally constant."""
    composition = _compositions.get(function)
    if composition is not None:
        if kwargs.get("out") is not None:
            raise _writes(function)
        try:
            return composition(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # from inside the composition; else the call itself has arguments it doesn't know
            raise NotImplementedError(
                f"no derivative rule for this call of {_name(function)}: {error}"
            ) from None
    if function in _constants:
        return function(*map(as_plain, args), **{name: as_plain(value) for name, value in kwargs.items()})
    raise _no_rule(function)


def _writes(function: Callable[..., Any]) -> TypeError:
    return TypeError(
        f"{_name(function)} would write into an existing array, which can't be traced: "
        f"write x = x + y instead of x += y, and do without out="
    )


def _no_rule(function: Callable[..., Any]) -> NotImplementedError:
    return NotImplementedError(
        f"{_name(function)} has no derivative rule; give it one with "
        f"npTRPO.autograd.define_rule({_name(function)}, ...) or write it with functions that have one"
    )


def define_rule(function: Callable[..., Any], *derivatives: Callable[..., Any] | None) -> None:
    """Define the derivative of a function.

    Parameters
    ----------
    function : callable
        A NumPy or SciPy function, or one of your own marked with :func:`primitive`.
    *derivatives : callable or None
        One for each positional argument, called as ``derivative(answer, *args, **kwargs)`` with
        what the function returned and was given. It returns the partial derivative as an array, for
        a function that works element by element (broadcasting is taken care of), or a
        :class:`LinearMap`. None: the function can't be differentiated in that argument.

    Notes
    -----
    Write derivatives in NumPy calls that have rules, and keep float32 as float32 and complex as
    complex: then all orders, dtypes and complex-step differentiation work.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import exp1
    >>> from npTRPO.autograd import define_rule, grad
    >>> define_rule(exp1, lambda answer, x: -np.exp(-x) / x)
    >>> round(float(grad(exp1)(1.0)), 6)
    -0.367879
    """
    if not callable(function):
        raise TypeError(f"define_rule needs a function to define a rule for, not {function!r}")
    if not derivatives:
        raise TypeError(f"define_rule({_name(function)}) needs one derivative for each positional argument")

    def rule(position: int, answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LinearMap:
        derivative = derivatives[position] if position < len(derivatives) else None
        if derivative is None:
            raise NotImplementedError(
                f"{_name(function)} has no derivative rule for its argument number {position + 1}"
            )
        result = derivative(answer, *args, **kwargs)
        if isinstance(result, LinearMap):
            return result
        return _elementwise(result, args[position], answer)

    _rules[function] = rule


def define_variadic_rule(function: Callable[..., Any], derivative: Callable[..., LinearMap]) -> None:
    """Define the derivative of a function of any number of arguments, which also gets the position."""
    _rules[function] = lambda position, answer, args, kwargs: derivative(position, answer, *args, **kwargs)


def define_composition(*functions: Callable[..., Any]) -> Callable[[_F], _F]:
    """Trace functions as the decorated one, which writes them with functions that have rules."""

    def register(composition: _F) -> _F:
        _compositions.update(dict.fromkeys(functions, composition))
        return composition

    return register


def define_constants(*functions: Callable[..., Any]) -> None:
    """Declare functions as locally constant, or as functions of shapes alone: their results aren't traced."""
    _constants.update(functions)


def supported_functions() -> dict[str, Callable[..., Any]]:
    """Return the NumPy and SciPy functions that derivatives pass through, by name.

    Those that are locally constant, such as np.sign, or only look at shapes are among them.

    Examples
    --------
    >>> from npTRPO.autograd import supported_functions
    >>> "np.tanh" in supported_functions()
    True
    """
    named = {_name(function): function for function in {*_rules, *_compositions, *_constants}}
    return {name: named[name] for name in sorted(named) if name.startswith(("np.", "scipy."))}


def primitive(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of your own one recorded step, with the rule given by :func:`define_rule`.

    Inside it any Python is allowed, as it never sees a traced array.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.autograd import define_rule, grad, primitive
    >>> @primitive
    ... def cube(x):
    ...     return x**3
    >>> define_rule(cube, lambda answer, x: 3 * x * x)
    >>> float(grad(cube)(2.0))
    12.0
    """

    @functools.wraps(function)
    def step(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            if isinstance(value, Box):
                return apply(step, args, kwargs)
        if kwargs and any(isinstance(value, Box) for value in kwargs.values()):
            return apply(step, args, kwargs)
        return function(*args, **kwargs)

    return step


def as_operand(argument: Any) -> Any:
    """Convert a list to an array, as operators do; a number stays one, so that it changes no dtype."""
    return np.asarray(argument) if isinstance(argument, (list, tuple)) else argument


def unbroadcast(cotangent: Any, shape: tuple[int, ...]) -> Any:
    """Apply the transpose of broadcasting from ``shape``: sum over the axes along which copies were made."""
    if cotangent.shape == shape:
        return cotangent
    if cotangent.ndim == 2 and cotangent.shape[1:] == shape:
        return np.ones(len(cotangent), cotangent.dtype) @ cotangent  # the sum over rows, by BLAS
    extra = cotangent.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and cotangent.shape[extra + i] != 1
    )
    return np.reshape(np.sum(cotangent, axis=axes), shape)


def broadcast(tangent: Any, shape: tuple[int, ...]) -> Any:
    """Broadcast to ``shape``, or the array itself if it has that shape already."""
    return tangent if tangent.shape == shape else np.broadcast_to(tangent, shape)


def _elementwise(partial: Any, argument: Any, answer: Any) -> LinearMap:
    """Multiply by a partial derivative; 1 and −1 (as Python numbers) are not multiplied out."""
    inner, outer = getattr(argument, "shape", None), answer.shape  # np.shape of a box would be traced
    inner = np.shape(argument) if inner is None else inner
    if isinstance(partial, int) and partial == 1:
        return LinearMap(lambda t: broadcast(t, outer), lambda g: unbroadcast(g, inner))
    if isinstance(partial, int) and partial == -1:
        return LinearMap(lambda t: broadcast(-t, outer), lambda g: -unbroadcast(g, inner))
    return LinearMap(lambda t: broadcast(t * partial, outer), lambda g: unbroadcast(g * partial, inner))


def as_plain(argument: Any) -> Any:
    """Return the array inside all boxes, for what doesn't depend on it or is constant around it."""
    while isinstance(argument, Box):
        argument = argument.value
    if isinstance(argument, (list, tuple)):
        return type(argument)(as_plain(a) for a in argument)
    return argument


def _name(function: Callable[..., Any]) -> str:
    """Return the function's name as a user writes it."""
    name = getattr(function, "__name__", repr(function))
    if isinstance(function, np.ufunc):
        return f"np.{name}" if getattr(np, name, None) is function else f"scipy.special.{name}"
    module = getattr(function, "__module__", None) or ""
    package, *rest = module.split(".")
    return ".".join(["np", *rest, name]) if package == "numpy" else name
