"""Oracles of the theory's tests: paths counted one by one, and equations held to their tolerances."""

import itertools
from typing import NamedTuple

import numpy as np

from npTRPO.theory.checks import AtMost, Equal, Estimate, threshold
from npTRPO.theory.derivation import CHECKS

# Estimates that a whole run of the tests may compare, generously.
ESTIMATES = 10**7


def assert_holds(number, instance):
    """Both sides of the equation agree on the instance, or keep their order."""
    [check] = [check for check in CHECKS if check.equation.number == number]
    for comparison in check.compare(instance):
        if isinstance(comparison, Equal):
            assert comparison.residual <= check.tolerance.value
        if isinstance(comparison, AtMost):
            assert comparison.slack >= -check.tolerance.value
        if isinstance(comparison, Estimate):
            assert comparison.deviation <= threshold(ESTIMATES)


class Path(NamedTuple):
    """One way things can go, and how probable it is."""

    probability: float
    states: tuple[int, ...]
    actions: tuple[int, ...]


def paths(mdp, policy, steps):
    """Every path of so many steps, in plain Python, those without probability included."""
    for states in itertools.product(range(mdp.n_states), repeat=steps + 1):
        for actions in itertools.product(range(mdp.n_actions), repeat=steps):
            probability = float(mdp.start[states[0]])
            for s, a, arrived in zip(states[:-1], actions, states[1:], strict=True):
                probability *= float(policy[s, a] * mdp.transition[s, a, arrived])
            yield Path(probability, states, actions)


def random_policy(mdp, rng):
    """A table (S, A) of positive probabilities."""
    return rng.dirichlet(np.ones(mdp.n_actions), mdp.n_states)
