"""Training in every kind of vector environment, twice to the same bits."""

import contextlib
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from npTRPO import TRPO, evaluate_policy
from npTRPO.sampling.environments import make_vector_env
from npTRPO.sampling.stepping import autoreset_mode
from npTRPO.sampling.vectors import SyncVector
from tests.environments import TwoStates, registered, vectorized
from tests.space_environments import Matching

STEPS = 384
QUICK = {"n_envs": 4, "n_steps": 16, "net_arch": (4,), "seed": 0, "target_kl": 0.1}
MODES = ["sync", "async", "vector_entry_point", "envpool"]
RESETTING = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]


def need(mode):
    if mode == "envpool":
        pytest.importorskip("envpool", reason="envpool is an extra")


def trained(env="CartPole-v1", steps=STEPS, **options):
    agent = TRPO("MlpPolicy", env, **QUICK | options).learn(steps)
    agent.env.close()
    return agent


def state(agent):
    """Everything that learning changed, to the bit."""
    arrays = agent.learner.arrays().values()
    return [array.tobytes() for array in arrays], agent.num_timesteps, list(agent.recent_returns)


# --- by id -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_trains_and_the_same_seed_gives_the_same_bits(mode):
    need(mode)
    agent = trained(vectorization_mode=mode)
    assert (agent.num_timesteps, agent.n_updates) == (STEPS, 6)
    assert agent.env.num_envs == 4
    assert len(agent.recent_returns) > 2
    assert all(8 <= length <= 500 for length in agent.recent_lengths)
    assert state(trained(vectorization_mode=mode)) == state(agent)
    assert state(trained(vectorization_mode=mode, seed=1)) != state(agent)


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_goes_on_from_a_checkpoint_to_the_same_bits(mode, tmp_path):
    """Boundaries start the environments afresh, with seeds that they must heed."""
    need(mode)
    options = {"vectorization_mode": mode, "checkpoint_interval": 3}
    whole = trained(**options)
    trained(steps=STEPS // 2, **options).save(tmp_path / "half")
    with contextlib.closing(make_vector_env("CartPole-v1", 4, mode)) as env:
        resumed = TRPO.load(tmp_path / "half", env=env).learn(STEPS // 2, reset_num_timesteps=False)
    assert state(resumed) == state(whole)


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_resets_to_the_same_observations_with_the_same_seed_and_to_others_with_others(mode):
    need(mode)
    with contextlib.closing(make_vector_env("CartPole-v1", 3, mode)) as env:
        first, again, other = (env.reset(seed=seed)[0].copy() for seed in (5, 5, 6))
        unseeded = env.reset()[0]
    np.testing.assert_array_equal(again, first)
    assert not np.any(other == first)
    assert not np.any(unseeded == first)
    assert len(np.unique(first[:, 0])) == 3


def test_sync_and_async_give_the_same_bits():
    assert state(trained(vectorization_mode="sync")) == state(trained(vectorization_mode="async"))


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point", "envpool"])  # async gives the bits of sync
def test_each_mode_learns_to_hold_the_pole_longer(mode):
    need(mode)
    agent = TRPO("MlpPolicy", "CartPole-v1", **QUICK | {"n_steps": 128}, vectorization_mode=mode)
    before, _ = evaluate_policy(agent, n_eval_episodes=16, deterministic=False, seed=0)
    with contextlib.closing(agent.env):
        agent.learn(4096)
    after, _ = evaluate_policy(agent, n_eval_episodes=16, deterministic=False, seed=0)
    assert before < 40
    assert after > 1.5 * before


def test_envpool_has_no_environment_of_ours():
    pytest.importorskip("envpool", reason="envpool is an extra")
    with pytest.raises(ValueError, match="EnvPool has no environment 'tests/TwoStates-v0'"):
        TRPO("MlpPolicy", registered(TwoStates), vectorization_mode="envpool")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"])
def test_envpool_warns_of_nothing_and_acts_in_the_spaces_it_names(env_id):
    pytest.importorskip("envpool", reason="envpool is an extra")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = trained(env_id, steps=64, vectorization_mode="envpool")
    assert agent.num_timesteps == 64
    assert agent.policy.action_space == gymnasium.make(env_id).action_space


# --- ready-made ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("mode", RESETTING, ids=lambda mode: mode.name)
def test_a_ready_made_vector_environment_is_trained_on_in_both_ways_of_resetting(mode, asynchronous):
    def train():
        with contextlib.closing(vectorized(4 * [TwoStates], mode, asynchronous)) as env:
            agent = TRPO("MlpPolicy", env, **QUICK)
            assert agent.get_env() is env
            return agent.learn(STEPS)

    agent = train()
    assert agent.num_timesteps == STEPS
    assert set(agent.recent_lengths) == {20}
    assert all(0 <= total <= 20 for total in agent.recent_returns)
    assert state(train()) == state(agent)


@pytest.mark.parametrize("mode", RESETTING, ids=lambda mode: mode.name)
def test_both_ways_of_resetting_learn_the_task(mode):
    env = vectorized(8 * [lambda: Matching("tuple", "multi-binary")], mode)
    agent = TRPO("MlpPolicy", env, **QUICK, gamma=0.5)
    before, _ = evaluate_policy(agent, env, 16, deterministic=False, seed=1)
    agent.learn(2048)
    after, _ = evaluate_policy(agent, env, 16, deterministic=False, seed=1)
    assert before < 0.65
    assert after > 0.8


class Arrays(VectorEnv):
    """Made from nothing but arrays: pays for the action that has the sign of the observation."""

    def __init__(self, n, mode):
        self.num_envs = n
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = spaces.Box(-1, 1, (1,), np.float64)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = spaces.Box(-1, 1, (n, 1), np.float64)
        self.action_space = spaces.MultiDiscrete(n * [2])

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.now = np.zeros(self.num_envs, int)
        self.seen = self.rng.uniform(-1, 1, (self.num_envs, 1))
        return self.seen, {}

    def step(self, actions):
        assert self.action_space.contains(actions)
        rewards = np.where((self.seen[:, 0] > 0) == (actions == 1), 1.0, 0.0)
        self.now += 1
        ended, last = self.now == 5, self.rng.uniform(-1, 1, (self.num_envs, 1))
        self.seen, info = last, {}
        if self.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP:
            if ended.any():
                final = np.empty(self.num_envs, dtype=object)
                for i in np.flatnonzero(ended):
                    final[i] = last[i]
                info = {"final_obs": final}
            self.seen = np.where(ended[:, None], self.rng.uniform(-1, 1, last.shape), last)
            self.now[ended] = 0
        else:  # the next step only resets, and ends nothing
            self.now[ended] = -1
            rewards = np.where(self.now == 0, 0.0, rewards)
        return self.seen, rewards, ended, np.zeros(self.num_envs, bool), info


@pytest.mark.parametrize("mode", RESETTING, ids=lambda mode: mode.name)
def test_a_vector_environment_of_ones_own_is_trained_on(mode):
    def train():
        return TRPO("MlpPolicy", Arrays(8, mode), **QUICK | {"net_arch": ()}).learn(2048)

    agent = train()
    assert agent.num_timesteps == 2048
    assert set(agent.recent_lengths) == {5}
    assert np.mean(list(agent.recent_returns)[-20:]) > 4
    assert state(train()) == state(agent)


# --- one environment alone ---------------------------------------------------------------------------------


def plain(value):
    """An observation as nested lists."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    return np.asarray(value).tolist()


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0"])
def test_a_vector_of_an_environment_is_gymnasiums_to_the_bit(env_id, n_envs):
    ours = make_vector_env(env_id, n_envs, "sync")
    makers = [lambda: gymnasium.make(env_id)] * n_envs
    theirs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    for name in ("num_envs", "single_observation_space", "single_action_space", "observation_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.action_space == theirs.action_space
    assert autoreset_mode(ours) is AutoresetMode.SAME_STEP
    theirs.action_space.seed(0)
    (first, _), (other, _) = ours.reset(seed=3), theirs.reset(seed=3)
    np.testing.assert_array_equal(first, other)
    ends = 0
    for _ in range(450):
        action = theirs.action_space.sample()
        *found, infos = ours.step(action)
        *expected, their_infos = theirs.step(action)
        for one, another in zip(found, expected, strict=True):
            assert (one.dtype, one.shape) == (another.dtype, another.shape)
            np.testing.assert_array_equal(one, another)
        ended = np.flatnonzero(found[2] | found[3]).tolist()
        for i in ended:
            np.testing.assert_array_equal(infos["final_obs"][i], their_infos["final_obs"][i])
        if ended:
            ends += len(ended)
            assert infos["final_info"].keys() == their_infos["final_info"].keys()
            np.testing.assert_array_equal(infos["_final_obs"], their_infos["_final_obs"])
    assert ends
    ours.close()
    assert ours.closed


class Loose(gymnasium.Env):
    """Observes what its space doesn't quite have, and says when it was reset."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, space, seen):
        self.observation_space, self.seen = space, seen
        self.resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        return self.seen, {"resets": self.resets}

    def step(self, action):
        return self.seen, 0.0, True, False, {"step": 1}


@pytest.mark.parametrize(
    ("space", "seen"),
    [
        (gymnasium.spaces.MultiBinary(2), np.ones(2)),
        (gymnasium.spaces.Box(0, 255, (2,), np.uint8), np.array([0.5, 7.0])),
        (gymnasium.spaces.Discrete(3), np.array([1])),
        (gymnasium.spaces.Box(-1, 1, (2, 2)), np.full(4, 0.1)),
    ],
    ids=str,
)
def test_a_lone_environments_observations_are_taken_as_they_are(space, seen):
    env = make_vector_env(Loose(space, seen), 1)
    for observation in (env.reset(seed=0)[0], env.step(np.zeros(1, int))[0]):
        assert observation.dtype == seen.dtype
        np.testing.assert_array_equal(observation, seen[None])
    trained(env, steps=8)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_infos_come_at_the_ends_of_episodes_as_gymnasiums_do(n_envs):
    makers = [lambda: Loose(gymnasium.spaces.Box(-1, 1, (2,)), np.zeros(2, np.float32))] * n_envs
    ours, theirs = SyncVector(*makers), SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    actions = np.zeros(n_envs, int)
    pairs = [(envs.reset(seed=0)[1], envs.step(actions)[-1]) for envs in (ours, theirs)]
    for found, expected in zip(*pairs, strict=True):
        assert repr(found) == repr(expected)


def test_a_masked_reset_leaves_the_other_environments_where_they_are():
    ours = make_vector_env("Pendulum-v1", 3, "sync")
    ours.reset(seed=0)
    before = ours.step(ours.action_space.sample())[0]
    after, _ = ours.reset(seed=1, options={"reset_mask": np.array([True, False, True])})
    assert [bool(np.all(one == another)) for one, another in zip(before, after, strict=True)] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("n_actions", [2, 4])
def test_as_many_actions_as_environments_are_asked_for(n_actions):
    envs = make_vector_env("CartPole-v1", 3, "sync")
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"zip\(\) argument"):
        envs.step(np.zeros(n_actions, int))


@pytest.mark.parametrize("n_envs", [1, 2])
def test_a_vector_keeps_the_last_observations_of_environments_that_use_their_memory_again(n_envs):
    class Reusing(gymnasium.Env):
        observation_space = gymnasium.spaces.Dict(a=gymnasium.spaces.Box(-9, 9, (1,)))
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self):
            self.state = np.zeros(1, np.float32)

        def reset(self, *, seed=None, options=None):
            self.state[:] = 0
            return {"a": self.state}, {}

        def step(self, action):
            self.state += 1
            return {"a": self.state}, 1.0, bool(self.state[0] == 2), False, {}

    env = SyncVector(*[Reusing] * n_envs)
    env.reset(seed=0)
    env.step(np.zeros(n_envs, int))
    observation, *_, infos = env.step(np.zeros(n_envs, int))
    assert plain(observation) == {"a": [[0.0]] * n_envs}
    assert [plain(last) for last in infos["final_obs"]] == [{"a": [2.0]}] * n_envs
