import contextlib
import copy
import dataclasses
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import TRPO, evaluate_policy
from npTRPO.agent.evaluation import run_episodes
from tests.environments import Choosy, Counter, counters, in_both_modes, registered, vectorized
from tests.strategies import lifetimes

on_one_and_all = pytest.mark.parametrize("deterministic", [True, False])


def agent_for(env, **options):
    """An agent that has learned nothing."""
    return TRPO("MlpPolicy", env, seed=0, net_arch=(4,), **options)


def state_of(agent):
    """Everything in an agent but its environment, as values that can be compared."""
    return copy.deepcopy(
        {
            "parameters": (agent.theta, agent.value_theta),
            "learner": dataclasses.astuple(agent.learner),
            "progress": (*agent.recent_returns, *agent.recent_lengths),
            "randomness": (agent.entropy, agent._rng_act.bit_generator.state),
        }
    )


def episodes_of(diary):
    """Returns and lengths of the whole episodes in a counter's diary."""
    returns, rewards = [], []
    for _, _, reward, terminated, truncated, _ in diary:
        rewards.append(reward)
        if terminated or truncated:
            returns.append((sum(rewards), len(rewards)))
            rewards = []
    return returns


def test_returns_and_lengths_of_each_episode_are_given_if_asked_for():
    """As Stable-Baselines3's evaluate_policy gives them, and so called, in its order."""
    agent = agent_for(Counter())
    mean, std = evaluate_policy(agent, Counter(), 6, True, seed=3)
    rewards, lengths = evaluate_policy(
        agent, Counter(), 6, True, False, None, None, return_episode_rewards=True, warn=False, seed=3
    )
    returns, steps = run_episodes(agent, Counter(), 6, seed=3)
    assert (rewards, lengths) == (returns.tolist(), steps.tolist())
    assert {type(one) for one in rewards} == {float}
    assert {type(one) for one in lengths} == {int}
    assert (np.mean(rewards), np.std(rewards)) == (mean, std)
    assert evaluate_policy(agent, Counter(), 6, True, False, None, None, True, seed=3) == (rewards, lengths)


def test_a_mean_return_below_the_threshold_is_an_error():
    agent = agent_for(Counter())
    mean, _ = evaluate_policy(agent, Counter(), 6, seed=3, reward_threshold=-1e9)
    for threshold in (mean, mean + 1):
        with pytest.raises(AssertionError, match="is not above"):
            evaluate_policy(agent, Counter(), 6, seed=3, reward_threshold=threshold)


@pytest.mark.parametrize("asked", [{"render": True}, {"callback": lambda *_: None}])
def test_what_an_environment_can_do_itself_is_left_to_it(asked):
    with pytest.raises(NotImplementedError, match="render_mode"):
        evaluate_policy(agent_for(Counter()), Counter(), 1, **asked)


