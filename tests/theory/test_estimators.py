import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import gae
from npTRPO.theory.estimators import Experience, k_step_estimates
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
def test_drawn_experience_has_every_kind_of_end_and_is_what_the_policy_did(instance):
    kinds = set()
    for number in range(30):
        some = Experience.draw(instance, instance.rng(number))
        kinds |= set(zip(some.terminated.ravel().tolist(), some.truncated.ravel().tolist(), strict=True))
        assert np.all(np.isin(some.rewards, instance.mdp.reward))
    assert kinds == {(False, False), (False, True), (True, False), (True, True)}
    path = simulate(instance.mdp, instance.old.policy, 3, 4, instance.rng(0))
    assert path.states.shape == (4, 4)
