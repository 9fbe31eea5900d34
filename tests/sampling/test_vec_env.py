"""Stable-Baselines3's vector environments: a stand-in of its interface, and its own where it is installed."""

import copy

import gymnasium
import numpy as np
import pytest

from npTRPO import TRPO, evaluate_policy
from npTRPO.agent.callbacks import EvalCallback
from npTRPO.sampling import Sampler
from npTRPO.sampling.environments import make_vector_env
from npTRPO.sampling.makers import EnvMaker
from tests.environments import Counter

SMALL = {"n_steps": 64, "net_arch": (8,), "seed": 3}
# Some of its episodes are cut, and in some the pole falls.
KEYWORDS = {"max_episode_steps": 25}


def pole():
    return gymnasium.make("CartPole-v1", **KEYWORDS)


class VecEnv:
    """The interface of Stable-Baselines3's DummyVecEnv."""

    def __init__(self, makers):
        self.envs = [make() for make in makers]
        self.num_envs = len(self.envs)
        self.observation_space, self.action_space = self.envs[0].observation_space, self.envs[0].action_space
        self._seeds = [None] * self.num_envs
        self.closed = False

    @property
    def unwrapped(self):
        return self

    def seed(self, seed=None):
        self._seeds = [seed + i for i in range(self.num_envs)]

    def reset(self):
        observations = [env.reset(seed=seed)[0] for env, seed in zip(self.envs, self._seeds, strict=True)]
        self._seeds = [None] * self.num_envs
        return np.stack(observations)

    def step(self, actions):
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions):
        self._actions = actions

    def step_wait(self):
        results = []
        for env, action in zip(self.envs, self._actions, strict=True):
            observation, reward, terminated, truncated, info = env.step(action)
            info["TimeLimit.truncated"] = truncated and not terminated
            if terminated or truncated:
                info["terminal_observation"] = observation
                observation, _ = env.reset()
            results.append((observation, reward, terminated or truncated, info))
        observations, rewards, dones, infos = zip(*results, strict=True)
        return np.stack(observations), np.float32(rewards), np.array(dones), list(copy.deepcopy(infos))

    def has_attr(self, name):
        return all(hasattr(env.unwrapped, name) for env in self.envs)

    def env_method(self, name, *arguments, indices=None, **options):
        return [getattr(env.unwrapped, name)(*arguments, **options) for env in self.envs]

    def close(self):
        self.closed = True


class VecEnvWrapper:
    def __init__(self, venv):
        self.venv = venv

    def __getattr__(self, name):
        return getattr(self.venv, name)


class VecNormalize(VecEnvWrapper):
    """In the name alone."""

    def step_wait(self):
        raise AssertionError("it is taken off")


def of_stable_baselines(name):
    def make(makers):
        module = pytest.importorskip("stable_baselines3.common.vec_env", reason="it is no dependency")
        return getattr(module, name)(makers)

    return make


KINDS = {"stand-in": VecEnv} | {name: of_stable_baselines(name) for name in ("DummyVecEnv", "SubprocVecEnv")}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_learned_in_to_the_bits_of_gymnasiums_vector(kind):
    """Seeds, truncation, last observations and resets are the same."""
    venv = KINDS[kind]([pole] * 3)
    agent = TRPO("MlpPolicy", venv, **SMALL).learn(3 * 64 * 3)
    expected = TRPO("MlpPolicy", "CartPole-v1", n_envs=3, env_kwargs=KEYWORDS, **SMALL).learn(3 * 64 * 3)
    assert agent.env.num_envs == 3
    np.testing.assert_array_equal(agent.theta, expected.theta)
    np.testing.assert_array_equal(agent.value_theta, expected.value_theta)
    assert list(agent.recent_returns) == list(expected.recent_returns)
    assert {25.0} < set(agent.recent_returns)
    limits = {"n_eval_episodes": 6, "seed": 7}
    there = make_vector_env(EnvMaker(pole), 3)
    assert evaluate_policy(agent, venv, **limits) == evaluate_policy(agent, there, **limits)
    venv.close()


