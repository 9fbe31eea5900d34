"""Rules of the functions that work element by element: their partial derivatives.

Each partial derivative is written in functions that have rules themselves, so that it can be
differentiated again. Where a derivative doesn't exist, the one chosen is a subgradient: ties of
``np.maximum`` share equally, ``np.abs`` has 0 at 0, and ``np.clip`` has 1 at its bounds.
"""

import math
import operator
from typing import Any

import numpy as np
import scipy.special

from npTRPO.autograd.tracer import as_operand, define_composition, define_rule, primitive


def refuse_complex(function: str, x: Any) -> None:
    """Raise an error if x is complex: the function isn't analytic, so that it has no complex derivative."""
    if np.iscomplexobj(x):
        raise NotImplementedError(
            f"{function} of complex numbers has no derivative rule, as it isn't analytic: "
            f"keep real and imaginary parts in two real arrays"
        )


def mask(condition: Any, answer: Any) -> Any:
    """Return 0 and 1 in the dtype of the answer, so that multiplying by them changes no dtype."""
    return condition.astype(answer.dtype)


def _where_zero(x: Any, then: Any, otherwise: Any) -> Any:
    """Return np.where(x == 0, then, otherwise), but a Python number for one, which changes no dtype."""
    if isinstance(x, (int, float, complex)):
        return then if x == 0 else otherwise
    return np.where(x == 0, then, otherwise)


def _log(x: Any) -> Any:
    """Return np.log(x), a Python number for one."""
    return np.log(x).item() if isinstance(x, (int, float, complex)) else np.log(x)


# --- arithmetic --------------------------------------------------------------------------------

define_rule(np.add, lambda ans, x, y: 1, lambda ans, x, y: 1)
define_rule(np.subtract, lambda ans, x, y: 1, lambda ans, x, y: -1)
define_rule(np.multiply, lambda ans, x, y: y, lambda ans, x, y: x)
define_rule(np.divide, lambda ans, x, y: _inverse(ans, y), lambda ans, x, y: -ans / y)
define_rule(np.remainder, lambda ans, x, y: 1, lambda ans, x, y: -np.floor_divide(x, y))
define_rule(np.fmod, lambda ans, x, y: 1, lambda ans, x, y: -np.rint((x - ans) / y))
define_rule(np.positive, lambda ans, x: 1)
define_rule(np.negative, lambda ans, x: -1)
define_rule(np.square, lambda ans, x: 2 * x)
define_rule(np.reciprocal, lambda ans, x: -ans * ans)
define_rule(np.sqrt, lambda ans, x: 0.5 / ans)
define_rule(np.cbrt, lambda ans, x: 1 / (3 * ans * ans))


def _inverse(ans: Any, y: Any) -> Any:
    if isinstance(y, (int, float, complex)) and y == 0:
        return ans.dtype.type(1) / y  # warns, as NumPy does, where Python raises
    return 1 / y


def _power_of_x(ans: Any, x: Any, y: Any) -> Any:
    if isinstance(y, (int, float, complex)):
        return y * x ** (y - 1) if y != 0 else np.zeros_like(x)
    # x⁰ has derivative 0 also at x = 0, where x⁻¹ doesn't exist.
    return y * x ** np.where(np.logical_and(x == 0, y == 0), 1, y - 1)


def _power_of_y(ans: Any, x: Any, y: Any) -> Any:
    return ans * _log(_where_zero(x, 1, x))  # 0ʸ has derivative 0 in y > 0, where log 0 doesn't exist


for _power in (np.power, operator.pow):  # of NumPy's scalars, these two can differ in the last bit
    define_rule(_power, _power_of_x, _power_of_y)


def _abs_of_x(ans: Any, x: Any) -> Any:
    refuse_complex("np.absolute", x)
    return np.sign(x)


define_rule(np.absolute, _abs_of_x)
define_rule(np.fabs, _abs_of_x)


@primitive
def root(x: Any) -> Any:
    """Compute the square root, with derivative 0 at 0 as of a norm, whose subgradients include 0 there."""
    return np.sqrt(x)


define_rule(root, lambda ans, x: 0.5 / np.where(ans == 0, np.inf, ans))

# --- exponentials, logarithms, trigonometry -----------------------------------------------------

