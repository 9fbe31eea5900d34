"""Trust Region Policy Optimization in pure NumPy, with an autograd engine of its own."""

from npTRPO.policies import Bernoulli, Categorical, DiagGaussian, MultiCategorical, Policy
from npTRPO.trust_region import FisherOperator, conjugate_gradient, line_search

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiagGaussian",
    "FisherOperator",
    "MultiCategorical",
    "Policy",
    "conjugate_gradient",
    "line_search",
]
