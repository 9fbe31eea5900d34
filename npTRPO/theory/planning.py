"""The best policy of a finite MDP, by value iteration and by policy iteration."""

from dataclasses import dataclass

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.mdp import TabularMDP


@dataclass(frozen=True, eq=False)
class Optimum:
    """A best policy and its value.

    Attributes
    ----------
    policy : array, shape (S, A)
        A deterministic policy, as a table of zeros and ones.
    values : array, shape (S,)
        Its values V*.
    objective : float
        Its J.
    iterations : int
        Sweeps over the states, or changes of the policy.
    gap : float
        No policy's values exceed these by more.
    """

    policy: Array
    values: Array
    objective: float
    iterations: int
    gap: float


def value_iteration(mdp: TabularMDP, tolerance: float = 1e-10) -> Optimum:
    """Iterate V ← max_a [r + γPV] until it is known to be near V*.

    Parameters
    ----------
    mdp : TabularMDP
    tolerance : float
        Largest gap between the values of the policy found and V*, in units of the values; the iteration
        also ends when rounding lets V change no further, and ``gap`` tells what was reached.

    Returns
    -------
    Optimum
        Of the policy that is greedy for the last V, with its own exact values. As ‖TV − V*‖ ≤ γ/(1 − γ)
        ‖TV − V‖ for the map T that is iterated, they fall short of V* by at most 2γ/(1 − γ) ‖TV − V‖.

    References
    ----------
    Puterman 1994, "Markov decision processes", theorem 6.3.1.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, but it is {tolerance!r}")
    gamma = mdp.discount
    values, iterations, change = np.zeros(mdp.n_states), 0, np.inf
    while True:
        action_values = mdp.reward + gamma * (mdp.transition @ values)
        iterations += 1
        previous, change = change, float(np.max(np.abs(np.max(action_values, axis=1) - values)))
        values = np.max(action_values, axis=1)
        gap = 2 * gamma / (1 - gamma) * change
        # T is a contraction: its changes shrink until there is only rounding left of them.
        if gap <= tolerance or change >= previous:
            break
    policy = np.eye(mdp.n_actions)[np.argmax(mdp.reward + gamma * (mdp.transition @ values), axis=1)]
    found = mdp.evaluate(policy)
    return Optimum(policy, found.values, found.objective, iterations, gap)


def policy_iteration(mdp: TabularMDP) -> Optimum:
    """Evaluate a policy exactly, make it greedy, repeat until no action is better.

    Returns
    -------
    Optimum
        ``gap`` is max_s,a A(s, a) / (1 − γ), which is zero up to rounding.

    References
    ----------
    Puterman 1994, "Markov decision processes", section 6.4.
    """
    actions = np.argmax(mdp.reward, axis=1)
    states = np.arange(mdp.n_states)
    iterations = 0
    while True:
        now = mdp.evaluate(np.eye(mdp.n_actions)[actions])
        best = np.argmax(now.action_values, axis=1)
        gain = now.action_values[states, best] - now.values
        # Rounding of the values can't be told from an improvement, and may go in circles.
        rounding = 1e-13 * max(1.0, float(np.max(np.abs(now.values)))) / (1 - mdp.discount)
        if not np.any(gain > rounding):
            gap = float(np.max(gain)) / (1 - mdp.discount)
            return Optimum(now.policy, now.values, now.objective, iterations, gap)
        actions = np.where(gain > rounding, best, actions)
        iterations += 1
