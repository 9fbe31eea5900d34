from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from npTRPO.policies.network import FunctionNetwork
from npTRPO.sampling.normalization import Moments, standardize
from npTRPO.theory import TabularMDP, simulate, tabular_policy
from npTRPO.theory.exact import ExactBatch, table
from npTRPO.theory.practice import batch_weights, expected_visits, long_run, state_weights
from npTRPO.trust_region import mean_kl, update
from tests.strategies import generators, instances


def line(steps, discount):
    """States one after the other, and the end; action 1 pays +1 in the first and −½ in each other."""
    transition = np.zeros((steps + 1, 2, steps + 1))
    for state in range(steps + 1):
        transition[state, :, min(state + 1, steps)] = 1
    reward = np.zeros((steps + 1, 2))
    reward[:steps, 1] = [1, *[-0.5] * (steps - 1)]
    return TabularMDP(transition, reward, np.eye(steps + 1)[0], discount)


def test_e10_e56_visits_of_an_episode_that_passes_each_state_once():
    mdp = line(3, 0.5)
    now = mdp.evaluate(np.full((4, 2), 0.5))
    np.testing.assert_allclose(expected_visits(mdp, now, 1.0), [1, 1, 1, 0])
    np.testing.assert_allclose(expected_visits(mdp, now, 0.5), [1, 0.5, 0.25, 0])
    np.testing.assert_allclose(state_weights(mdp, now, 0.5), np.array([4, 2, 1, 0]) / 7)


@given(instances(min_states=2, max_states=3, max_actions=2))
@settings(max_examples=20)
def test_e10_e56_weights_are_what_simulated_episodes_give_their_states(instance):
    """Of 400 episodes, cut after 60 steps: what is left, and five standard errors, are allowed, and 2 %."""
    mdp, old, gamma = instance.episodic.mdp, instance.episodic.old, instance.gamma
    path = simulate(mdp, old.policy, 60, 400, instance.rng(156))
    under_way = ~mdp.absorbing[path.states[:-1]]
    for discount in (gamma, 1.0):
        powers = discount ** np.arange(60)[:, None] * under_way
        each = np.stack([np.sum(powers * (path.states[:-1] == s), axis=0) for s in range(mdp.n_states)])
        expected = expected_visits(mdp, old, discount)
        left = (np.mean(under_way[-1]) + 0.02) * np.max(expected)
        assert np.all(np.abs(np.mean(each, axis=1) - expected) <= 5 * np.std(each, axis=1) / 20 + left)


def test_e56_shares_of_a_long_run_are_those_of_a_small_chain_and_of_simulated_steps():
    """From state 0 one leaves once in ten steps, from state 1 once in five: 2/3 and 1/3 of the time."""
    leave = np.array([[0.9, 0.1], [0.2, 0.8]])
    np.testing.assert_allclose(long_run(leave), [2 / 3, 1 / 3], rtol=1e-14)
    mdp = TabularMDP(leave[:, None], np.zeros((2, 1)), np.array([0.0, 1.0]), 0.5)
    path = simulate(mdp, np.ones((2, 1)), 2000, 50, np.random.default_rng(0))
    # What is left of the start sums to 10/3 · 2/3 steps; five standard errors, whose squares grow by 17/3.
    allowed = 5 * np.sqrt(2 / 9 * 17 / 3 / 100_000) + 20 / 9 / 2000
    assert abs(np.mean(path.states == 0) - 2 / 3) < allowed


@pytest.mark.parametrize(("by_visits", "best"), [(True, 0.0), (False, 513 / 1024)])
def test_e10_e56_by_visits_shared_parameters_may_be_driven_away_from_the_optimum(by_visits, best):
    """All states look the same: action 1 is better by Σ γᵗ r = 513/1024, and worse by the sum of rewards."""
    mdp = line(10, 0.5)
    policy = replace_network(tabular_policy(mdp))
    theta = np.zeros(2)
    for _ in range(40):
        now = mdp.evaluate(table(policy, theta))
        batch = ExactBatch.of(policy, now)
        weights = batch_weights(state_weights(mdp, now, 1.0 if by_visits else 0.5), now.policy)
        arrays = (batch.observations, batch.actions, batch.advantages)
        theta = update(policy, theta, *arrays, weights=weights, target_kl=0.1, cg_damping=1e-8).theta
    assert mdp.evaluate(table(policy, theta)).objective == pytest.approx(best, abs=1e-2)


def replace_network(policy):
    """The policy with the same logits θ in every state."""
    network = FunctionNetwork(lambda theta, x: theta + np.zeros((len(x), 1)), lambda rng: np.zeros(2))
    return replace(policy, network=network)


@given(instances(), generators())
@settings(max_examples=20)
def test_e57_without_the_change_of_the_first_layer_the_policy_moves(instance, rng):
    gaussian = instance.gaussian
    policy, d = gaussian.policy, gaussian.policy.n_features
    before, after = Moments(np.zeros(d), np.ones(d), 1), Moments(np.ones(d), 4 * np.ones(d), 2)
    raw = rng.standard_normal((50, d))
    rows = [standardize(raw, moments.normalizer(np.float64)) for moments in (before, after)]
    carried = np.append(
        policy.network.absorb(gaussian.theta[: -policy.n_log_std], *before.change(after)),
        gaussian.theta[-policy.n_log_std :],
    )
    old = policy(gaussian.theta, rows[0])
    assert mean_kl(old, policy(carried, rows[1])) < 1e-12
    assert mean_kl(old, policy(gaussian.theta, rows[1])) > 1e-6
