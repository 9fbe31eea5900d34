import copy
import itertools
import math
import pickle
from unittest import mock

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import TRPO, TRPOConfig, evaluate_policy
from npTRPO.agent import trpo
from npTRPO.sampling.normalization import standardize
from npTRPO.trust_region import value_fit as value
from tests.environments import (
    Bandit,
    Choosy,
    Counter,
    Flawed,
    Target,
    TwoStates,
    counters,
    in_both_modes,
    registered,
    vectorized,
)
from tests.parameters import crossed
from tests.strategies import action_spaces, observation_spaces, seeds

FITS = ["trust_region", "lbfgs", "adam"]


def small(env="CartPole-v1", **options):
    """An agent that trains in no time."""
    return TRPO("MlpPolicy", env, **{"n_envs": 2, "n_steps": 16, "net_arch": (4,), "seed": 0} | options)


def batched(space, observations):
    """Observations as Gymnasium's vector environments batch them."""
    empty = create_empty_array(space, len(observations))
    return concatenate(space, observations, empty) if observations else empty


def holds(space, action):
    """Whether an element of a batch lies in the space; a Box wants an array where there are no axes too."""
    return space.contains(np.asarray(action) if isinstance(space, spaces.Box) else action)


# --- acting ----------------------------------------------------------------------------------------------


@given(observation=observation_spaces, action=action_spaces, n=st.integers(0, 3), seed=seeds)
@pytest.mark.parametrize("deterministic", [True, False])
def test_predict_takes_one_observation_or_a_batch_of_any_space(deterministic, observation, action, n, seed):
    agent = TRPO(spaces=(observation, action), net_arch=(3,), seed=seed)
    observation.seed(seed % 2**31)
    samples = [observation.sample() for _ in range(n)]
    actions, state = agent.predict(batched(observation, samples), deterministic=deterministic)
    assert state is None
    assert actions.shape == (n, *action.shape)
    assert all(holds(action, one) for one in actions)
    for sample in samples:
        one, state = agent.predict(sample, deterministic=deterministic)
        assert state is None
        assert action.contains(one)


@given(observation=observation_spaces, action=action_spaces, seed=seeds)
def test_the_deterministic_action_is_always_the_same(observation, action, seed):
    agent, twin = (TRPO(spaces=(observation, action), net_arch=(3,), seed=seed) for _ in range(2))
    observation.seed(seed % 2**31)
    sample = observation.sample()
    first, _ = agent.predict(sample, deterministic=True)
    agent.predict(sample)  # takes random numbers
    batch, _ = agent.predict(batched(observation, [sample]), deterministic=True)
    for again in (agent.predict(sample, deterministic=True)[0], twin.predict(sample, deterministic=True)[0]):
        np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(batch[0], first)


def test_random_actions_follow_the_seed_and_the_policy():
    """Of three actions with logits 0, log 2 and log 3; frequencies within five standard deviations."""
    draws = []
    for seed in (5, 5, 6):
        agent = TRPO(spaces=(spaces.Box(-1, 1, (1,)), spaces.Discrete(3)), net_arch=(), seed=seed)
        agent.theta = np.log(np.array([1, 1, 1, 1, 2, 3], dtype=np.float32))
        draws.append(agent.predict(np.zeros((6000, 1)))[0])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    expected = np.array([1000, 2000, 3000])
    deviation = np.sqrt(expected * (1 - expected / 6000))
    assert np.all(np.abs(np.bincount(draws[0]) - expected) <= 5 * deviation)
    assert np.all(agent.predict(np.zeros((9, 1)), deterministic=True)[0] == 2)


def test_predict_normalises_as_training_does():
    agent = small().learn(64)
    moments = agent.observation_moments
    rows = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    seen = np.clip((rows - moments.mean) / np.sqrt(moments.variance), -10, 10).astype(np.float32)
    plain = small(normalize_observations=False)
    plain.theta = agent.theta
    np.testing.assert_array_equal(
        agent.predict(rows, deterministic=True)[0], plain.predict(seen, deterministic=True)[0]
    )


BOX, DICT = spaces.Box(-9, 9, (2,)), spaces.Dict(a=spaces.Box(-9, 9, (2,)), b=spaces.Discrete(3))
TUPLE = spaces.Tuple((spaces.Discrete(3), spaces.Box(-9, 9, (2,))))


