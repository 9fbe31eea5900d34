"""When environments begin afresh."""

import copy

import pytest

from npTRPO import TRPO
from npTRPO.agent.resets import Resets
from tests.environments import Counter


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, list(range(4, 241, 4))),  # an episode ends in every update: at each multiple of the interval
        (4, list(range(4, 241, 4))),
        (6, [4, *range(12, 241, 8)]),  # none ends in four updates, and one in eight
        (1000, [4, 12, 28, 60, 124, 188]),  # none ends: 1, 2, 4, 8, 16, 16, … intervals
    ],
)
def test_environments_begin_afresh_where_an_episode_has_ended_or_after_as_long_again(length, expected):
    resets, began = Resets(), []
    for n_updates in range(1, 241):
        resets = resets.after((n_updates - resets.last) % length == 0)
        if resets.due(n_updates, 4):
            began.append(n_updates)
            resets = Resets(n_updates)
    assert began == expected


def test_without_an_interval_environments_never_begin_afresh():
    resets = Resets(episodes=9)
    assert not any(resets.due(n, None) or resets.put_off(n, None) for n in range(9))


def test_a_copy_puts_off_as_long_as_the_agent_that_was_copied():
    agent = TRPO("MlpPolicy", Counter(lengths=(30,)), n_steps=5, checkpoint_interval=2, net_arch=(3,), seed=0)
    agent.learn(5 * 3)
    twin = copy.deepcopy(agent)
    agent.learn(5, reset_num_timesteps=False)
    assert (agent.resets, twin.resets) == (Resets(last=2), Resets(last=2))