def test_ends_are_told_apart_and_have_their_last_observations():
    """The counter observes copy, episode and step; what ends in both ways is terminated."""
    counter = Counter(lengths=(2, 3), ends=("terminated", "truncated", "both"))
    envs = make_vector_env(VecEnv([lambda: counter]), 1)
    envs.reset(seed=0)
    ends = []
    for _ in range(7):
        _, _, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert ("final_obs" in infos) == (terminated[0] or truncated[0])
        if "final_obs" in infos:
            ends.append((terminated[0], truncated[0], *infos["final_obs"][0][1:]))
    assert ends == [(True, False, 0, 2), (False, True, 1, 3), (True, False, 2, 2)]


def test_it_is_given_back_and_left_open():
    venv = VecEnv([pole] * 2)
    agent = TRPO("MlpPolicy", venv, **SMALL)
    assert agent.get_env() is venv
    observations = venv.reset()
    actions, _ = agent.predict(observations)
    assert len(venv.step(actions)) == 4
    agent.learn(128, callback=EvalCallback(venv, eval_freq=128, n_eval_episodes=2))
    agent.set_env(VecEnv([pole]))
    del agent
    assert not venv.closed


def test_stepping_it_by_hand_begins_new_episodes_for_training():
    venv = VecEnv([pole] * 2)
    agents = [TRPO("MlpPolicy", each, **SMALL).learn(128) for each in (venv, VecEnv([pole] * 2))]
    venv.step(np.zeros(2, np.int64))
    for agent in agents:
        agent.learn(128, reset_num_timesteps=False)
    assert agents[0].resets != agents[1].resets


def test_a_vec_normalize_is_taken_off_with_a_word():
    with pytest.warns(UserWarning, match=r"VecNormalize is taken off, as agents normalise"):
        agent = TRPO("MlpPolicy", VecNormalize(VecEnv([pole] * 2)), **SMALL)
    assert type(agent.get_env()) is VecEnv
    agent.learn(128)
    with pytest.warns(UserWarning, match="there is a VecNormalize inside of VecEnvWrapper"):
        TRPO("MlpPolicy", VecEnvWrapper(VecNormalize(VecEnv([pole]))), **SMALL)


@pytest.mark.filterwarnings("ignore:VecNormalize is taken off:UserWarning")
def test_that_of_stable_baselines_is_taken_off_too():
    module = pytest.importorskip("stable_baselines3.common.vec_env", reason="it is no dependency")
    venv = module.VecNormalize(module.VecMonitor(module.DummyVecEnv([pole] * 2)))
    agent = TRPO("MlpPolicy", venv, **SMALL).learn(128)
    assert isinstance(agent.get_env(), module.VecMonitor)


class Picky(gymnasium.Wrapper):
    def action_masks(self):
        return np.array([True, False])

    @property
    def unwrapped(self):
        return self

    def step(self, action):
        *result, info = self.env.step(action)
        return *result, {**info, "cost": 2.0}


def test_masks_and_numbers_of_the_infos_come_from_it():
    venv = VecEnv([lambda: Picky(pole())] * 2)
    agent = TRPO("MlpPolicy", venv, mask_actions=True, info_keys=("cost",), **SMALL).learn(128)
    sampler = Sampler(agent.env, agent.policy, 0, info_keys=("cost",))
    batch = sampler.collect(agent.theta, 32, agent.observation_moments, np.random.default_rng(0))
    assert batch.terminated.any()
    np.testing.assert_array_equal(batch.infos["cost"], np.full((32, 2), 2.0))
    np.testing.assert_array_equal(batch.actions, np.zeros((32, 2)))


def test_methods_that_it_lacks_and_last_observations_that_it_lacks_are_named():
    agent = TRPO("MlpPolicy", VecEnv([pole] * 2), mask_actions=True, **SMALL)
    with pytest.raises(ValueError, match="the environments of VecEnv have no 'action_masks'"):
        agent.learn(1)

    class Silent(VecEnv):
        def step_wait(self):
            *result, infos = super().step_wait()
            return *result, [{} for _ in infos]

    with pytest.raises(ValueError, match="without final_obs in the infos"):
        TRPO("MlpPolicy", Silent([pole] * 2), **SMALL).learn(128)
