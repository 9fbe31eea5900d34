from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO.theory import TabularMDP
from npTRPO.theory.bounds import average_bound, mean_total_variation_bound, total_variation, worst_case_bound
from npTRPO.theory.exact import local_approximation, penalty
from tests.strategies import instances
from tests.theory.oracles import assert_holds


@given(instances())
def test_e12_the_bound_in_kl_is_no_tighter_than_e11(instance):
    largest = float(np.max(instance.old_distribution.kl(instance.new_distribution)))
    assert worst_case_bound(instance) <= penalty(instance.old, instance.gamma) * largest * (1 + 1e-9) + 1e-15


@given(instances(), st.sampled_from([0.0, 1e-6, 1.0, 30.0]))
def test_e11_e13_hold_for_policies_that_are_the_same_near_or_far(instance, distance):
    direction = instance.rng(111).standard_normal(instance.theta.size)
    moved = replace(instance, new_theta=instance.theta + distance * direction)
    for number in ("E11", "E13"):
        assert_holds(number, moved)


def test_e13_can_not_be_improved_by_a_factor_of_five():
    """A rare way into a state where the new policy does better: the surrogate does not see it coming."""
    # In state 0, action 1 goes to state 1; there is reward 1 in state 1 only, if its action 1 is taken.
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 1] = 1
    reward = np.array([[0.0, 0.0], [0.0, 1.0]])
    gamma, tiny = 0.5, 1e-6
    mdp = TabularMDP(transition, reward, np.array([1.0, 0.0]), gamma)
    old = mdp.evaluate(np.array([[1 - tiny, tiny], [1 - tiny, tiny]]))
    shifted = np.array([[1 - 2 * tiny, 2 * tiny], [0.0, 1.0]])
    error = mdp.evaluate(shifted).objective - local_approximation(old, shifted, gamma)
    gain = np.max(np.abs(np.sum(shifted * old.advantages, axis=1)))
    distance = float(old.visitation @ total_variation(old.policy, shifted))
    bound = 2 * gamma * gain / (1 - gamma) ** 2 * distance
    assert 0 < error <= bound
    assert error > 0.2 * bound  # a constant five times smaller would be wrong


@pytest.mark.parametrize("gamma", [0.3, 0.9, 0.99])
def test_e11_and_e13_grow_with_the_horizon_as_the_error_does(gamma):
    """A small risk of never coming back, which the surrogate takes as if one came back after every step."""
    # Action 1 leaves state 0, where there is no reward, for state 1, where it is −1 ever after.
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 1] = 1
    mdp = TabularMDP(transition, np.array([[0.0, 0.0], [-1.0, -1.0]]), np.array([1.0, 0.0]), gamma)
    risk = 1e-3
    old = mdp.evaluate(np.array([[1.0, 0.0], [1.0, 0.0]]))
    new = mdp.evaluate(np.array([[1 - risk, risk], [1.0, 0.0]]))
    pair: Any = SimpleNamespace(old=old, new=new, gamma=gamma)
    error = new.objective - local_approximation(old, new.policy, gamma)
    # By summing the geometric series of both objectives.
    assert error == pytest.approx(
        gamma**2 * risk**2 / ((1 - gamma) ** 2 * (1 - gamma + gamma * risk)), rel=1e-6
    )
    assert average_bound(pair) == pytest.approx(2 * (1 + gamma * risk / (1 - gamma)) * error, rel=1e-6)
    assert worst_case_bound(pair) == pytest.approx(2 * average_bound(pair), rel=1e-9)


def test_e14_is_attained_to_first_order():
    """Pinsker's ½ can't be improved: near (½, ½), TV² is KL / 2."""
    old, new = np.array([[0.5, 0.5]]), np.array([[0.5 + 1e-4, 0.5 - 1e-4]])
    kl = float(np.sum(old * np.log(old / new)))
    assert mean_total_variation_bound(kl) == pytest.approx(total_variation(old, new).item(), rel=1e-6)


def test_total_variation_is_between_0_and_1():
    old, new = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.5, 0.5]])
    np.testing.assert_array_equal(total_variation(old, new), [1, 0])


@given(instances())
def test_without_a_discount_all_bounds_are_zero(instance):
    if instance.gamma == 0:
        assert worst_case_bound(instance) == average_bound(instance) == 0
