import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npTRPO import gae
from npTRPO.theory import TabularMDP
from npTRPO.theory.estimators import Experience, gae_bias, k_step_estimates
from npTRPO.theory.simulation import all_paths, simulate
from tests.strategies import fractions, instances


def test_e40_by_hand():
    estimates = k_step_estimates(np.array([1.0, 2.0]), np.array([10.0, 20.0, 30.0]), 0.5)
    assert estimates.tolist() == [-10 + 1 + 0.5 * 20, -10 + 1 + 0.5 * 2 + 0.25 * 30]


@given(fractions, fractions, st.integers(1, 8))
def test_e41_the_weights_sum_to_one(gamma, lam, n):
    """If every k-step estimator is the same number, so is GAE."""
    # V = 0 before the end and rewards 0 after the first step: Â^(k) = r₀ for all k.
    rewards = np.eye(1, n)[0] * 3
    never = np.zeros(n, dtype=bool)
    end = np.arange(n) == n - 1
    assert gae(rewards, np.zeros(n), np.zeros(n), end, never, gamma, lam)[0] == pytest.approx(3)


@given(instances())
@settings(max_examples=15)
def test_e42_what_follows_an_end_changes_nothing_before_it(instance):
    some = Experience.draw(instance, instance.rng(142))
    ours = some.advantages(instance.gamma, instance.lam)
    arrays = (some.rewards, some.values, some.next_values, some.terminated, some.truncated)
    for where, _, _ in some.episodes():
        alone = gae(*(array[where] for array in arrays), instance.gamma, instance.lam)
        np.testing.assert_array_equal(ours[where], alone)


@given(instances(max_states=3, max_actions=2))
def test_e44_with_wrong_values_only_the_full_return_is_unbiased(instance):
    """A constant added to V moves the TD residual by (γ − 1) of it, and the return less V by −1 of it."""
    path = all_paths(instance.mdp, instance.old.policy, 3)
    values = instance.old.values[path.states] + 5
    never = np.zeros(path.actions.shape, dtype=bool)
    pairs = path.states[0] * instance.mdp.n_actions + path.actions[0]
    for lam, shift in ((0.0, instance.gamma - 1), (1.0, instance.gamma**3 - 1)):
        first = gae(path.rewards, values[:-1], values[1:], never, never, instance.gamma, lam)[0]
        means = np.bincount(pairs, path.probabilities * first, instance.mdp.reward.size)
        size = 5 + np.max(np.abs(instance.old.values))
        np.testing.assert_allclose(
            means, instance.old.advantages.ravel() + 5 * shift, rtol=0, atol=1e-12 * size
        )


@given(instances())
@settings(max_examples=5)
def test_drawn_experience_has_every_kind_of_end_and_is_what_the_policy_did(instance):
    kinds = set()
    for number in range(30):
        some = Experience.draw(instance, instance.rng(number))
        kinds |= set(zip(some.terminated.ravel().tolist(), some.truncated.ravel().tolist(), strict=True))
        assert np.all(np.isin(some.rewards, instance.mdp.reward))
    assert kinds == {(False, False), (False, True), (True, False), (True, True)}
    path = simulate(instance.mdp, instance.old.policy, 3, 4, instance.rng(0))
    assert path.states.shape == (4, 4)


@given(instances(max_states=3, max_actions=2), fractions, st.integers(1, 5))
@settings(max_examples=20)
def test_e43_the_bias_of_a_constant_error_by_its_geometric_series(instance, lam, n):
    """An error of 5 in every V moves each TD residual by 5(γ − 1), and the bias is their discounted sum."""
    gamma, error = instance.gamma, np.full(instance.mdp.n_states, 5.0)
    bias = gae_bias(instance.old, instance.mdp.transition, error, gamma, lam, n)
    expected = 5 * (gamma - 1) * np.sum((gamma * lam) ** np.arange(n))
    np.testing.assert_allclose(bias, expected, rtol=0, atol=1e-13)


def test_e43_at_lambda_1_only_a_cut_makes_the_bias_depend_on_the_action():
    """Action 0 stays in state 0, action 1 leads to state 1 and its wrong value."""
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 1] = 1
    mdp = TabularMDP(transition, np.zeros((2, 2)), np.array([1.0, 0.0]), 0.5)
    now, error = mdp.evaluate(np.array([[1.0, 0.0], [1.0, 0.0]])), np.array([1.0, 3.0])
    biases = [gae_bias(now, transition, error, 0.5, 1.0, n)[0] for n in (1, 2, 60)]
    np.testing.assert_allclose(biases, [[-0.5, 0.5], [-0.75, -0.25], [-1, -1]], atol=1e-15)
