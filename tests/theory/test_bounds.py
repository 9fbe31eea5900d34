from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from npTRPO import DiagGaussian
from npTRPO.theory import TabularMDP
from npTRPO.theory.bounds import (
    average_bound,
    chi_squared,
    gaussian_chi_squared,
    mean_total_variation_bound,
    moved_to_better_actions,
    span_bound,
    squared_total_variation_bound,
    tighter_worst_case_bound,
    total_variation,
    visitation_bound,
    worst_case_bound,
)
from npTRPO.theory.exact import local_approximation, penalty
from npTRPO.theory.instances import SharpPair
from tests.strategies import instances
from tests.theory.oracles import assert_holds


@given(instances())
@settings(max_examples=20)
def test_e12_the_bound_in_kl_is_no_tighter_than_e11(instance):
    largest = float(np.max(instance.old_distribution.kl(instance.new_distribution)))
    assert worst_case_bound(instance) <= penalty(instance.old, instance.gamma) * largest * (1 + 1e-9) + 1e-15


@given(instances(), st.sampled_from([0.0, 1e-6, 1.0, 30.0]))
@settings(max_examples=20)
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
@settings(max_examples=10)
def test_without_a_discount_all_bounds_are_zero(instance):
    if instance.gamma == 0:
        assert worst_case_bound(instance) == average_bound(instance) == 0


@given(st.floats(1e-3, 0.5), st.floats(0, 0.99))
def test_e45_e47_e48_the_sharp_pair_by_geometric_series(alpha, gamma):
    """The new policy is still in state 0 after t steps with probability (1 − α)ᵗ; it gains ±2α per step."""
    pair = SharpPair.of(alpha, gamma)
    stays, ever = 1 / (1 - gamma * (1 - alpha)), 1 / (1 - gamma)
    size = 1e-12 * ever**2
    assert pair.old.objective == pytest.approx(0, abs=size)
    assert pair.new.objective == pytest.approx(2 * alpha * (2 * stays - ever), abs=size)
    error = 2 * alpha * ever - pair.new.objective
    assert tighter_worst_case_bound(pair) == pytest.approx(error, abs=size)
    moved = 2 * (1 - (1 - gamma) * stays)
    assert visitation_bound(pair) == pytest.approx(moved * ever / stays, abs=size)


def test_e46_the_worse_actions_lose_their_share_to_the_better_ones():
    now = SimpleNamespace(
        policy=np.array([[0.2, 0.3, 0.4, 0.1], [0.5, 0.5, 0.0, 0.0]]),
        advantages=np.array([[1.0, 2.0, -2.0, 0.0], [0.0, 0.0, 1.0, -1.0]]),
    )
    moved = moved_to_better_actions(now, 0.5)
    np.testing.assert_allclose(moved, [[0.28, 0.42, 0.2, 0.1], [0.5, 0.5, 0.0, 0.0]], rtol=1e-14)


def test_e49_a_constant_in_all_states_changes_nothing():
    def bound(constant):
        old = SimpleNamespace(
            policy=np.array([[0.5, 0.5], [0.5, 0.5]]),
            advantages=np.array([[3.0, 3.0], [1.0, 1.0]]) + constant,
            visitation=np.array([0.5, 0.5]),
        )
        return span_bound(SimpleNamespace(old=old, new=SimpleNamespace(policy=np.eye(2)), gamma=0.5))

    assert bound(0.0) == bound(100.0) == pytest.approx(0.5 / 0.25 * 2 * 0.5)


def test_e50_each_bound_is_attained_where_it_is_the_better_one():
    """Near (½, ½) TV² is KL / 2; for (1, 0) and (q, 1 − q) with a small q it is nearly 1 − exp(−KL)."""
    near = np.log(0.25 / (0.25 - 1e-8)) / 2
    assert squared_total_variation_bound(np.array(near)) == pytest.approx(1e-8, rel=1e-6)
    q = 1e-6
    assert squared_total_variation_bound(np.array(-np.log(q))) == pytest.approx((1 - q) ** 2, rel=2 * q)
    crossing = scipy.optimize.brentq(lambda kl: kl / 2 - 1 + np.exp(-kl), 1, 2)
    assert crossing == pytest.approx(1.594, abs=1e-3)
    for kl, right in ((crossing - 0.1, "pinsker"), (crossing + 0.1, "bretagnolle")):
        expected = kl / 2 if right == "pinsker" else 1 - np.exp(-kl)
        assert squared_total_variation_bound(np.array(kl)) == pytest.approx(expected)


def test_e55_chi_squared_by_hand_and_by_scipys_integration():
    assert chi_squared(np.array([[0.5, 0.5]]), np.array([[0.2, 0.8]])).item() == pytest.approx(0.09 / 0.16)
    old, new = (
        DiagGaussian(np.array([[0.3]]), np.array([-0.2])),
        DiagGaussian(np.array([[0.6]]), np.array([0.05])),
    )

    def ratio_squared(action):
        at = np.array([[action]])
        return np.exp(2 * new.log_prob(at) - old.log_prob(at)).item()

    integral, _ = scipy.integrate.quad(ratio_squared, -40, 40, points=[0.0, 1.0], limit=200)
    assert gaussian_chi_squared(new, old).item() == pytest.approx(integral - 1, rel=1e-8)


def test_e55_gaussian_weights_have_no_variance_once_kl_is_half_of_log_2_less_a_quarter():
    old, edge = DiagGaussian(np.zeros((1, 1)), np.zeros(1)), np.log(2) / 2
    for log_std, infinite in ((edge - 1e-6, False), (edge + 1e-6, True)):
        new = DiagGaussian(np.zeros((1, 1)), np.array([log_std]))
        assert np.isinf(gaussian_chi_squared(new, old).item()) == infinite
        assert old.kl(new).item() == pytest.approx(edge - 0.25, abs=1e-5)