@pytest.mark.parametrize(
    ("space", "observation", "complaint"),
    [
        (BOX, np.zeros(3), r"\(\(3,\)\) is neither an element of Box\(.* nor a batch"),
        (BOX, np.zeros((4, 3)), r"\(\(4, 3\)\) is neither an element"),
        (BOX, np.zeros((1, 4, 2)), "is neither an element"),
        (BOX, 1.0, r"\(float\) is neither an element"),
        (BOX, "text", "is neither an element"),
        (BOX, ["x", "y"], "could not convert"),
        (BOX, [np.nan, 0], "not finite"),
        (BOX, [[0, 0], [0, np.inf]], "not finite"),
        (spaces.Discrete(3), 3, "outside"),
        (spaces.Discrete(3), [0, -1], "outside"),
        (spaces.Discrete(3), [[0]], "is neither an element"),
        (DICT, np.zeros(2), r"must be a dict with the keys \['a', 'b'\]"),
        (DICT, {"a": np.zeros(2)}, r"must be a dict with the keys \['a', 'b'\]"),
        (DICT, {"a": np.zeros(2), "b": 0, "c": 0}, r"must be a dict with the keys \['a', 'b'\]"),
        (DICT, {"a": np.zeros(2), "b": [0]}, "is neither an element"),
        (DICT, {"a": np.zeros((2, 2)), "b": [0, 1, 2]}, "."),
        (TUPLE, (0,), "must be a tuple of 2"),
        (TUPLE, (0, np.zeros(2), 0), "must be a tuple of 2"),
        (TUPLE, (0, np.zeros((1, 2))), "is neither an element"),
        (TUPLE, 3, "must be a tuple of 2"),
        (TUPLE, np.zeros((2, 2)), "must be a tuple of 2"),
    ],
    ids=str,
)
def test_what_is_no_observation_is_refused(space, observation, complaint):
    agent = TRPO(spaces=(space, spaces.Discrete(2)))
    with pytest.raises(ValueError, match=complaint):
        agent.predict(observation)


# --- where it learns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "n_envs", "env_id"),
    [
        (lambda: "CartPole-v1", 3, "CartPole-v1"),
        (lambda: gymnasium.make("CartPole-v1"), 1, None),
        (lambda: gymnasium.make_vec("CartPole-v1", 2, "sync"), 2, None),
        (lambda: CartPoleVectorEnv(4), 4, None),
    ],
    ids=["id", "environment", "vector environment", "its own vector form"],
)
def test_an_agent_learns_in_an_id_an_environment_or_a_vector_environment(env, n_envs, env_id):
    env = env()
    agent = small(env, n_envs=3)
    before = agent.theta
    assert agent.learn(64 * n_envs) is agent
    assert agent.env is agent.get_env()
    assert agent.env.num_envs == n_envs
    assert agent.env_id == env_id
    assert agent.num_timesteps == 64 * n_envs
    assert not np.array_equal(agent.theta, before)
    assert np.all(np.isfinite(agent.theta))
    if isinstance(env, gymnasium.vector.VectorEnv):
        assert agent.env is env


@pytest.mark.parametrize("new", [registered(Choosy), Choosy(), vectorized([Choosy] * 3)], ids=str)
def test_an_agent_goes_on_in_another_environment(new):
    agent = small(registered(Choosy)).learn(32)
    agent.set_env(new)
    before = agent.theta
    agent.learn(64, reset_num_timesteps=False)
    assert not np.array_equal(agent.theta, before)
    assert agent.env_id == (new if isinstance(new, str) else None)


def test_after_a_change_of_environment_the_new_one_is_stepped_and_the_old_one_is_not():
    old, new = Counter(lengths=(5,)), Counter(lengths=(5,))
    agent = small(old).learn(16)
    agent.set_env(new)
    agent.learn(16)
    assert (len(old.diary), len(new.diary)) == (16, 16)
    np.testing.assert_array_equal([before for before, *_ in new.diary[:5]], [[0, 0, k] for k in range(5)])