@on_one_and_all
@in_both_modes
@given(life=lifetimes, n=st.integers(1, 5), n_episodes=st.integers(1, 12))
def test_returns_and_lengths_are_those_of_whole_episodes_shared_evenly(
    mode, deterministic, life, n, n_episodes
):
    """Each environment contributes its first ones, and no environment two more than another."""
    envs = vectorized(counters(n, **life), mode)
    returns, lengths = run_episodes(agent_for(Counter()), envs, n_episodes, deterministic)
    assert returns.shape == lengths.shape == (n_episodes,)
    owners = [
        {(copy, i): episode for i, episode in enumerate(episodes_of(diary))}
        for copy, diary in enumerate(envs.call("diary"))
    ]
    left = sorted(zip(returns.tolist(), lengths.tolist(), strict=True))
    shares = [n_episodes // n + (i < n_episodes % n) for i in range(n)]
    fewest, most = min(shares), max(shares)
    sure = [episode for own in owners for (_, i), episode in own.items() if i < fewest]
    for episode in sure:
        left.remove(episode)
    maybe = [episode for own in owners for (_, i), episode in own.items() if fewest <= i < most]
    for episode in left:
        maybe.remove(episode)
    assert len(sure) + len(left) == n_episodes


def test_short_episodes_do_not_count_more_often_than_long_ones():
    """One environment with ten times as many episodes as the other; all rewards 1."""

    class Ones(Counter):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, 1.0, *rest

    envs = vectorized([lambda: Ones(0, (1,)), lambda: Ones(1, (10,))])
    assert evaluate_policy(agent_for(Counter()), envs, 10) == (5.5, 4.5)


def test_an_id_is_evaluated_in_at_most_sixteen_copies():
    """With actions 0, the episode e of each copy returns 3 · 100 e + 0 + 10 + 20."""
    agent = agent_for(registered(Counter))
    agent.theta = np.zeros_like(agent.theta)
    returns, lengths = run_episodes(agent, None, 20)
    assert sorted(returns) == [30.0] * 16 + [330.0] * 4
    assert lengths.tolist() == [3] * 20
    assert evaluate_policy(agent, n_eval_episodes=3) == (30.0, 0.0)


def test_an_environment_of_ones_own_is_evaluated_and_left_open():
    env = Counter(lengths=(2, 3))
    mean, std = evaluate_policy(agent_for(Counter()), env, 4)
    returns = [episode for episode, _ in episodes_of(env.diary)][:4]
    assert (mean, std) == (np.mean(returns), np.std(returns))
    assert not env.closed
    assert evaluate_policy(agent_for(Counter()), env, 1)


class Watched(Counter):
    """Counters that are remembered."""

    made: ClassVar[list[Counter]] = []

    def __init__(self):
        super().__init__()
        self.made.append(self)


@pytest.mark.parametrize("fails", ["not", "at a step", "for its spaces"])
def test_what_evaluation_made_it_closes_even_when_it_fails(fails, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "tests/Watched-v0", gymnasium.spec(registered(Counter)))
    monkeypatch.setattr(gymnasium.spec("tests/Watched-v0"), "entry_point", Watched)
    monkeypatch.setattr(Watched, "made", [])
    agent = agent_for(Choosy() if fails == "for its spaces" else Counter())
    if fails == "at a step":
        monkeypatch.setattr(Watched, "step", lambda self, action: 1 / 0)
    with contextlib.nullcontext() if fails == "not" else pytest.raises((ZeroDivisionError, ValueError)):
        evaluate_policy(agent, "tests/Watched-v0", 3)
    assert [env.closed for env in Watched.made] == [True] * 3


@on_one_and_all
def test_evaluation_changes_nothing_in_the_agent(deterministic):
    agent = agent_for("CartPole-v1", n_envs=2, n_steps=16).learn(64)
    before = state_of(agent)
    evaluate_policy(agent, "CartPole-v1", 5, deterministic)
    np.testing.assert_equal(state_of(agent), before)


@on_one_and_all
def test_the_same_seed_gives_the_same_episodes_and_another_one_others(deterministic):
    envs = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    agent = agent_for("CartPole-v1")
    one, again, other = (run_episodes(agent, envs, 6, deterministic, seed=seed)[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_drawn_actions_are_not_the_environments_own_random_numbers():
    """With one seed for both, an action would be drawn with the very numbers that made the observation."""

    class Tells(Counter):
        def reset(self, *, seed=None, options=None):
            observation, info = super().reset(seed=seed)
            self.number = self.np_random.random()
            return observation, info

    env = Tells()
    agent = agent_for(Counter())
    agent.theta = np.zeros_like(agent.theta)  # three actions, each with probability 1/3
    same = []
    for seed in range(30):
        env.diary.clear()
        run_episodes(agent, env, 1, deterministic=False, seed=seed)
        first = np.random.default_rng(seed).random()
        same.append(int(3 * first) == env.diary[0][1])
    assert sum(same) < 25  # by chance 10, with a standard deviation of 2.6


@pytest.mark.parametrize("n", [1, 3])
def test_the_vectorised_cartpole_is_evaluated(n):
    """In NEXT_STEP mode: a step that only resets adds neither reward nor length."""
    returns, lengths = run_episodes(agent_for("CartPole-v1"), CartPoleVectorEnv(n), 7, seed=0)
    np.testing.assert_array_equal(returns, lengths)
    assert lengths.min() >= 8  # with one action always, the pole needs eight steps to fall


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"env": vectorized(counters(2), AutoresetMode.DISABLED)}, "autoreset disabled"),
        ({"env": "CartPole-v1"}, r"the agent acts on Box\(.*but the environment has Box\(.*\(4,\)"),
        ({"n_eval_episodes": 0}, "n_eval_episodes must be at least 1, but it is 0"),
        ({"n_eval_episodes": -1}, "n_eval_episodes must be at least 1, but it is -1"),
        ({"seed": -1}, "seed must not be negative, but it is -1"),
        ({"env": None}, "evaluation needs an env"),
    ],
    ids=["autoreset", "spaces", "none", "negative", "seed", "no env"],
)
def test_an_evaluation_that_cannot_be_is_refused_with_the_reason(options, said):
    with pytest.raises(ValueError, match=said):
        evaluate_policy(agent_for(Counter()), **{"env": Counter(), "n_eval_episodes": 1} | options)
