"""Updates of one's own, and numbers of the infos that they need."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from npTRPO import TRPO, CheckpointError
from npTRPO.sampling import Batch, Sampler
from npTRPO.sampling.environments import make_vector_env
from npTRPO.trust_region import ConjugateGradient, LineSearch, Update, UpdateOutcome, update

SMALL = {"n_envs": 2, "n_steps": 16, "net_arch": (4,), "seed": 0}


def smaller(objective, theta):
    """The usual update in a tenth of the usual region."""
    return update(
        objective,
        theta,
        target_kl=0.001,
        solver=ConjugateGradient(0.01, maxiter=3),
        search=LineSearch(0.8, 10),
    )


def staying(objective, theta):
    return Update(theta, UpdateOutcome.LINE_SEARCH_FAILED, float(np.linalg.norm(objective.gradient)), 0.0)


@pytest.mark.parametrize("options", [{}, {"n_shards": 2}])
def test_an_update_of_ones_own_takes_the_place_of_the_usual_one(options):
    usual, own = (
        TRPO("MlpPolicy", "CartPole-v1", **SMALL, **options, **each)
        for each in ({"target_kl": 0.001}, {"improve": smaller})
    )
    np.testing.assert_array_equal(usual.learn(96).theta, own.learn(96).theta)
    np.testing.assert_array_equal(usual.value_theta, own.value_theta)
    record = next(TRPO("MlpPolicy", "CartPole-v1", **SMALL, improve=staying).updates(32))
    assert record.update.outcome is UpdateOutcome.LINE_SEARCH_FAILED
    assert record.update.gradient_norm > 0


@pytest.mark.slow
def test_an_update_of_ones_own_asks_workers_too():
    here = TRPO("MlpPolicy", "CartPole-v1", **SMALL, n_shards=2, improve=smaller).learn(96)
    there = TRPO(
        *("MlpPolicy", "CartPole-v1"),
        **SMALL,
        workers=2,
        improve=lambda *given: smaller(*given),  # which isn't sent to workers
    ).learn(96)
    there.env.close()
    np.testing.assert_array_equal(here.theta, there.theta)


def test_no_file_has_an_update_of_ones_own_and_load_asks_for_it(tmp_path):
    agent = TRPO("MlpPolicy", "CartPole-v1", **SMALL, improve=smaller).learn(32)
    agent.save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match=r"made with \['improve'\] of one's own, and load"):
        TRPO.load(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent", env="CartPole-v1", improve=smaller)
    for again in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        again.set_env("CartPole-v1")
        again.learn(64, reset_num_timesteps=False)
    loaded.learn(64, reset_num_timesteps=False)
    np.testing.assert_array_equal(loaded.theta, again.theta)


@pytest.mark.parametrize(
    "result", [None, np.zeros(22), Update(np.zeros(3), UpdateOutcome.IMPROVED, 1.0, 0.0)]
)
def test_an_update_that_returns_something_else_is_refused(result):
    agent = TRPO("MlpPolicy", "CartPole-v1", **SMALL, improve=lambda objective, theta: result)
    with pytest.raises(TypeError, match=r"improve must return .* whose theta has shape \(\d+,\), not"):
        agent.learn(32)
    with pytest.raises(TypeError, match="improve must be a function of an objective and θ, not 'trpo'"):
        TRPO("MlpPolicy", "CartPole-v1", improve="trpo")


# --- infos -----------------------------------------------------------------------------------------------


class Costly(gymnasium.Env):
    """Episodes of three steps, whose infos count all steps of the environment so far."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    cost: object = staticmethod(float)

    def __init__(self):
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return np.zeros(1, np.float32), {"cost": -1.0}  # which isn't a step's

    def step(self, action):
        self.now, self.steps = self.now + 1, self.steps + 1
        return np.zeros(1, np.float32), 0.0, self.now == 3, False, {"cost": self.cost(self.steps)}


@pytest.fixture
def costly():
    gymnasium.register("tests/Costly-v0", Costly)
    yield "tests/Costly-v0"
    del gymnasium.registry["tests/Costly-v0"]


def made(env, mode):
    """Two of an environment in a vector."""
    if mode in ("sync", "async"):
        return make_vector_env(env, 2, mode)
    reset = {"autoreset_mode": gymnasium.vector.AutoresetMode[mode]}
    return gymnasium.make_vec(env, 2, vectorization_mode="sync", vector_kwargs=reset)


@pytest.mark.parametrize("mode", ["sync", "async", "SAME_STEP", "NEXT_STEP"])
def test_numbers_of_the_infos_are_those_of_every_step(mode, costly):
    """Also of the steps that end episodes, whose infos vectors keep apart; 0 in steps that only reset."""
    agent = TRPO("MlpPolicy", costly, net_arch=(4,), seed=0)
    env = made(costly, mode)
    sampler = Sampler(env, agent.policy, seed=0, info_keys=("cost",))
    batches = [sampler.collect(agent.theta, 7, None, np.random.default_rng(0)) for _ in range(2)]
    env.close()
    for i in range(2):
        found = np.concatenate([batch.infos["cost"][:, i] for batch in batches])
        valid = np.concatenate([batch.valid[:, i] for batch in batches])
        np.testing.assert_array_equal(found[valid], np.arange(1, valid.sum() + 1))
        assert not found[~valid].any()
    assert (mode == "NEXT_STEP") == (not batches[0].valid.all())


def test_batches_of_several_samplers_join_their_infos(costly):
    agent = TRPO("MlpPolicy", costly, net_arch=(4,), seed=0)

    def batch(n, **options):
        sampler = Sampler(make_vector_env(costly, n), agent.policy, seed=0, **options)
        return sampler.collect(agent.theta, 4, None, np.random.default_rng(0))

    joined = Batch.concatenate([batch(1, info_keys=["cost"]), batch(2, info_keys=["cost"])])
    np.testing.assert_array_equal(joined.infos["cost"], np.arange(1.0, 5)[:, None] * np.ones(3))
    with pytest.raises(ValueError, match=r"different infos can't be joined: \['cost'\] and \[\]"):
        Batch.concatenate([batch(1, info_keys=["cost"]), batch(2)])


@pytest.mark.parametrize("options", [{}, {"n_shards": 2}])
def test_the_agents_batches_have_them_too(costly, options, monkeypatch):
    seen = []
    collect = Sampler.collect
    monkeypatch.setattr(Sampler, "collect", lambda *given: seen.append(collect(*given)) or seen[-1])
    TRPO("MlpPolicy", costly, **SMALL, **options, info_keys=("cost",)).learn(32)
    assert [batch.infos["cost"].shape for batch in seen] == ([(16, 1)] * 2 if options else [(16, 2)])


@pytest.mark.parametrize(
    ("cost", "key", "message"),
    [
        (float, "costs", r"info_keys has 'costs', which is not in the infos of environment 0 in step 1$"),
        (str, "cost", None),
        (
            lambda step: "much",
            "cost",
            r"info_keys has 'cost', which is 'much', and not a number, in the infos of",
        ),
        (lambda step: [1.0, 2.0], "cost", r"and not a number, in the infos of environment 0 in step 1$"),
    ],
    ids=["missing", "text of a number", "text", "list"],
)
def test_infos_that_are_no_numbers_are_refused(cost, key, message, costly, monkeypatch):
    monkeypatch.setattr(Costly, "cost", staticmethod(cost))
    agent = TRPO("MlpPolicy", costly, **SMALL, info_keys=[key])
    if message is None:
        agent.learn(32)
    else:
        with pytest.raises(ValueError, match=message):
            agent.learn(32)
