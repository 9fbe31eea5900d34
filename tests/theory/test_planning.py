import itertools

import numpy as np
import pytest
from hypothesis import given

from npTRPO.theory import TabularMDP, policy_iteration, value_iteration
from tests.strategies import generators, mdps
from tests.theory.oracles import random_policy


@given(mdps(max_states=3, max_actions=3))
def test_no_deterministic_policy_is_better(mdp):
    tables = [
        np.eye(mdp.n_actions)[list(actions)]
        for actions in itertools.product(range(mdp.n_actions), repeat=mdp.n_states)
    ]
    best = np.max([mdp.evaluate(table).values for table in tables], axis=0)
    size = 1 + np.max(np.abs(best))
    for found in (value_iteration(mdp), policy_iteration(mdp)):
        np.testing.assert_allclose(found.values, best, rtol=0, atol=found.gap + 1e-12 * size)
        assert found.objective == pytest.approx(float(mdp.start @ best), abs=found.gap + 1e-12 * size)
        np.testing.assert_array_equal(np.sort(found.policy, axis=1)[:, -1], 1)


@given(mdps(), generators())
def test_no_policy_is_better_than_the_gap_allows(mdp, rng):
    some = mdp.evaluate(random_policy(mdp, rng)).values
    for found in (value_iteration(mdp, tolerance=1e-6), policy_iteration(mdp)):
        assert np.all(some <= found.values + found.gap + 1e-12 * (1 + np.max(np.abs(some))))


@given(mdps(max_discount=0.9))
def test_a_tolerance_is_kept(mdp):
    exact = policy_iteration(mdp).values
    rough = value_iteration(mdp, tolerance=0.1)
    assert rough.gap <= 0.1
    assert np.max(exact - rough.values) <= 0.1
    assert rough.iterations <= value_iteration(mdp).iterations


def test_a_tolerance_below_rounding_ends_with_the_gap_that_was_reached():
    mdp = TabularMDP(np.ones((1, 1, 1)), np.array([[1 / 3]]), np.ones(1), 0.9)
    found = value_iteration(mdp, tolerance=1e-300)
    assert found.gap <= 1e-13
    assert found.values[0] == pytest.approx(10 / 3, rel=1e-14)


def test_ties_do_not_keep_policy_iteration_from_ending():
    mdp = TabularMDP(np.full((3, 4, 3), 1 / 3), np.full((3, 4), 0.1), np.full(3, 1 / 3), 0.99)
    assert policy_iteration(mdp).iterations == 0


def test_a_tolerance_must_be_positive():
    mdp = TabularMDP(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones(1), 0.5)
    with pytest.raises(ValueError, match="tolerance must be positive, but it is 0"):
        value_iteration(mdp, tolerance=0)
