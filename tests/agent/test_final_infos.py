"""Means of the numbers in the last infos of episodes, wherever these are stepped, whatever else is there."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from npTRPO import TRPO
from npTRPO.sampling.final_infos import final_numbers
from tests.environments import Counter


class Told(Counter):
    """Episodes of four steps, each of which tells of itself; the fourth step of every other one succeeds."""

    def __init__(self):
        super().__init__(lengths=(4,))
        self.n_steps = 0

    def step(self, action):
        *result, info = super().step(action)
        self.n_steps += 1
        last = {"is_success": self.n_steps % 8 == 0, "step": self.n_steps, "name": "x", "parts": {"a": 1}}
        last |= {"row": np.zeros(3), "none": None, "nan": np.nan, 5: 5, "zero_d": np.array(2)}
        return (*result, {**info, **last})


def vector(mode):
    return SyncVectorEnv([Told, Told], autoreset_mode=mode)


# With resets in steps of their own, a row of ten has two episodes of each environment, as one of eight has.
@pytest.mark.parametrize(
    ("env", "n_steps"),
    [
        (Told, 8),
        (vector(AutoresetMode.SAME_STEP), 8),
        (vector(AutoresetMode.NEXT_STEP), 10),
    ],
    ids=["made here", "same step", "next step"],
)
def test_a_record_has_the_means_of_the_numbers_in_last_infos(env, n_steps):
    agent = TRPO("MlpPolicy", env, n_envs=2, n_steps=n_steps, net_arch=(4,), seed=0)
    first, second = agent.updates(4 * n_steps)
    assert first.metrics == {"success_rate": 0.5, "step": 6.0, "zero_d": 2.0}
    assert second.metrics == {"success_rate": 0.5, "step": 14.0, "zero_d": 2.0}


def test_shards_have_those_of_all():
    agent = TRPO("MlpPolicy", Told, n_envs=2, n_shards=2, n_steps=8, net_arch=(4,), seed=0)
    [record] = agent.updates(16)
    assert record.metrics == {"success_rate": 0.5, "step": 6.0, "zero_d": 2.0}


def test_an_update_without_an_end_has_none():
    [record] = TRPO("MlpPolicy", Told, n_envs=1, n_steps=3, net_arch=(4,), seed=0).updates(3)
    assert record.metrics == {}
    agent = TRPO("MlpPolicy", gymnasium.make("CartPole-v1"), n_steps=64, seed=0)
    assert [each.metrics for each in agent.updates(64)] == [{}]


@pytest.mark.parametrize(
    ("infos", "found"),
    [
        ({"a": np.array([1, 2]), "_a": np.array([True, False])}, {}),
        ({"a": np.array([1, 2]), "_a": np.array([False, True])}, {"a": 2.0}),
        ([{"a": 1}, {"a": True, "b": "x"}], {"a": 1.0}),
        (np.array([None, {"a": np.float32(0.5)}]), {"a": 0.5}),
        ({"a": 3, "b": [1], "c": {"d": [1, 2]}}, {}),
        ({"a": [1, 10**400]}, {}),
        (None, {}),
        ([{"a": 1}], {}),
    ],
    ids=["other's", "own", "list", "array", "no arrays", "too large", "none", "too short"],
)
def test_infos_may_have_any_shape(infos, found):
    assert final_numbers(infos, 1) == found
