"""The trust region is for the policy that acts: its moments are renewed within it (E57)."""

import pickle
from functools import partial

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import TRPO
from npTRPO.agent.learner import learn
from npTRPO.policies.mlp import MLP
from npTRPO.sampling import Sampler
from npTRPO.sampling.normalization import Moments
from npTRPO.trust_region import BatchLinearization, fit_adam
from npTRPO.trust_region.update import UpdateOutcome
from tests.strategies import generators


class Affine(gymnasium.ObservationWrapper):
    """The observations of an environment in other units."""

    def __init__(self, env, factor, offset=0.0):
        super().__init__(env)
        self.factor, self.offset = factor, offset
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, env.observation_space.shape)

    def observation(self, observation):
        return (self.factor * observation + self.offset).astype(np.float32)


def distribution(acting, raw):
    """The distributions of a pickled policy with its moments, in float64 throughout, from the formulas."""
    policy, theta, moments = pickle.loads(acting)
    rows = raw.astype(np.float64)
    if moments is not None:
        constant = np.sqrt(moments.variance) <= np.finfo(np.float32).eps * np.abs(moments.mean)
        rows = (rows - moments.mean) / np.where(constant, 1, np.sqrt(moments.variance))
        rows = np.clip(rows, -10, 10)
    return policy(theta.astype(np.float64), rows)


def updates(agent, n):
    """Learn from n batches; yield raw observations, their weights, the update, the learners."""
    learner, policy = agent.learner, agent.policy
    sampler = Sampler(agent.env, policy, 0)
    for _ in range(n):
        rng = learner.rng("sampling")
        batch = sampler.collect(learner.theta, agent.config.n_steps, learner.observation_moments, rng)
        after, update = learn(agent.model, learner, batch, learner.rng("value fit"))
        weights = 0.999**batch.times if agent.config.discounted_states else batch.valid
        yield batch.raw_observations[batch.valid], weights[batch.valid], update, learner, after
        learner = after


def acting(agent, learner):
    return pickle.dumps((agent.policy, learner.theta, learner.observation_moments))


def waves(frequency, theta, x):
    return np.sin(frequency * x) @ theta.reshape(x.shape[-1], -1)


def drawn(scale, size, rng):
    return scale * rng.standard_normal(size)


def quiet(n_features, n_outputs):
    """A network of one's own, whose function changes a little with the units of its inputs."""
    return partial(waves, 1.0), partial(drawn, 0.1, n_features * n_outputs)


def loud(n_features, n_outputs):
    """A network whose outputs change by far more than the region with the units of its inputs."""
    return partial(waves, 50.0), partial(drawn, 1.0, n_features * n_outputs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("env", "factor", "options"),
    [
        ("CartPole-v1", 1.0, {}),
        ("CartPole-v1", 0.01, {"target_kl": 0.001}),
        ("CartPole-v1", 100.0, {"activation_fn": "relu"}),
        ("CartPole-v1", 1.0, {"policy_kwargs": {"network": quiet}}),
        ("CartPole-v1", 1.0, {"sub_sampling_factor": 3, "cg_preconditioner": "identity"}),
        ("CartPole-v1", 1.0, {"discounted_states": True, "gamma": 0.999}),
        ("Pendulum-v1", 1.0, {"value_fit": "adam"}),
        ("MountainCarContinuous-v0", 1.0, {"target_kl": 0.1}),
    ],
    ids=["plain", "small", "large", "own", "subsampled", "discounted", "adam", "continuous"],
)
def test_e57_every_update_keeps_the_policy_that_acts_in_the_trust_region(env, factor, options, dtype):
    """Mean KL(acting before ‖ acting after) on the batch's raw observations, at most δ (1 + 1e-4)."""
    environment = Affine(gymnasium.make(env), factor) if factor != 1 else env
    options = {"n_envs": 1 if factor != 1 else 4, "n_steps": 96, "net_arch": (16,), "dtype": dtype} | options
    agent = TRPO("MlpPolicy", environment, seed=1, **options)
    moved = renewed = 0
    for raw, weights, update, before, after in updates(agent, 8):
        kl = distribution(acting(agent, before), raw).kl(distribution(acting(agent, after), raw))
        kl = np.average(kl, weights=weights)
        assert kl <= agent.config.target_kl * (1 + 1e-4)
        assert update.kl == pytest.approx(kl, rel=1e-4, abs=1e-9)
        moved += update.outcome is UpdateOutcome.IMPROVED
        renewed += after.observation_moments.count == before.observation_moments.count + len(raw)
    assert moved >= 6
    assert renewed >= 6


