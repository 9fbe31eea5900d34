"""Trust Region Policy Optimization in pure NumPy, with an autograd engine of its own.

>>> from npTRPO import TRPO, evaluate_policy
>>> agent = TRPO("MlpPolicy", "CartPole-v1", seed=0).learn(total_timesteps=2048)
>>> mean, std = evaluate_policy(agent, "CartPole-v1", n_eval_episodes=5)

What is imported from here is loaded when it is first asked for, so that importing the package costs
nothing, and the command can still set up NumPy before NumPy is there.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npTRPO._version import __version__
    from npTRPO.agent import TRPO, CheckpointError, TRPOConfig, evaluate_policy
    from npTRPO.policies import Bernoulli, Beta, Categorical, DiagGaussian, MultiCategorical, Policy
    from npTRPO.sampling import gae
    from npTRPO.trust_region.conjugate_gradient import conjugate_gradient
    from npTRPO.trust_region.fisher import FisherOperator
    from npTRPO.trust_region.line_search import line_search

__all__ = [
    "TRPO",
    "Bernoulli",
    "Beta",
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

_ROOMS = {
    "_version": ["__version__"],
    "agent": ["TRPO", "CheckpointError", "TRPOConfig", "evaluate_policy"],
    "policies": ["Bernoulli", "Beta", "Categorical", "DiagGaussian", "MultiCategorical", "Policy"],
    "sampling": ["gae"],
    "trust_region": ["FisherOperator", "conjugate_gradient", "line_search"],
}


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(importlib.import_module(f"npTRPO.{room}"), name)
    raise AttributeError(f"module 'npTRPO' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
