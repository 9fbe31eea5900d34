"""Trust Region Policy Optimization in pure NumPy, with an autograd engine of its own.

>>> from npTRPO import TRPO, evaluate_policy
>>> agent = TRPO("MlpPolicy", "CartPole-v1", seed=0).learn(total_timesteps=2048)
>>> mean, std = evaluate_policy(agent, "CartPole-v1", n_eval_episodes=5)
"""

from npTRPO._version import __version__
from npTRPO.agent import TRPO, CheckpointError, TRPOConfig, evaluate_policy
from npTRPO.policies import Bernoulli, Categorical, DiagGaussian, MultiCategorical, Policy
from npTRPO.sampling import gae
from npTRPO.trust_region import FisherOperator, conjugate_gradient, line_search

__all__ = [
    "TRPO",
    "Bernoulli",
    "Categorical",
    "CheckpointError",
    "DiagGaussian",
    "FisherOperator",
    "MultiCategorical",
    "Policy",
    "TRPOConfig",
    "__version__",
    "conjugate_gradient",
    "evaluate_policy",
    "gae",
    "line_search",
]
