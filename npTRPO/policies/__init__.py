"""Policies: networks with one flat parameter vector, and distributions over actions."""

from npTRPO.policies.beta import Beta
from npTRPO.policies.distributions import Bernoulli, Categorical, DiagGaussian, Distribution, MultiCategorical
from npTRPO.policies.mlp import MLP
from npTRPO.policies.network import FunctionNetwork, Network
from npTRPO.policies.policy import Policy

__all__ = [
    "MLP",
    "Bernoulli",
    "Beta",
    "Categorical",
    "DiagGaussian",
    "Distribution",
    "FunctionNetwork",
    "MultiCategorical",
    "Network",
    "Policy",
]