define_rule(np.exp, lambda ans, x: ans)
define_rule(np.exp2, lambda ans, x: ans * math.log(2))
define_rule(np.expm1, lambda ans, x: np.exp(x))  # ans + 1 would lose the digits of a small result
define_rule(np.log, lambda ans, x: 1 / x)
define_rule(np.log2, lambda ans, x: 1 / (x * math.log(2)))
define_rule(np.log10, lambda ans, x: 1 / (x * math.log(10)))
define_rule(np.log1p, lambda ans, x: 1 / (1 + x))
define_rule(np.logaddexp, lambda ans, x, y: _share(x, y, 1), lambda ans, x, y: _share(y, x, 1))
define_rule(
    np.logaddexp2,
    lambda ans, x, y: _share(x, y, math.log(2)),
    lambda ans, x, y: _share(y, x, math.log(2)),
)
define_rule(np.sin, lambda ans, x: np.cos(x))
define_rule(np.cos, lambda ans, x: -np.sin(x))
define_rule(np.tan, lambda ans, x: 1 + ans * ans)
define_rule(np.arcsin, lambda ans, x: 1 / np.sqrt((1 - x) * (1 + x)))
define_rule(np.arccos, lambda ans, x: -1 / np.sqrt((1 - x) * (1 + x)))
define_rule(np.arctan, lambda ans, x: 1 / (1 + x * x))
define_rule(np.sinh, lambda ans, x: np.cosh(x))
define_rule(np.cosh, lambda ans, x: np.sinh(x))
define_rule(np.tanh, lambda ans, x: 1 - ans * ans)
define_rule(np.arcsinh, lambda ans, x: 1 / np.sqrt(1 + x * x))
define_rule(np.arccosh, lambda ans, x: 1 / (np.sqrt(x - 1) * np.sqrt(x + 1)))
define_rule(np.arctanh, lambda ans, x: 1 / ((1 - x) * (1 + x)))
define_rule(
    np.arctan2,
    lambda ans, y, x: _over(_over(x, np.hypot(x, y)), np.hypot(x, y)),
    lambda ans, y, x: -_over(_over(y, np.hypot(x, y)), np.hypot(x, y)),
)
define_rule(np.hypot, lambda ans, x, y: _over(x, ans), lambda ans, x, y: _over(y, ans))
_convert: Any
for _convert in (np.radians, np.deg2rad):
    define_rule(_convert, lambda ans, x: math.pi / 180)
for _convert in (np.degrees, np.rad2deg):
    define_rule(_convert, lambda ans, x: 180 / math.pi)


def _share(x: Any, y: Any, scale: float) -> Any:
    """Return the derivative of log(eˣ + eʸ) in x; of two equal infinities each has half of it."""
    with np.errstate(invalid="ignore"):
        difference = np.where(np.logical_and(x == y, np.isinf(y)), 0, x - y)
    return scipy.special.expit(scale * difference)


def _over(x: Any, length: Any) -> Any:
    """Divide a coordinate by the length; where that is 0, the result is 0."""
    return x / np.where(length == 0, 1, length)


# --- comparisons -------------------------------------------------------------------------------


def _won(wins: Any, ties: Any, answer: Any) -> Any:
    """Return 1 where an argument is the result and 1/2 where both are."""
    return mask(wins + 0.5 * ties, answer)


define_rule(
    np.maximum, lambda ans, x, y: _won(x > y, x == y, ans), lambda ans, x, y: _won(x < y, x == y, ans)
)
define_rule(
    np.minimum, lambda ans, x, y: _won(x < y, x == y, ans), lambda ans, x, y: _won(x > y, x == y, ans)
)
# These two pass over not-a-numbers.
define_rule(
    np.fmax,
    lambda ans, x, y: _won(np.logical_or(x > y, np.isnan(y)), x == y, ans),
    lambda ans, x, y: _won(np.logical_or(x < y, np.isnan(x)), x == y, ans),
)
define_rule(
    np.fmin,
    lambda ans, x, y: _won(np.logical_or(x < y, np.isnan(y)), x == y, ans),
    lambda ans, x, y: _won(np.logical_or(x > y, np.isnan(x)), x == y, ans),
)


@primitive
def _at_least(x: Any, bound: Any) -> Any:
    return np.maximum(x, bound)


@primitive
def _at_most(x: Any, bound: Any) -> Any:
    return np.minimum(x, bound)


define_rule(_at_least, lambda ans, x, b: mask(x >= b, ans), lambda ans, x, b: mask(x < b, ans))
define_rule(_at_most, lambda ans, x, b: mask(x <= b, ans), lambda ans, x, b: mask(x > b, ans))


@define_composition(np.clip)
def _np_clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:  # noqa: A002
    lowest, highest = a_min if min is None else min, a_max if max is None else max
    a = a if lowest is None else _at_least(a, as_operand(lowest))
    return a if highest is None else _at_most(a, as_operand(highest))