@given(generators(), st.integers(1, 3), st.integers(1, 4))
def test_e57_an_mlp_that_absorbs_a_change_of_units_is_the_same_function(rng, inputs, outputs):
    network = MLP((inputs, 5, outputs))
    theta = np.concatenate([rng.standard_normal(network.n_parameters), [7.0]])
    factor, shift = np.exp(rng.uniform(-5, 5, inputs)), rng.uniform(-5, 5, inputs)
    x = rng.standard_normal((6, inputs))
    absorbed = network.absorb(theta, factor, shift)
    assert absorbed.dtype == theta.dtype
    assert absorbed[-1] == 7
    # Some thirty terms of size |factor x W| + |shift W| at most, through tanh, whose slope is at most 1.
    size = 1 + np.max(np.abs(theta)) * (np.max(factor) * np.max(np.abs(x)) + np.max(np.abs(shift)))
    expected = network(theta[:-1], factor * x + shift)
    bound = 1000 * np.finfo(float).eps * size
    np.testing.assert_allclose(network(absorbed[:-1], x), expected, rtol=0, atol=bound)


@given(generators())
def test_e57_adams_moments_follow_the_parameters(rng):
    """The mean is that of gradients in the new parameters, and so is the square where nothing is shifted."""
    network, n = MLP((2, 3, 1)), 20
    theta = rng.standard_normal(network.n_parameters)
    factor, shift = np.exp(rng.uniform(-1, 1, 2)), rng.uniform(-1, 1, 2)
    x, returns = rng.standard_normal((n, 2)), rng.standard_normal(n)

    def first_step(theta, rows):
        return fit_adam(network, theta, rows, returns, epochs=1, batch_size=n)[1]

    def gradient(theta, rows):
        batch = BatchLinearization(network, theta, rows)
        return batch.mean_vjp(2 * (network(theta, rows) - returns[:, None]))

    for change in ((factor, shift), (factor, 0 * shift)):
        old = factor * x + change[1]
        state = first_step(theta, old).absorbed(network, *change)
        absorbed = network.absorb(theta, *change)
        np.testing.assert_allclose(state.mean, 0.1 * gradient(absorbed, x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state.square, 0.001 * gradient(absorbed, x) ** 2, rtol=1e-9, atol=1e-12)
    assert state.steps == 1


def test_e57_moments_stay_if_renewing_them_alone_would_leave_the_region():
    """The first ones are taken up by an update that does nothing else, and says so."""
    agent = TRPO("MlpPolicy", "CartPole-v1", n_envs=4, n_steps=64, seed=0, policy_kwargs={"network": loud})
    outcomes = []
    for raw, _, update, before, after in updates(agent, 4):
        outcomes.append(update.outcome)
        if before.observation_moments.count == 0:
            assert update.outcome is UpdateOutcome.MEASURED
            assert update.kl > agent.config.target_kl
            np.testing.assert_array_equal(after.theta, before.theta)
            np.testing.assert_array_equal(after.value_theta, before.value_theta)
            assert after.observation_moments.count == len(raw)
        else:
            assert after.observation_moments is before.observation_moments
            kl = distribution(acting(agent, before), raw).kl(distribution(acting(agent, after), raw))
            assert np.mean(kl) <= agent.config.target_kl * (1 + 1e-4)
    assert UpdateOutcome.IMPROVED in outcomes


def test_e57_the_change_of_units_is_that_of_the_moments_floor_included():
    """A feature that has not varied has scale 1, and its own deviation once it has."""
    old = Moments.empty(2).updated(np.array([[3.0, 5.0], [3.0, 9.0]]))
    new = old.updated(np.array([[4.0, 1.0]]))
    factor, shift = old.change(new)
    raw = np.array([[3.5, 2.0]])
    np.testing.assert_allclose(
        (raw - [3, 7]) / [1, 2], factor * (raw - new.mean) / np.sqrt(new.variance) + shift, rtol=1e-12
    )