@pytest.mark.parametrize("other", ["CartPole-v1", Counter(), vectorized([Target])], ids=str)
def test_an_environment_with_other_spaces_is_refused_with_both_and_the_old_one_kept(other):
    agent = small(registered(Choosy))
    old = agent.env
    with pytest.raises(
        ValueError, match=r"acts on Box\(-1.*\(2,\).*Discrete\(2\), but the environment has Box"
    ):
        agent.set_env(other)
    assert agent.env is old
    assert agent.learn(32).num_timesteps == 32


@pytest.mark.parametrize(
    ("arguments", "options", "complaint"),
    [
        (("CartPole-v1", TRPOConfig()), {"gamma": 0.9}, "config or options, not both"),
        (("CartPole-v1", TRPOConfig()), {"policy_kwargs": {"net_arch": [3]}}, "config or options, not both"),
        (("CartPole-v1", 1e-3), {}, r"must be a TRPOConfig, not 0\.001; options are given by name"),
        (("CartPole-v1",), {"policy_kwargs": {"arch": 3}}, "'arch' is no option in policy_kwargs"),
        (("CartPole-v1",), {"gama": 0.9}, "did you mean 'gamma'"),
        ((), {}, "needs an env"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_made_is_refused_with_the_reason(arguments, options, complaint):
    with pytest.raises(TypeError, match=complaint):
        TRPO("MlpPolicy", *arguments, **options)


@pytest.mark.parametrize("apart", [True, False])
def test_policy_kwargs_shape_the_networks(apart):
    options = {"net_arch": {"pi": [3, 5], "vf": [2]}, "activation_fn": "relu"}
    options |= {"log_std_init": -1.5, "ortho_init": False}
    agent = TRPO("MlpPolicy", Target(), **({"policy_kwargs": options} if apart else options), seed=0)
    assert agent.config == TRPOConfig(**options, seed=0)
    assert agent.policy.network.sizes == (1, 3, 5, 1)
    assert agent.value_network.sizes == (1, 2, 1)
    assert {agent.policy.network.activation_fn, agent.value_network.activation_fn} == {"relu"}
    assert agent.theta[-1] == -1.5
    assert agent.theta.size == agent.policy.n_parameters == 2 * 3 + 4 * 5 + 6 * 1 + 1
    weights = agent.theta[6:21].reshape(3, 5).astype(float)
    gram = weights @ weights.T
    assert not np.allclose(gram, np.diag(np.diag(gram)), atol=1e-3)  # not orthogonal


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_learned_has_the_dtype_asked_for(dtype):
    agent = small(dtype=dtype, value_fit="adam").learn(64)
    arrays = agent.theta, agent.value_theta, agent.learner.adam.mean, agent.learner.adam.square
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


# --- learning --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_envs", "n_steps", "asked", "taken"),
    [(2, 16, 1, 32), (2, 16, 32, 32), (2, 16, 33, 64), (3, 5, 100, 105), (1, 7, 7, 7), (2, None, 5, 2048)],
)
def test_steps_are_counted_in_whole_batches_of_all_environments(n_envs, n_steps, asked, taken):
    agent = small(n_envs=n_envs, n_steps=n_steps)
    records = list(agent.updates(asked))
    batch = n_envs * (n_steps or 2048 // n_envs)
    assert [record.num_timesteps for record in records] == list(range(batch, taken + 1, batch))
    assert [record.n_updates for record in records] == list(range(1, taken // batch + 1))
    assert (agent.num_timesteps, agent.n_updates) == (taken, taken // batch)


def test_learning_in_two_calls_is_learning_in_one():
    whole, parts = small(), small()
    whole.learn(160)
    parts.learn(64).learn(33, reset_num_timesteps=False)
    assert parts.num_timesteps == 128
    parts.learn(32, reset_num_timesteps=False)
    assert (parts.num_timesteps, parts.n_updates) == (160, 5)
    np.testing.assert_array_equal(parts.theta, whole.theta)
    np.testing.assert_array_equal(parts.value_theta, whole.value_theta)


def test_steps_are_counted_from_zero_again_unless_asked_otherwise():
    agent = small().learn(64).learn(32)
    assert (agent.num_timesteps, agent.n_updates) == (32, 3)
    assert agent.learn(32.0).num_timesteps == 32


def test_a_record_says_what_an_update_did():
    """On the counters, whose episodes are known: three steps each, with the rewards 100 e + 10 k + action."""
    envs = vectorized(counters(2, (3,)))
    agent = small(envs, n_steps=4, gamma=0.5)
    records = [record for record in agent.updates(8 * 60) if record.agent is agent]
    rewards = [
        [reward for _, _, reward, *_ in diary[3 * e : 3 * e + 3]]
        for diary in envs.call("diary")
        for e in range(80)
    ]
    returns = {(copy, e): sum(rewards[80 * copy + e]) for copy in range(2) for e in range(80)}
    for record in records:
        episodes = 4 * record.n_updates // 3
        latest = [returns[copy, e] for e in range(episodes) for copy in range(2)][-100:]
        assert record.num_timesteps == 8 * record.n_updates
        assert record.episode_return == pytest.approx(np.mean(latest), rel=1e-12)
        assert record.episode_length == 3
        assert record.explained_variance <= 1
        assert record.steps_per_second > 0
        assert 0 <= record.update.kl <= agent.config.target_kl
    assert records[-1].update.theta is agent.theta
    elapsed = [record.time_elapsed for record in records]
    assert elapsed == sorted(elapsed)
    assert elapsed[0] > 0


@pytest.mark.parametrize("fit", FITS)
def test_every_value_fit_learns_the_value_of_what_it_saw(fit):
    """Each of three steps pays 1, so with γ = 1 V is the number of steps left, whatever the policy does."""

    class Ones(Counter):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, 1.0, *rest

    env = Ones(view="multi-binary")
    of_fit = {"value_fit": fit, "learning_rate": 0.01, "batch_size": 32, "normalize_rewards": False}
    agent = small(env, gamma=1.0, gae_lambda=1.0, n_steps=96, net_arch=(16,), **of_fit)
    explained = [record.explained_variance for record in agent.updates(96 * 10)]
    assert explained[0] < 0.5
    assert explained[-1] > 0.95
    places = [np.array([0, episode, step]) for episode in range(16) for step in range(3)]
    rows = agent.policy.encode(np.stack([env._show(place) for place in places]), np.float32)
    rows = standardize(rows, agent.observation_moments.normalizer(np.float32))
    left = [3 - place[2] for place in places]
    values = value.predict_values(agent.value_network, agent.value_theta, rows)
    assert np.sqrt(np.mean((values - left) ** 2)) < 0.2  # from 0.8, the deviation of 3, 2 and 1


@pytest.mark.parametrize(
    ("env", "dtype", "fit"),
    crossed(
        itertools.product(["CartPole-v1", registered(TwoStates), "Pendulum-v1"], ["float32", "float64"]), FITS
    ),
)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(env, dtype, fit):
    agents = [small(env, dtype=dtype, value_fit=fit, seed=seed).learn(96) for seed in (0, 0, 1)]
    for name in ("theta", "value_theta"):
        one, same, other = (getattr(agent, name) for agent in agents)
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)
    np.testing.assert_array_equal(*(agent.observation_moments.mean for agent in agents[:2]))


def test_learning_takes_no_random_numbers_from_numpys_own_generator():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    small(value_fit="adam").learn(64).predict(np.zeros(4))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_an_agent_without_a_seed_can_be_repeated_by_its_entropy():
    agent = small(seed=None).learn(64)
    again = small(seed=None, entropy=agent.entropy).learn(64)
    other = small(seed=None).learn(64)
    np.testing.assert_array_equal(agent.theta, again.theta)
    assert not np.array_equal(agent.theta, other.theta)


def test_a_batch_of_resets_only_is_nothing_to_learn_from():
    """With one environment in NEXT_STEP mode and one step to a batch, every fourth batch is one."""
    envs = vectorized([lambda: Counter(lengths=(3,))], AutoresetMode.NEXT_STEP)
    agent = small(envs, n_steps=1, normalize_advantage=False)
    records = list(agent.updates(8))
    assert [record.num_timesteps for record in records] == [1, 2, 3, 5, 6, 7]
    assert (agent.num_timesteps, agent.n_updates) == (8, 6)
    assert agent.observation_moments.count == 6


# --- environments that break their word ------------------------------------------------------------------


@in_both_modes
@pytest.mark.parametrize(
    ("flaw", "error", "complaint"),
    [
        ({"observation": np.array([0.0, np.nan, 0.0])}, ValueError, r"environment 1 .* nan \(feature 1\)"),
        ({"observation": np.array([np.inf, 0.0, 0.0])}, ValueError, r"environment 1 .* inf \(feature 0\)"),
        ({"reward": np.nan}, ValueError, "environment 1 returned the reward nan"),
        ({"reward": -np.inf}, ValueError, "environment 1 returned the reward -inf"),
        ({"observation": np.zeros(2)}, ValueError, "shape"),
        ({"error": ZeroDivisionError("broke")}, ZeroDivisionError, "broke"),
        ({"error": KeyboardInterrupt()}, KeyboardInterrupt, "^$"),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("at", [10, 12])
def test_what_an_environment_does_wrong_leaves_the_agent_as_it_was_and_able_to_go_on(
    mode, at, flaw, error, complaint
):
    """At step 12 an episode ends. Afterwards learning begins with a reset, and is right again."""
    makers = [lambda: Counter(0, (4,)), lambda: Flawed(at, **flaw, copy=1, lengths=(4,))]
    envs = vectorized(makers, mode)
    agent = small(envs, n_steps=6, value_fit="adam")
    after_each = []
    with pytest.raises(error, match=complaint):
        agent.learn(120, callback=lambda _: after_each.append(agent.learner))
    assert agent.learner is after_each[-1]
    updates, steps = agent.n_updates, agent.num_timesteps
    assert (updates, steps) == (agent.n_updates, 12 * agent.n_updates)
    first = len(agent.env.envs[0].diary)
    agent.learn(12, reset_num_timesteps=False)
    assert (agent.n_updates, agent.num_timesteps) == (updates + 1, steps + 12)
    for env in agent.env.envs:
        before = env.diary[-6 if mode is AutoresetMode.SAME_STEP else -5][0]
        assert before[2] == 0  # the first step of an episode
    assert len(agent.env.envs[0].diary) - first in (5, 6)


def test_a_run_that_was_stopped_by_an_error_does_not_mix_what_was_seen_before_and_after():
    """The observation that the first action answers is the one of the reset."""
    flaky = Flawed(5, error=ZeroDivisionError("broke"), lengths=(100,))
    agent = small(flaky, n_steps=8, normalize_observations=False)
    with pytest.raises(ZeroDivisionError):
        agent.learn(8)
    [record] = agent.updates(8)
    assert record.update.theta is agent.theta
    observations = [before for before, *_ in flaky.diary[5:]]
    np.testing.assert_array_equal(observations, [[0, 1, step] for step in range(8)])


def _evaluated(agent, env):
    evaluate_policy(agent, env, 1, max_episode_steps=3)
    return {"reset_num_timesteps": False}


def _evaluated_where_it_learns(agent, env):
    return _evaluated(agent, agent.get_env())


def _stepped(agent, env):
    envs = agent.get_env()
    envs.reset()
    envs.step(envs.action_space.sample())
    return {}


@pytest.mark.parametrize("meanwhile", [_evaluated, _evaluated_where_it_learns, _stepped])
@pytest.mark.parametrize("together", [True, False], ids=["vector", "single"])
def test_what_others_did_in_the_environment_is_not_learned_as_what_the_agent_saw(
    together, meanwhile, monkeypatch
):
    """The observations of a batch are those that the environment gave, from the first."""
    single = Counter(lengths=(100,))
    env = vectorized([lambda: single]) if together else single
    agent = small(env, n_steps=8, normalize_observations=False).learn(8)
    learned, learn = [], trpo.learn
    monkeypatch.setattr(trpo, "learn", lambda *given: learned.append(given[2]) or learn(*given))
    agent.learn(8, **meanwhile(agent, env))
    [[(observations, _)]] = [batch.call("targets") for batch in learned]
    np.testing.assert_array_equal(observations, [before for before, *_ in single.diary[-8:]])


def _by_step(envs):
    envs.step(envs.action_space.sample())


def _by_parts(envs):
    envs.step_async(envs.action_space.sample())
    envs.step_wait()


@pytest.mark.parametrize(
    ("mode", "wrap", "step"),
    [
        ("sync", lambda envs: envs, _by_step),
        ("sync", gymnasium.wrappers.vector.RecordEpisodeStatistics, _by_step),
        ("vector_entry_point", lambda envs: envs, _by_step),
        ("async", lambda envs: envs, _by_parts),
    ],
    ids=["sync", "wrapped", "native", "async"],
)
def test_a_vector_of_ones_own_that_was_stepped_by_hand_begins_a_new_episode(mode, wrap, step, monkeypatch):
    """And one that wasn't goes on in the episode that is under way."""
    inner = gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode=mode)
    agent = small(wrap(inner), n_steps=4).learn(8)
    reset = mock.create_autospec(type(inner).reset, side_effect=type(inner).reset)
    monkeypatch.setattr(type(inner), "reset", reset)
    agent.learn(8, reset_num_timesteps=False)
    assert reset.call_count == 0
    step(inner)
    agent.learn(8, reset_num_timesteps=False)
    assert reset.call_count == 1
    inner.close()


def test_a_vector_that_counts_can_be_copied():
    envs = gymnasium.vector.SyncVectorEnv([TwoStates, TwoStates])
    small(envs, n_steps=4).learn(8)
    for twin in (copy.deepcopy(envs), pickle.loads(pickle.dumps(envs))):
        twin.step(twin.action_space.sample())
        assert [[env.now for env in each.envs] for each in (envs, twin)] == [[4, 4], [5, 5]]
    assert envs.nptrpo_calls == 5


def test_an_evaluation_elsewhere_does_not_interrupt_the_episodes_of_training():
    env = Counter(lengths=(100,))
    agent = small(env, n_steps=8).learn(8)
    evaluate_policy(agent, Counter(lengths=(5,)), 2)
    agent.learn(8, reset_num_timesteps=False)
    assert (env.episode, env.now) == (0, 16)


# --- what it learns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
def test_a_bandit_is_played_at_its_best_arm(fit):
    agent = TRPO("MlpPolicy", registered(Bandit), net_arch=(), n_steps=32, value_fit=fit, seed=0).learn(5000)
    rows = np.zeros((1, 1), dtype=np.float32)
    assert agent.policy(agent.theta, rows).probs[0, Bandit.best] > 0.95
    assert agent.predict(rows, deterministic=True)[0] == Bandit.best


@in_both_modes
def test_two_states_are_solved_and_their_values_known(mode):
    """The best policy's values, γ/(1 − γ) and 1/(1 − γ), which are those of episodes that never end.

    Had the episodes' ends been taken for terminations, the values would be some 40 % smaller; had they
    gone on into the next episode, V(1) would be too low by what its beginnings in state 0 cost.
    """
    options = {"n_steps": 64, "gamma": 0.9, "normalize_rewards": False, "target_kl": 0.05}
    agent = small(vectorized([TwoStates] * 8, mode), net_arch=(8,), **options).learn(15_000)
    probabilities = agent.distribution(np.array([0, 1])).probs
    assert probabilities[0, 1] > 0.99
    assert probabilities[1, 0] > 0.99
    np.testing.assert_allclose(agent.predict_values(np.array([0, 1])), [9, 10], atol=0.1)
    mean, _ = evaluate_policy(agent, TwoStates(), 40, seed=0)
    assert 19 < mean < 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_continuous_target_is_met(dtype):
    """The untrained policy is off by 0.25 + 0.5 s, so by 1/12 · 0.25 + 0.0625 in the mean of squares."""
    options = {"net_arch": (16,), "n_steps": 64, "log_std_init": -math.log(2), "dtype": dtype}
    agent = TRPO("MlpPolicy", registered(Target), seed=0, **options)
    before, _ = evaluate_policy(agent, registered(Target), 500, seed=0)
    assert before == pytest.approx(-(0.25 / 3 + 0.0625), abs=0.03)
    agent.learn(10_000)
    after, _ = evaluate_policy(agent, registered(Target), 500, seed=0)
    assert after > -1e-3
    assert agent.theta[-1] < -1.7  # and it has become surer of itself, to a σ of less than 0.37


def test_cartpole_is_balanced():
    agent = TRPO("MlpPolicy", "CartPole-v1", seed=0).learn(50_000)
    mean, _ = evaluate_policy(agent, "CartPole-v1", n_eval_episodes=20, seed=0)
    assert mean >= 475
