"""Rules of SciPy's special functions that work element by element: their partial derivatives.

Functions that SciPy writes in Python, such as ``scipy.special.softmax``, can't be traced; ``softmax.py``
has those that networks use.
"""

import math
from typing import Any

import numpy as np
import scipy.special
from scipy.special import digamma

from npTRPO.autograd.tracer import define_constants, define_rule, primitive

# --- probabilities -----------------------------------------------------------------------------

define_rule(scipy.special.expit, lambda ans, x: ans * (1 - ans))
define_rule(scipy.special.log_expit, lambda ans, x: scipy.special.expit(-x))
define_rule(scipy.special.logit, lambda ans, x: 1 / (x * (1 - x)))
define_rule(scipy.special.erf, lambda ans, x: 2 / math.sqrt(math.pi) * np.exp(-x * x))
define_rule(scipy.special.erfc, lambda ans, x: -2 / math.sqrt(math.pi) * np.exp(-x * x))
define_rule(scipy.special.erfinv, lambda ans, x: math.sqrt(math.pi) / 2 * np.exp(ans * ans))
define_rule(scipy.special.erfcinv, lambda ans, x: -math.sqrt(math.pi) / 2 * np.exp(ans * ans))
define_rule(scipy.special.ndtr, lambda ans, x: np.exp(-x * x / 2) / math.sqrt(2 * math.pi))
define_rule(scipy.special.log_ndtr, lambda ans, x: np.exp(-x * x / 2 - ans) / math.sqrt(2 * math.pi))
define_rule(scipy.special.entr, lambda ans, x: -np.log(x) - 1)
# At 0 log 0, which is 0, the derivatives chosen are 0 as well.
define_rule(
    scipy.special.xlogy,
    lambda ans, x, y: np.log(_unless_pole(x, y, 0, ans)),
    lambda ans, x, y: x / _unless_pole(x, y, 0, ans),
)
define_rule(
    scipy.special.xlog1py,
    lambda ans, x, y: np.log1p(_unless_pole(x, y, -1, ans)),
    lambda ans, x, y: x / (1 + _unless_pole(x, y, -1, ans)),
)


def _unless_pole(x: Any, y: Any, pole: int, answer: Any) -> Any:
    """Return y in the answer's dtype, moved away from the logarithm's pole where x is 0 there."""
    y = y if hasattr(y, "dtype") else answer.dtype.type(y)
    return np.where(np.logical_and(x == 0, y == pole), pole + 1, y)


# --- gamma and beta functions ------------------------------------------------------------------


@primitive
def _polygamma(n: int, x: Any) -> Any:
    return scipy.special.polygamma(n, x).astype(np.result_type(x))


define_rule(scipy.special.gamma, lambda ans, x: ans * digamma(x))
define_rule(scipy.special.rgamma, lambda ans, x: -ans * digamma(x))
define_rule(scipy.special.gammaln, lambda ans, x: digamma(x))
define_rule(scipy.special.digamma, lambda ans, x: _polygamma(1, x))
define_rule(_polygamma, None, lambda ans, n, x: _polygamma(n + 1, x))
define_rule(
    scipy.special.beta,
    lambda ans, a, b: ans * (digamma(a) - digamma(a + b)),
    lambda ans, a, b: ans * (digamma(b) - digamma(a + b)),
)
define_rule(
    scipy.special.betaln,
    lambda ans, a, b: digamma(a) - digamma(a + b),
    lambda ans, a, b: digamma(b) - digamma(a + b),
)
define_rule(scipy.special.gammainc, None, lambda ans, a, x: _gamma_density(a, x))
define_rule(scipy.special.gammaincc, None, lambda ans, a, x: -_gamma_density(a, x))
define_rule(
    scipy.special.betainc,
    None,
    None,
    lambda ans, a, b, x: x ** (a - 1) * (1 - x) ** (b - 1) / scipy.special.beta(a, b),
)
define_constants(scipy.special.gammasgn)


def _gamma_density(a: Any, x: Any) -> Any:
    return np.exp(-x) * x ** (a - 1) / scipy.special.gamma(a)


# --- Bessel functions (DLMF 10.6.1, 10.29.1) -----------------------------------------------------

define_rule(scipy.special.j0, lambda ans, x: -scipy.special.j1(x))
define_rule(scipy.special.y0, lambda ans, x: -scipy.special.y1(x))
define_rule(scipy.special.i0, lambda ans, x: scipy.special.i1(x))
define_rule(scipy.special.j1, lambda ans, x: (scipy.special.j0(x) - scipy.special.jv(_two(ans), x)) / 2)
define_rule(scipy.special.y1, lambda ans, x: (scipy.special.y0(x) - scipy.special.yv(_two(ans), x)) / 2)
define_rule(scipy.special.i1, lambda ans, x: (scipy.special.i0(x) + scipy.special.iv(_two(ans), x)) / 2)
define_rule(scipy.special.i0e, lambda ans, x: scipy.special.i1e(x) - np.sign(x) * ans)
define_rule(
    scipy.special.i1e,
    lambda ans, x: (scipy.special.i0e(x) + scipy.special.ive(_two(ans), x)) / 2 - np.sign(x) * ans,
)
define_rule(
    scipy.special.jv, None, lambda ans, n, x: (scipy.special.jv(n - 1, x) - scipy.special.jv(n + 1, x)) / 2
)
define_rule(
    scipy.special.yv, None, lambda ans, n, x: (scipy.special.yv(n - 1, x) - scipy.special.yv(n + 1, x)) / 2
)
define_rule(
    scipy.special.iv, None, lambda ans, n, x: (scipy.special.iv(n - 1, x) + scipy.special.iv(n + 1, x)) / 2
)
define_rule(
    scipy.special.ive,
    None,
    lambda ans, n, x: (scipy.special.ive(n - 1, x) + scipy.special.ive(n + 1, x)) / 2 - np.sign(x) * ans,
)


def _two(answer: Any) -> Any:
    """Return the order 2 in the answer's dtype; SciPy would turn a Python number to float64."""
    return answer.dtype.type(2)
