"""What an agent expects, how probable its actions are, and its parameters by name."""

import gymnasium
import numpy as np
import pytest
import scipy.special
import scipy.stats
from gymnasium import spaces

from npTRPO import TRPO, Categorical, DiagGaussian
from tests.environments import Target, TwoStates, registered
from tests.policies.own import residual_block

QUICK = {"n_envs": 2, "n_steps": 32, "seed": 0}


class Waiting(gymnasium.Env):
    """Pays a hundred in each step, whatever is done, and never ends."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return self.np_random.uniform(-1, 1, 1).astype(np.float32), {}

    def step(self, action):
        self.now += 1
        return self.np_random.uniform(-1, 1, 1).astype(np.float32), 100.0, False, self.now == 20, {}


@pytest.mark.parametrize("normalized", [True, False])
def test_values_are_in_the_environments_rewards(normalized):
    """V = 100/(1 − γ) = 200; rewards are divided by the deviation of returns, which range from 100 to 200."""
    options = {"n_steps": 200, "gamma": 0.5, "seed": 0, "net_arch": (8,)}
    agent = TRPO("MlpPolicy", Waiting(), normalize_rewards=normalized, **options).learn(4_000)
    assert (agent.learner.reward_scale.moments.scale[0] != 1) == normalized
    values = agent.predict_values(np.linspace(-1, 1, 7)[:, None])
    assert values.shape == (7,)
    np.testing.assert_allclose(values, 200, rtol=0.02)


def test_the_value_of_one_observation_is_a_float():
    agent = TRPO("MlpPolicy", registered(TwoStates), **QUICK).learn(128)
    values = agent.predict_values(np.array([0, 1, 1]))
    assert [agent.predict_values(state) for state in (0, 1, 1)] == pytest.approx(values.tolist(), rel=1e-5)
    assert type(agent.predict_values(np.int64(1))) is float
    assert agent.predict_values(np.zeros(0, int)).shape == (0,)


def test_a_value_is_the_networks_times_the_scale_by_hand():
    agent = TRPO("MlpPolicy", registered(Target), net_arch={"pi": [3], "vf": [4]}, dtype="float64", **QUICK)
    agent.learn(256)
    states, theta = np.linspace(-1, 1, 5)[:, None].astype(np.float32), agent.value_theta
    x = (states - agent.observation_moments.mean) / np.sqrt(agent.observation_moments.variance)
    hidden = np.tanh(x @ theta[:4].reshape(1, 4) + theta[4:8])
    expected = (hidden @ theta[8:12] + theta[12]) * np.sqrt(agent.learner.reward_scale.moments.variance[0])
    np.testing.assert_allclose(agent.predict_values(states), expected, rtol=1e-10)


# --- distributions --------------------------------------------------------------------------------------


def test_probabilities_are_those_that_actions_are_drawn_with():
    space = spaces.Discrete(3, start=5)
    agent = TRPO(spaces=(spaces.Box(-1, 1, (2,)), space), seed=0, ortho_init=False)
    agent.theta[-3:] = [0.0, 1.0, -1.0]
    distribution = agent.distribution(np.ones(2))
    assert type(distribution) is Categorical
    assert distribution.probs.shape == (1, 3)
    drawn = agent.predict(np.ones((20_000, 2)))[0]
    counts = np.bincount(drawn - 5, minlength=3)
    expected = 20_000 * scipy.special.softmax(distribution.logits[0].astype(float))
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-4
    np.testing.assert_array_equal(agent.policy.to_env(distribution.mode()), [6])


def test_a_distribution_is_over_the_policys_own_actions():
    agent = TRPO("MlpPolicy", registered(Target), **QUICK).learn(256)  # its bounds are −2 and 2
    states = np.linspace(-1, 1, 5)[:, None].astype(np.float32)
    distribution = agent.distribution(states)
    assert type(distribution) is DiagGaussian
    np.testing.assert_allclose(distribution.log_std, agent.theta[-1])
    actions, _ = agent.predict(states, deterministic=True)
    np.testing.assert_allclose(2 * distribution.mode(), actions, rtol=1e-6)
    np.testing.assert_array_equal(agent.policy.to_env(distribution.mode()), actions)
    again = agent.distribution(states[2]).mode()
    np.testing.assert_allclose(again, distribution.mode()[2:3], rtol=1e-5)


def test_a_distribution_takes_masks():
    agent = TRPO(spaces=(spaces.Box(-1, 1, (2,)), spaces.Discrete(3)), mask_actions=True, seed=0)
    one = agent.distribution(np.ones(2), action_masks=[True, False, True])
    np.testing.assert_array_equal(one.probs > 0, [[True, False, True]])
    two = agent.distribution(np.ones((2, 2)), action_masks=[[0, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(two.probs > 0, [[False, False, True], [True, True, True]])


@pytest.mark.parametrize("method", ["predict_values", "distribution"])
@pytest.mark.parametrize(
    ("observation", "message"), [(np.ones(3), "neither an element of"), (np.full(2, np.nan), "not finite")]
)
def test_observations_that_cannot_be_are_refused(method, observation, message):
    agent = TRPO(spaces=(spaces.Box(-1, 1, (2,)), spaces.Discrete(3)))
    with pytest.raises(ValueError, match=message):
        getattr(agent, method)(observation)


# --- parameters -----------------------------------------------------------------------------------------


def test_parameters_by_layer_are_all_of_theta_and_make_the_policy_by_hand():
    space = spaces.Box(-1, 1, (2,))
    agent = TRPO(
        spaces=(spaces.Box(-1, 1, (3,)), space), net_arch=[4, 5], normalize_observations=False, seed=0
    )
    agent.theta[:] = np.random.default_rng(0).standard_normal(agent.theta.size)
    parts = agent.parameters_by_layer()
    layers = [f"policy.{i}.{part}" for i in range(3) for part in ("weight", "bias")]
    assert list(parts) == [*layers, "log_std"]
    np.testing.assert_array_equal(np.concatenate([part.ravel() for part in parts.values()]), agent.theta)
    x = np.random.default_rng(1).uniform(-1, 1, (6, 3)).astype(np.float32)
    h = np.tanh(x @ parts["policy.0.weight"] + parts["policy.0.bias"])
    h = np.tanh(h @ parts["policy.1.weight"] + parts["policy.1.bias"])
    distribution = agent.distribution(x)
    expected = h @ parts["policy.2.weight"] + parts["policy.2.bias"]
    np.testing.assert_allclose(distribution.mean, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(distribution.log_std, np.tile(parts["log_std"], (6, 1)))


def test_what_is_written_into_a_layer_changes_the_agent():
    agent = TRPO(spaces=(spaces.Box(-1, 1, (3,)), spaces.Discrete(4)), seed=0)
    parts = agent.parameters_by_layer()
    assert "log_std" not in parts
    parts["policy.2.weight"][:] = 0
    parts["policy.2.bias"][:] = np.log([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(agent.distribution(np.ones(3)).probs, [[0.1, 0.2, 0.3, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(agent.theta[-4:], np.log([0.1, 0.2, 0.3, 0.4]), rtol=1e-6)


def test_a_network_of_ones_own_is_one_part():
    kwargs = {"network": residual_block}
    agent = TRPO(spaces=(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,))), policy_kwargs=kwargs)
    parts = agent.parameters_by_layer()
    assert {name: part.shape for name, part in parts.items()} == {"policy": (15,), "log_std": (2,)}
