"""Derivatives of plain NumPy code: forward mode, reverse mode, and both of any order.

>>> import numpy as np
>>> from npTRPO.autograd import grad
>>> grad(lambda x: np.sum(np.log(1 + np.exp(x))))(np.zeros(3))
array([0.5, 0.5, 0.5])

NumPy's arithmetic, elementary functions, reductions, products of arrays, linear algebra and what
moves, joins, splits and chooses elements are covered, and special functions of SciPy;
:func:`supported_functions` lists them. All others say so when they are called. Functions that are
analytic can also be differentiated at complex points.
"""

import npTRPO.autograd.compositions
import npTRPO.autograd.linear_algebra
import npTRPO.autograd.methods
import npTRPO.autograd.special  # noqa: F401 (the four register what they know)
from npTRPO.autograd.checks import check_derivatives
from npTRPO.autograd.softmax import log_softmax, logsumexp, softmax
from npTRPO.autograd.tracer import LinearMap, define_rule, primitive, supported_functions
from npTRPO.autograd.transforms import (
    Linearization,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    linearize,
    value_and_grad,
    vjp,
)

__all__ = [
    "LinearMap",
    "Linearization",
    "check_derivatives",
    "define_rule",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "linearize",
    "log_softmax",
    "logsumexp",
    "primitive",
    "softmax",
    "supported_functions",
    "value_and_grad",
    "vjp",
]
