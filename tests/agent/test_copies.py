"""Agents and learners through pickle and deepcopy: independent of the original, and the same to the bit."""

import copy
import itertools
import pickle

import gymnasium
import numpy as np
import pytest

from npTRPO import TRPO
from tests.agent.test_networks import OWN
from tests.environments import Bandit, registered
from tests.parameters import crossed
from tests.space_environments import ACTIONS, PAIRS, Matching, matching_id

FITS = ["trust_region", "lbfgs", "adam"]
QUICK = {"n_envs": 2, "n_steps": 8, "seed": 0}
WAYS = {"pickle": lambda each: pickle.loads(pickle.dumps(each)), "deepcopy": copy.deepcopy}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def bits(agent):
    """All that an agent has learned and remembers, to be compared."""
    leaves = {name: np.asarray(leaf).tobytes() for name, leaf in agent.learner.leaves().items()}
    return leaves, list(agent.recent_returns), list(agent.recent_lengths)


def assert_copies_go_on_alike(agent, env_id, observations):
    """Copies act and learn as the original does, and it has kept its environment."""
    env, copies = agent.env, [way(agent) for way in WAYS.values()]
    assert agent.env is env
    before = bits(agent)
    for each in copies:
        assert each.env is None
        assert bits(each) == before
        assert (each.config, each.env_id) == (agent.config, agent.env_id)
    for deterministic in (False, True, False):  # one stream of random actions each
        drawn = [each.predict(observations, deterministic=deterministic)[0] for each in (agent, *copies)]
        np.testing.assert_array_equal(drawn[1], drawn[0])
        np.testing.assert_array_equal(drawn[2], drawn[0])
    for each in copies:
        each.set_env(env_id)
        each.learn(32, reset_num_timesteps=False)
    assert bits(agent) == before
    assert bits(copies[0]) != before
    agent.set_env(env_id)
    agent.learn(32, reset_num_timesteps=False)
    assert bits(copies[0]) == bits(copies[1]) == bits(agent)


@pytest.mark.parametrize(("observation", "action"), PAIRS)
def test_copies_in_every_pair_of_spaces_act_and_learn_on_as_the_original(observation, action):
    env_id, fit = matching_id(observation, action), FITS[list(ACTIONS).index(action) % len(FITS)]
    agent = TRPO("MlpPolicy", env_id, **QUICK, net_arch=(3,), value_fit=fit).learn(32)
    assert_copies_go_on_alike(agent, env_id, Matching(observation, action).pictures[0])


@pytest.mark.parametrize(("own", "trained", "fit"), crossed(itertools.product(OWN, [True, False]), FITS))
def test_copies_with_ones_own_code_act_and_learn_on_as_the_original(trained, own, fit):
    env_id = registered(Bandit)
    agent = TRPO("MlpPolicy", env_id, **QUICK, value_fit=fit, policy_kwargs=OWN[own])
    if trained:
        agent.learn(48)
    assert_copies_go_on_alike(agent, env_id, np.zeros((100, 1), np.float32))


@each_way
def test_writing_into_a_copy_leaves_the_original(way):
    agent = TRPO("MlpPolicy", "CartPole-v1", **QUICK).learn(32)
    before, other = bits(agent), way(agent)
    for array in other.learner.arrays().values():
        array[:] = 7
    other.recent_returns.append(7.0)
    assert bits(agent) == before


@each_way
def test_a_learner_goes_through_alone_and_is_taken_up_by_another_agent(way):
    agent, other = (TRPO("MlpPolicy", "CartPole-v1", **QUICK | {"seed": seed}) for seed in (0, 1))
    agent.learn(32)
    other.learner = way(agent.learner)
    assert bits(other)[0] == bits(agent)[0]
    for each in (agent, other):
        each.leave_episodes()
        each.learn(32, reset_num_timesteps=False)
    assert bits(other)[0] == bits(agent)[0]


@each_way
def test_an_environment_that_is_no_id_stays_behind(way):
    agent = TRPO("MlpPolicy", gymnasium.make("CartPole-v1"), **QUICK)
    assert (way(agent).env, way(agent).env_id) == (None, None)
    with pytest.raises(RuntimeError, match="no environment to learn in"):
        way(agent).learn(32)
