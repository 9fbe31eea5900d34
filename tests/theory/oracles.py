"""What the theory is compared with: paths counted one by one, and statements held to their word."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from npTRPO.theory import TabularMDP
from npTRPO.theory.instances import Instance
from npTRPO.theory.derivation import STATEMENTS
from npTRPO.theory.checks import AtMost, Equal, Estimate, threshold

BY_NUMBER = {statement.number: statement for statement in STATEMENTS}

# Estimates that a whole run of the tests may compare, generously.
ESTIMATES = 10**7


def failures(number: str, instance: Instance) -> list[str]:
    """What is wrong with a statement on an instance, if anything."""
    statement = BY_NUMBER[number]
    found = []
    for comparison in statement.measure(instance):
        if isinstance(comparison, Equal) and not comparison.residual <= statement.tolerance:
            found.append(f"{number}: residual {comparison.residual}")
        if isinstance(comparison, AtMost) and not comparison.slack >= -statement.tolerance:
            found.append(f"{number}: slack {comparison.slack}")
        if isinstance(comparison, Estimate) and not comparison.deviation <= threshold(ESTIMATES):
            found.append(f"{number}: {comparison.deviation} standard errors")
    return found


def assert_holds(number: str, instance: Instance) -> None:
    """Both sides of the statement agree on the instance, or keep their order."""
    assert failures(number, instance) == []


class Path(NamedTuple):
    """One way things can go, and how probable it is."""

    probability: float
    states: tuple[int, ...]
    actions: tuple[int, ...]


def paths(mdp: TabularMDP, policy: np.ndarray, steps: int) -> Iterator[Path]:
    """Every path of so many steps, in plain Python, those without probability included."""
    for states in itertools.product(range(mdp.n_states), repeat=steps + 1):
        for actions in itertools.product(range(mdp.n_actions), repeat=steps):
            probability = float(mdp.start[states[0]])
            for s, a, arrived in zip(states[:-1], actions, states[1:], strict=True):
                probability *= float(policy[s, a] * mdp.transition[s, a, arrived])
            yield Path(probability, states, actions)


def random_policy(mdp: TabularMDP, rng: np.random.Generator) -> np.ndarray:
    """A table (S, A) of positive probabilities."""
    return rng.dirichlet(np.ones(mdp.n_actions), mdp.n_states)
