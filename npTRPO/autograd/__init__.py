"""Derivatives of plain NumPy code: forward mode, reverse mode, and both of any order.

>>> import numpy as np
>>> from npTRPO.autograd import grad
>>> grad(lambda x: np.sum(np.log(1 + np.exp(x))))(np.zeros(3))
array([0.5, 0.5, 0.5])
"""

import npTRPO.autograd.compositions
import npTRPO.autograd.linear_algebra
import npTRPO.autograd.methods  # noqa: F401 (the three register what they know)
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
