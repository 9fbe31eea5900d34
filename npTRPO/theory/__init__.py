"""The derivation of TRPO on finite MDPs, where every expectation is a sum and every equation can be checked.

The derivation has 58 numbered equations, E1 to E58; the docstring of what computes one has its number, and
``nptrpo verify`` prints them all with what was measured. Identities between rational functions are proved
besides, in exact arithmetic.

>>> import numpy as np
>>> from npTRPO.theory import random_mdp, value_iteration
>>> mdp = random_mdp(np.random.default_rng(0), n_states=4, n_actions=2, discount=0.9)
>>> uniform = np.full((4, 2), 0.5)
>>> mdp.evaluate(uniform).objective < value_iteration(mdp).objective
True
"""

from npTRPO.theory.environments import TabularEnv, mdp_from_gymnasium
from npTRPO.theory.exact import penalised_run, penalised_step, practical_run, practical_step, tabular_policy
from npTRPO.theory.mdp import Evaluation, TabularMDP
from npTRPO.theory.planning import Optimum, policy_iteration, value_iteration
from npTRPO.theory.random_mdps import random_mdp
from npTRPO.theory.report import Report, verify
from npTRPO.theory.simulation import simulate

__all__ = [
    "Evaluation",
    "Optimum",
    "Report",
    "TabularEnv",
    "TabularMDP",
    "mdp_from_gymnasium",
    "penalised_run",
    "penalised_step",
    "policy_iteration",
    "practical_run",
    "practical_step",
    "random_mdp",
    "simulate",
    "tabular_policy",
    "value_iteration",
    "verify",
]
