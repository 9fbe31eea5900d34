import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings

from npTRPO import Categorical, DiagGaussian
from npTRPO.theory.divergences import gaussian_nodes, joint_actions, table_kl
from npTRPO.trust_region import mean_kl, surrogate, update
from tests.strategies import generators, instances


@given(instances())
@settings(max_examples=15)
def test_e15_on_a_sampled_batch_an_update_is_feasible_for_that_batch(instance):
    sample = instance.sample
    observations, advantages = (
        instance.states[sample.states],
        instance.old.advantages[sample.states, sample.actions],
    )
    found = update(
        instance.policy,
        instance.theta,
        observations,
        sample.actions,
        advantages,
        target_kl=instance.target_kl,
    )
    old, new = (instance.policy(theta, observations) for theta in (instance.theta, found.theta))
    log_prob = old.log_prob(sample.actions)
    assert float(mean_kl(old, new)) <= instance.target_kl * (1 + 1e-12)
    values = [float(surrogate(d, log_prob, sample.actions, advantages)) for d in (old, new)]
    assert found.theta is instance.theta or values[1] > values[0]


@given(instances())
@settings(max_examples=15)
def test_e16_the_sum_is_scipys_relative_entropy(instance):
    expected = scipy.stats.entropy(instance.old.policy, instance.new.policy, axis=1)
    ours = table_kl(instance.old.policy, instance.new.policy)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-14)


@given(generators())
@settings(max_examples=10)
def test_e17_nodes_integrate_powers_of_a_gaussian(rng):
    mean, log_std = rng.standard_normal(2)
    points, weights = gaussian_nodes(np.array([mean]), np.array([log_std]))
    for degree in range(10):
        exact = scipy.stats.norm(mean, np.exp(log_std)).moment(degree) if degree else 1.0
        assert weights @ points[:, 0] ** degree == pytest.approx(float(exact), rel=1e-9, abs=1e-9)


def test_e18_joint_actions_are_all_combinations():
    assert joint_actions((2, 3)).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_e19_weights_take_the_place_of_the_mean():
    old, new = Categorical(np.zeros((3, 2))), Categorical(np.array([[0.0, 1.0], [0, 2], [0, 3]]))
    repeated = [Categorical(d.logits[[0, 1, 1, 2]]) for d in (old, new)]
    weighted = mean_kl(old, new, np.array([0.25, 0.5, 0.25]))
    assert weighted == pytest.approx(mean_kl(*repeated))
    one = DiagGaussian(np.zeros((2, 1)), np.zeros(1)), DiagGaussian(np.array([[1.0], [3.0]]), np.zeros(1))
    assert mean_kl(*one, np.array([0.75, 0.25])) == pytest.approx(0.75 * 0.5 + 0.25 * 4.5)
