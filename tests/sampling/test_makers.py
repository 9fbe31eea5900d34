"""Environments as people have them: ids, specifications, classes, callables, with keywords and wrappers."""

import functools
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import ClipReward, TimeLimit

from npTRPO import TRPO, evaluate_policy
from npTRPO.agent.callbacks import EvalCallback
from npTRPO.runs.rendering import render_episodes
from npTRPO.sampling.environments import force_close, make_vector_env
from npTRPO.sampling.makers import EnvMaker
from tests.environments import forks

SMALL = {"n_envs": 3, "n_steps": 32, "net_arch": (8,), "seed": 3}


class Sliding(CartPoleEnv):
    """A CartPole that ends after a number of steps, and pays what it is told to."""

    def __init__(self, pay=1.0, most=20, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.pay, self.most = pay, most

    def reset(self, *, seed=None, options=None):
        self.taken = 0
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        self.taken += 1
        return observation, self.pay, terminated, truncated or self.taken == self.most, info


def three_times(env):
    return gymnasium.wrappers.TransformReward(env, lambda reward: 3 * reward)


def ten_more(env):
    return gymnasium.wrappers.TransformReward(env, lambda reward: 10 + reward)


WAYS = {
    "class": Sliding,
    "function": lambda: Sliding(),
    "partial": functools.partial(Sliding, pay=1.0),
    "specification": gymnasium.envs.registration.EnvSpec("tests/Sliding-v0", entry_point=Sliding),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_makes_an_environment_is_made_as_often_as_an_id(way):
    """All ways of making the same environment learn the same."""
    agent = TRPO("MlpPolicy", WAYS[way], **SMALL).learn(192)
    assert agent.env.num_envs == 3
    assert len({id(env.unwrapped) for env in agent.env.envs}) == 3
    np.testing.assert_array_equal(agent.theta, TRPO("MlpPolicy", Sliding, **SMALL).learn(192).theta)
    mean, _ = evaluate_policy(agent, n_eval_episodes=5, seed=0)  # where it learns, by default
    assert mean == evaluate_policy(agent, WAYS[way], n_eval_episodes=5, seed=0)[0] <= 20
    agent.set_env(WAYS[way])
    assert len(agent.recent_returns) > 0  # it is the same
    agent.learn(96, callback=EvalCallback(WAYS[way], eval_freq=96, n_eval_episodes=2))


@pytest.mark.parametrize("workers", [None, 2])
def test_a_class_with_keywords_and_wrappers_is_made_in_shards_and_workers(workers):
    options = {"env_kwargs": {"pay": 2.0}, "wrappers": [three_times], "n_shards": 2, **SMALL}
    agent = TRPO("MlpPolicy", Sliding, workers=workers, **options).learn(192)
    again = TRPO("MlpPolicy", Sliding, workers=None, **options).learn(192)
    np.testing.assert_array_equal(agent.theta, again.theta)
    assert all(reward % 6 == 0 for reward in agent.recent_returns)
    force_close(agent.env)


def test_what_cannot_be_sent_to_a_worker_is_refused():
    agent = TRPO("MlpPolicy", lambda: Sliding(), workers=2, **SMALL)
    with pytest.raises(TypeError, match="can't be sent there"):
        agent.learn(1)


@forks
def test_a_callable_is_made_in_processes():
    agent = TRPO("MlpPolicy", lambda: Sliding(pay=2.0), vectorization_mode="async", **SMALL).learn(96)
    assert agent.recent_returns
    assert all(reward % 2 == 0 for reward in agent.recent_returns)
    agent.env.close()


def test_wrappers_are_put_around_in_order_and_keywords_are_passed_on():
    named = f"{__name__}:ten_more"
    for wrappers, reward in (
        ((three_times, named), 16.0),
        ((named, three_times), 36.0),
        ((three_times,), 6.0),
        ((), 2.0),
    ):
        env = pickle.loads(pickle.dumps(EnvMaker(Sliding, {"pay": 2.0}, wrappers)))()
        env.reset(seed=0)
        assert env.step(0)[1] == reward


def test_wrappers_of_an_id_rule_out_its_own_vector_form():
    envs = make_vector_env(EnvMaker("CartPole-v1", wrappers=(ten_more,)), 3)
    envs.reset(seed=0)
    assert envs.step(np.zeros(3, np.int64))[1].tolist() == [11.0] * 3


def test_keywords_reach_an_id_in_every_mode():
    for mode in ("sync", "vector_entry_point"):
        envs = make_vector_env(EnvMaker("CartPole-v1", {"sutton_barto_reward": True}), 3, mode)
        envs.reset(seed=0)
        assert envs.step(np.zeros(3, np.int64))[1].tolist() == [0.0] * 3


def test_an_environment_of_ones_own_is_drawn(tmp_path):
    pytest.importorskip("PIL", reason="drawing is an extra")
    pytest.importorskip("pygame", reason="drawing is an extra")
    agent = TRPO("MlpPolicy", Sliding, **SMALL)
    maker = EnvMaker(Sliding, {"pay": 2.0, "most": 3}, (three_times,))
    assert render_episodes(agent, maker, gif=tmp_path / "a.gif", seed=0) == [18.0]


def test_a_file_keeps_the_keywords_and_the_names_of_wrappers(tmp_path):
    agent = TRPO(
        "MlpPolicy", "CartPole-v1", env_kwargs={"sutton_barto_reward": True}, wrappers=[ten_more], **SMALL
    )
    expected = evaluate_policy(agent, n_eval_episodes=2, seed=0)
    assert agent.env_id == "CartPole-v1"
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent")
    assert (loaded.maker.id, loaded.maker.kwargs) == ("CartPole-v1", {"sutton_barto_reward": True})
    with pytest.raises(ValueError, match=f"the file names the wrapper '{__name__}:ten_more', and no module"):
        evaluate_policy(loaded, n_eval_episodes=2, seed=0)
    for each in (
        pickle.loads(pickle.dumps(agent)),
        TRPO.load(tmp_path / "agent", env=agent.env_id, env_kwargs=agent.maker.kwargs, wrappers=[ten_more]),
    ):
        assert evaluate_policy(each, n_eval_episodes=2, seed=0) == expected
    without = loaded.maker.trusted(wrappers=())  # which pays for nothing, and takes 1 where the pole falls
    assert evaluate_policy(loaded, without, n_eval_episodes=2, seed=0) == (-1, 0)


def test_what_a_file_cannot_keep_is_not_in_it(tmp_path):
    for number, (env, kwargs) in enumerate([(Sliding, {}), ("CartPole-v1", {"screen": Sliding})]):
        agent = TRPO("MlpPolicy", Sliding, **SMALL)
        agent.maker = EnvMaker(env, kwargs)
        agent.save(tmp_path / str(number))
        assert TRPO.load(tmp_path / str(number)).maker is None


def test_another_keyword_makes_another_environment():
    agent = TRPO("MlpPolicy", Sliding, **SMALL).learn(96)
    agent.set_env(Sliding)
    assert agent.recent_returns
    agent.set_env(Sliding, env_kwargs={"pay": 2.0})
    assert not agent.recent_returns


@pytest.mark.parametrize(
    ("env", "options", "error", "message"),
    [
        ("CartPole-v1", {"env_kwargs": {"lenght": 2}}, ValueError, "can't be made with env_kwargs .*lenght"),
        (Sliding, {"env_kwargs": {"lenght": 2}}, ValueError, "Sliding can't be made with env_kwargs"),
        (Sliding, {"env_kwargs": [1]}, TypeError, "env_kwargs must be a dict of keyword arguments"),
        (Sliding(), {"env_kwargs": {"pay": 2}}, TypeError, "not for Sliding, which is made already"),
        (Sliding(), {"wrappers": [ten_more]}, TypeError, "not for Sliding, which is made already"),
        (Sliding, {"wrappers": "a:b"}, TypeError, "wrappers must be a list"),
        (Sliding, {"wrappers": ["no_such_module:f"]}, ValueError, "no wrapper 'no_such_module:f': No module"),
        (
            Sliding,
            {"wrappers": [f"{__name__}:nothing"]},
            ValueError,
            "no wrapper .*has no attribute 'nothing'",
        ),
        (Sliding, {"wrappers": [f"{__name__}:SMALL"]}, ValueError, "must be callable, but it is"),
        (Sliding, {"wrappers": ["ten_more"]}, ValueError, "is named as module:callable, not 'ten_more'"),
        (
            Sliding,
            {"wrappers": [lambda env: None]},
            TypeError,
            "must return a gymnasium.Env, but .* NoneType",
        ),
        (dict, {}, TypeError, "dict must return a gymnasium.Env, but it returned dict"),
        (
            "CartPole-v1",
            {"wrappers": [ten_more], "vectorization_mode": "vector_entry_point"},
            ValueError,
            "without wrappers",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_environment_is_refused(env, options, error, message):
    with pytest.raises(error, match=message):
        TRPO("MlpPolicy", env, **SMALL | options)


def test_a_callable_that_returns_one_environment_again_and_again_is_refused():
    env = TimeLimit(ClipReward(Sliding(), -1, 1), 5)
    with pytest.raises(ValueError, match="returned the same one again"):
        TRPO("MlpPolicy", lambda: env, **SMALL)


# --- what files name ---------------------------------------------------------------------------------------

OF_A_FILE = EnvMaker("CartPole-v1", {"inner": ["of_someone:X-v0"]}, ("of_someone:wrap",), from_file=True)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ((), "the file names 'of_someone:X-v0', and no module .* --env-kwargs"),
        (("CartPole-v1",), "the file names 'of_someone:X-v0'"),
        ((None, {}), "the file names the wrapper 'of_someone:wrap', .* --wrapper of_someone:wrap"),
    ],
    ids=["nothing named", "the id", "the keywords"],
)
def test_what_a_file_alone_names_is_not_trusted(named, message):
    with pytest.raises(ValueError, match=message):
        OF_A_FILE.trusted(*named)


def test_what_someone_names_is_trusted():
    there = OF_A_FILE.trusted(None, {}, [ten_more])
    assert (there.kwargs, there.wrappers, there.from_file) == ({}, (ten_more,), False)
    other = OF_A_FILE.trusted("Acrobot-v1")
    assert (other.env, other.kwargs, other.wrappers) == ("Acrobot-v1", {}, ())
