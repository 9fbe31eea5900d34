import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given

from npTRPO import TRPO
from npTRPO.theory import TabularEnv, mdp_from_gymnasium, random_mdp, value_iteration
from npTRPO.theory.exact import table
from tests.strategies import mdps, seeds


@given(mdps(), seeds)
def test_episodes_follow_the_mdp_and_end_in_absorbing_states(mdp, seed):
    env, rng = TabularEnv(mdp, max_episode_steps=6), np.random.default_rng(seed)
    state, _ = env.reset(seed=seed)
    assert mdp.start[state] > 0
    for step in range(1, 7):
        action = int(rng.integers(mdp.n_actions))
        after, reward, terminated, truncated, _ = env.step(action)
        assert mdp.transition[state, action, after] > 0
        assert reward == mdp.reward[state, action]
        assert terminated == mdp.absorbing[after]
        assert truncated == (step == 6)
        state = after
        if terminated:
            break


def test_gymnasium_finds_nothing_to_complain_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(TabularEnv(random_mdp(np.random.default_rng(0), 4, 2), 20), skip_render_check=True)


def test_without_a_limit_nothing_is_truncated():
    env = TabularEnv(random_mdp(np.random.default_rng(0), 3, 2))
    env.reset(seed=0)
    assert not any(env.step(0)[3] for _ in range(100))


def test_the_same_seed_gives_the_same_episode():
    mdp = random_mdp(np.random.default_rng(0), 5, 2)
    episodes = []
    for _ in range(2):
        env = TabularEnv(mdp, 30)
        states = [env.reset(seed=11)[0]]
        states += [env.step(t % 2)[0] for t in range(30)]
        episodes.append(states)
    assert episodes[0] == episodes[1]


def test_wrong_use_is_refused():
    mdp = random_mdp(np.random.default_rng(0), 3, 2)
    with pytest.raises(ValueError, match="max_episode_steps must be at least 1, not 0"):
        TabularEnv(mdp, 0)
    env = TabularEnv(mdp)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="a whole number from 0 to 1, not 2"):
        env.step(2)


def _gymnasiums_walk(rng):
    """Transitions of FrozenLake as Gymnasium's own environment makes them, by state and action."""
    env = gymnasium.make("FrozenLake-v1", map_name="4x4")
    counts: dict[str, Any] = {
        "next": np.zeros((17, 4, 17)),
        "n": np.zeros((17, 4)),
        "reward": np.zeros((17, 4)),
    }
    state, _ = env.reset(seed=0)
    for _ in range(6000):
        action = int(rng.integers(4))
        after, reward, terminated, truncated, _ = env.step(action)
        counts["next"][state, action, 16 if terminated else after] += 1
        counts["n"][state, action] += 1
        counts["reward"][state, action] += reward
        state = env.reset()[0] if terminated or truncated else after
    env.close()
    return counts


def test_a_read_table_is_what_the_environment_does():
    counts = _gymnasiums_walk(np.random.default_rng(0))
    mdp = mdp_from_gymnasium("FrozenLake-v1", discount=0.9)
    n = np.maximum(counts["n"], 1)
    assert np.all(mdp.transition[counts["next"] > 0] > 0)
    # Hoeffding: 17·4·17 frequencies are off by more with probability 1e-9 at most.
    allowed = np.sqrt(np.log(2 * 17 * 4 * 17 / 1e-9) / (2 * n))
    seen = counts["n"] > 0
    assert np.all(np.abs(counts["next"] / n[..., None] - mdp.transition)[seen] <= allowed[seen][:, None])
    assert np.all(np.abs(counts["reward"] / n - mdp.reward)[seen] <= allowed[seen])


@pytest.mark.parametrize(("updates", "left"), [(6, 0.5), pytest.param(15, 0.1, marks=pytest.mark.slow)])
def test_an_agent_learns_the_best_policy_of_a_small_mdp(updates, left):
    mdp = random_mdp(np.random.default_rng(5), 4, 3, kind="absorbing", discount=0.8)
    options: dict[str, Any] = {"gae_lambda": 0.9, "target_kl": 0.02, "gamma": 0.8, "net_arch": [], "seed": 1}
    agent = TRPO("MlpPolicy", TabularEnv(mdp, 40), n_steps=512, **options)
    before, best = mdp.evaluate(table(agent.policy, agent.theta)).objective, value_iteration(mdp).objective
    agent.learn(512 * updates)
    after = mdp.evaluate(table(agent.policy, agent.theta.astype(float))).objective
    assert before < after
    assert best - after < left * (best - before)
