"""Bounded actions: policies that act in units of the half-range around the centre."""

import dataclasses
import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from npTRPO import TRPO, CheckpointError, Policy, evaluate_policy
from npTRPO.runs.settings import read_config
from tests.environments import vectorized
from tests.policies.own import gaussian

SAMPLES = Path(__file__).parent.parent / "data" / "0.1.0"
LOWS_AND_HIGHS = [(-1, 1), (0, 10), (0, 1000), (-30, -10)]


class Hit(gymnasium.Env):
    """Ten steps, each of which pays minus the distance from 0.7 of the range, in units of the range."""

    observation_space = spaces.Box(0, 1, (1,))

    def __init__(self, low, high):
        self.low, self.high = low, high
        self.action_space = spaces.Box(low, high, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        miss = abs((float(action[0]) - self.low) / (self.high - self.low) - 0.7)
        return np.array([self.t / 10], np.float32), -miss, False, self.t == 10, {}


def agent_for(low, high, **options):
    envs = vectorized([lambda: Hit(low, high)] * 8)
    return TRPO("MlpPolicy", envs, **{"seed": 0, "dtype": "float64", **options})


def test_what_is_learned_does_not_depend_on_the_bounds():
    """Rewards are the same but for rounding of 1e-16, of which three updates make far less than 1e-6."""
    first, *others = [agent_for(*bounds).learn(3 * 2048) for bounds in LOWS_AND_HIGHS]
    assert first.n_updates == 3
    assert np.max(np.abs(first.theta - agent_for(-1, 1).theta)) > 1e-3
    for other in others:
        np.testing.assert_allclose(other.theta, first.theta, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_after_40000_steps_returns_do_not_depend_on_the_bounds_and_without_rescaling_they_do():
    """Hitting the middle gives −2, and a bound of the range −3 at best."""
    for rescaled in (True, False):
        agents = [agent_for(*bounds, rescale_actions=rescaled).learn(40_000) for bounds in LOWS_AND_HIGHS[:3]]
        returns = [
            evaluate_policy(agent, Hit(*b), 5)[0] for agent, b in zip(agents, LOWS_AND_HIGHS, strict=False)
        ]
        assert returns[0] > -0.5
        assert (np.ptp(returns) < 0.1) == rescaled
        assert rescaled or max(returns[1:]) < -3


def test_a_box_from_minus_1_to_1_is_acted_in_to_the_same_bits():
    agents = [agent_for(-1, 1, dtype="float32", rescale_actions=on).learn(2048) for on in (True, False)]
    assert agents[0].theta.tobytes() == agents[1].theta.tobytes()
    observations = np.random.default_rng(0).uniform(0, 1, (50, 1))
    drawn = [agent.predict(observations)[0] for agent in agents]
    assert drawn[0].tobytes() == drawn[1].tobytes()


def test_predict_gives_actions_in_the_environments_units():
    box = spaces.Box(np.array([0, -3, 100], np.float32), np.array([10, 5, 300], np.float32))
    agent = TRPO(spaces=(spaces.Box(-1, 1, (2,)), box), seed=0)
    agent.theta[:] = 0  # the policy's own action is then 0 in all numbers
    centre, _ = agent.predict(np.zeros(2), deterministic=True)
    np.testing.assert_array_equal(centre, [5, 1, 200])
    assert centre.dtype == np.float32
    assert box.contains(centre)
    own = np.array([[-1, -1, -1], [1, 1, 1], [0.5, 0.5, 0.5], [-7, 7, 0]])
    expected = [[0, -3, 100], [10, 5, 300], [7.5, 3, 250], [0, 5, 200]]
    np.testing.assert_array_equal(agent.policy.to_env(own), expected)


def test_only_numbers_that_are_bounded_on_both_sides_are_rescaled():
    low, high = np.array([0, 0, -np.inf, -np.inf, 4]), np.array([8, np.inf, 8, np.inf, 4])
    box = spaces.Box(low, high, dtype=np.float64)
    policy = Policy.for_spaces(box, box, rescale_actions=True)
    own = np.array([[0.5, 0.5, 0.5, 0.5, 0.5], [-1, -1, 9, -9, 9]])
    np.testing.assert_array_equal(policy.to_env(own), [[6, 0.5, 0.5, 0.5, 4], [0, 0, 8, -9, 4]])


def test_a_box_of_whole_numbers_is_rescaled_and_rounded():
    policy = Policy.for_spaces(spaces.Discrete(2), spaces.Box(0, 200, (2,), np.uint8), rescale_actions=True)
    np.testing.assert_array_equal(
        policy.to_env(np.array([[0.0, 0.506], [3.0, -1.0]])), [[100, 151], [200, 0]]
    )


@pytest.mark.parametrize("half_range", [1e6, 1.1e6])
def test_bounds_more_than_2e6_apart_count_as_infinite_and_are_named_once(half_range, recwarn):
    low, high = np.array([-1, 0, -np.inf]), np.array([3, 2 * half_range, 1])
    box = spaces.Box(low, high, dtype=np.float64)
    agent = TRPO(spaces=(spaces.Discrete(2), box))
    wide = half_range > 1e6
    messages = [str(warning.message) for warning in recwarn.list]
    assert len(messages) == wide
    assert not wide or ("the numbers 1 in" in messages[0] and "count as infinite" in messages[0])
    expected = [[2, 0.5 if wide else 1.5e6, 0.5]]
    np.testing.assert_allclose(agent.policy.to_env(np.full((1, 3), 0.5)), expected)


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_bounds_that_are_those_of_the_dtype_are_no_surprise(dtype):
    limits = np.iinfo(dtype) if dtype is np.int32 else np.finfo(dtype)
    agent = TRPO(spaces=(spaces.Discrete(2), spaces.Box(limits.min, limits.max, (2,), dtype)))
    np.testing.assert_array_equal(agent.policy.to_env(np.array([[3.0, -2.0]])), [[3, -2]])


def test_a_distribution_of_ones_own_acts_in_the_environments_units():
    box = spaces.Box(0, 10, (1,))
    agent = TRPO(spaces=(box, box), policy_kwargs={"distribution": gaussian})
    np.testing.assert_array_equal(agent.policy.to_env(np.array([[3.0], [-1.0]])), [[3], [0]])


# --- files -------------------------------------------------------------------------------------------


def test_files_of_versions_that_did_not_rescale_load_as_they_were():
    old = TRPO.load(SAMPLES / "gaussian.npz")
    assert old.config.rescale_actions is False
    assert np.any(np.abs(old.action_space.high) != 1)  # or the file couldn't tell
    own = np.full((1, *old.action_space.shape), 0.25, np.float32)
    np.testing.assert_array_equal(old.policy.to_env(own), own)
    _, config, _ = read_config(SAMPLES / "run")
    assert config.rescale_actions is False


@pytest.mark.parametrize("rescaled", [True, False])
def test_files_say_whether_actions_are_rescaled(rescaled, tmp_path):
    agent = agent_for(0, 10, rescale_actions=rescaled)
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent", env=Hit(0, 10))
    assert loaded.config.rescale_actions is rescaled
    np.testing.assert_array_equal(loaded.predict(np.ones(1))[0], agent.predict(np.ones(1))[0])
    with pytest.raises(TypeError, match="rescale_actions can't be changed"):
        TRPO.load(tmp_path / "agent", rescale_actions=not rescaled)
    with pytest.raises(CheckpointError, match="can't go on in the environment given"):
        TRPO.load(tmp_path / "agent", env=Hit(0, 11))
    assert json.loads(json.dumps(dataclasses.asdict(loaded.config)))["rescale_actions"] is rescaled
