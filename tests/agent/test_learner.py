"""The learner as a value: learning from a batch gives a new one, and changes nothing in the old one."""

import inspect
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from npTRPO import TRPO, gae
from npTRPO.agent import experience
from npTRPO.agent import learner as learner_module
from npTRPO.agent.learner import PURPOSES, learn
from npTRPO.sampling import Sampler
from npTRPO.sampling.normalization import standardize
from npTRPO.sampling.statistics import explained_variance
from npTRPO.trust_region import value_fit
from npTRPO.trust_region.conjugate_gradient import ConjugateGradient
from npTRPO.trust_region.line_search import LineSearch
from npTRPO.trust_region.update import UpdateOutcome, update
from tests.environments import Counter, TwoStates, counters, registered, vectorized

FITS = ["trust_region", "lbfgs", "adam"]
each_fit = pytest.mark.parametrize("fit", FITS)


def small(env="CartPole-v1", **options):
    return TRPO("MlpPolicy", env, **{"n_envs": 2, "n_steps": 16, "net_arch": (4,), "seed": 0} | options)


def learning(agent, updates):
    """Learn from so many batches; yield the learner before each, the batch, the learner after, the update."""
    learner = agent.learner
    sampler = Sampler(agent.env, agent.policy, int(learner.rng("reset").integers(2**31)))
    for _ in range(updates):
        before, rng = learner, learner.rng("sampling")
        batch = sampler.collect(before.theta, agent.config.n_steps, before.observation_moments, rng)
        learner, result = learn(agent.model, before, batch, before.rng("value fit"))
        yield before, batch, learner, result


def bits(learner):
    return {name: np.asarray(leaf).tobytes() for name, leaf in learner.leaves().items()}


@each_fit
@pytest.mark.parametrize(
    "options", [{}, {"normalize_rewards": False, "normalize_observations": False}], ids=str
)
def test_learn_does_what_an_agent_does_with_the_batches_that_it_collects(fit, options):
    agent, twin = (small(value_fit=fit, **options) for _ in range(2))
    for record, (_, _, learner, result) in zip(agent.updates(96), learning(twin, 3), strict=True):
        assert bits(learner) == bits(agent.learner)
        assert result.explained_variance == record.explained_variance or record.n_updates == 1
    assert (learner.num_timesteps, learner.n_updates) == (96, 3)


@each_fit
def test_learn_changes_nothing_that_it_is_given_and_draws_from_rng_alone(fit):
    agent = small(value_fit=fit)
    [_, (before, batch, after, _)] = learning(agent, 2)
    was = bits(before)
    again = [learn(agent.model, before, batch, np.random.default_rng(seed))[0] for seed in (0, 0, 1)]
    assert bits(before) == was
    assert bits(again[0]) == bits(again[1])
    assert (bits(again[0]) == bits(again[2])) == (fit != "adam")
    assert (bits(again[0]) == bits(after)) == (fit != "adam")
    assert agent.learner.n_updates == 0


def in_units_of_all(agent, before, raw):
    """E57: parameters and observations in the moments of all observations, the batch's included."""
    old = before.observation_moments
    new = old.updated(raw)
    rows = standardize(raw, new.normalizer(raw.dtype))
    if not old.count:
        return before.theta, before.value_theta, before.adam, rows
    change, network = old.change(new), agent.value_network
    theta = agent.policy.network.absorb(before.theta, *change)
    return theta, network.absorb(before.value_theta, *change), before.adam.absorbed(network, *change), rows


@each_fit
@pytest.mark.parametrize("normal", [True, False])
def test_a_batch_is_learned_from_as_the_algorithm_says(fit, normal):
    """In the first update and in a later one; rewards of any size, resets among the steps."""
    envs = vectorized(counters(2, (3, 4), ("truncated", "terminated")), AutoresetMode.NEXT_STEP)
    options = {"n_steps": 9, "value_fit": fit, "gamma": 0.5, "gae_lambda": 0.25, "dtype": "float64"}
    agent = small(envs, **options, normalize_rewards=normal, normalize_advantage=normal)
    for before, batch, after, result in learning(agent, 2):
        assert 0 < (~batch.valid).sum() < batch.valid.sum()
        scale = before.reward_scale.updated(batch.rewards, batch.ended, batch.valid, 0.5)
        rewards = np.clip(batch.rewards / scale.moments.scale, -10, 10) if normal else batch.rewards
        chosen, of_values = batch.valid, (agent.value_network, before.value_theta)
        values, following = batch.values(partial(value_fit.predict_values, *of_values))
        advantages = gae(rewards, values, following, batch.terminated, batch.truncated, 0.5, 0.25)[chosen]
        returns, seen = advantages + values[chosen], batch.observations[chosen]
        theta, value_theta, adam, rows = in_units_of_all(agent, before, batch.raw_observations[chosen])
        if normal:
            advantages = (advantages - advantages.mean()) / advantages.std()
        expected = update(
            *(agent.policy, theta, rows, batch.actions[chosen], advantages),
            old=agent.policy.outputs(before.theta, seen),
            cg_max_steps=3,
            cg_preconditioner="kronecker",
            line_search_shrinking_factor=0.8,
        )
        np.testing.assert_array_equal(after.theta, expected.theta)
        assert result.improvement == expected.improvement
        assert result.explained_variance == explained_variance(values[chosen], returns)
        given = agent.value_network, value_theta, rows, returns
        if fit == "adam":
            given += adam, before.rng("value fit")
            fitted, _ = value_fit.fit_adam(*given, epochs=10, batch_size=128, learning_rate=1e-3)
        elif fit == "lbfgs":
            fitted = value_fit.fit_lbfgs(*given, max_iter=20)
        else:
            of_cg = {"cg_max_steps": 3, "cg_rtol": 0.01, "cg_preconditioner": "kronecker"}
            fitted = value_fit.fit_trust_region(*given, steps=2, **of_cg)
        np.testing.assert_array_equal(after.value_theta, fitted)


def test_every_option_reaches_what_it_is_for(monkeypatch):
    """None of them has its default, neither of the config nor of the functions."""
    options = {
        "target_kl": 0.003,
        "cg_max_steps": 7,
        "cg_damping": 0.3,
        "cg_rtol": 0.2,
        "cg_beta": "polak-ribiere",
        "cg_preconditioner": "identity",
        "line_search_shrinking_factor": 0.7,
        "line_search_max_iter": 3,
        "sub_sampling_factor": 2,
        "damped_step": True,
    }
    others = {"n_critic_updates": 3, "batch_size": 5, "learning_rate": 0.1, "gamma": 0.7, "gae_lambda": 0.4}
    seen = {}

    def spy(module, name):
        function = getattr(module, name)

        def watched(*arguments, **keywords):
            seen[name] = inspect.signature(function).bind(*arguments, **keywords).arguments | keywords
            return function(*arguments, **keywords)

        monkeypatch.setattr(module, name, watched)

    for module, name in [
        (learner_module, "update"),
        (learner_module, "PartsObjective"),
        (experience, "PolicyObjective"),
        (experience, "gae"),
        (value_fit, "fit_in_parts"),
        (value_fit, "fit_lbfgs"),
        (value_fit, "fit_adam"),
    ]:
        spy(module, name)
    for fit in FITS:
        agent = small(value_fit=fit, **options, **others).learn(32)
        found = seen["update"]
        assert (found["target_kl"], found["damped_step"]) == (0.003, True)
        assert found["solver"] == ConjugateGradient(0.2, maxiter=7, beta="polak-ribiere")
        assert found["search"] == LineSearch(0.7, 3)
        assert {"damping": 0.3, "preconditioner": "identity"}.items() <= seen["PartsObjective"].items()
        assert {"sub_sampling_factor": 2, "cg_damping": 0.3}.items() <= seen["PolicyObjective"].items()
        assert {"gamma": 0.7, "lam": 0.4}.items() <= seen["gae"].items()
    assert seen["fit_in_parts"]["solver"] == ConjugateGradient(0.2, maxiter=7)
    assert (seen["fit_in_parts"]["layered"], seen["fit_in_parts"]["steps"]) == (None, 3)
    assert (seen["fit_lbfgs"]["max_iter"], seen["fit_lbfgs"]["network"]) == (3, agent.value_network)
    assert {"epochs": 3, "batch_size": 5, "learning_rate": 0.1}.items() <= seen["fit_adam"].items()


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("target_kl", [0.001, 0.05])
def test_E15_every_update_stays_within_the_trust_region(env, target_kl):
    """The KL is computed anew, on the states of the batch as either policy saw them."""
    agent = small(env, target_kl=target_kl, n_steps=64, net_arch=(16,), dtype="float64")
    moved = 0
    for before, batch, after, result in learning(agent, 8):
        rows, raw = batch.observations[batch.valid], batch.raw_observations[batch.valid]
        now = standardize(raw, after.observation_moments.normalizer(float))
        kl = np.mean(agent.policy(before.theta, rows).kl(agent.policy(after.theta, now)))
        assert kl <= target_kl
        # A mean over some hundred states of terms of size 1, subtracted from each other.
        assert abs(result.kl - kl) <= 1000 * np.finfo(float).eps
        moved += kl > 0.1 * target_kl
    assert moved >= 6


def test_moments_are_updated_once_per_batch():
    """All of a batch is collected with the same moments; no row counts twice."""
    envs = vectorized(counters(2, (3, 4)), AutoresetMode.NEXT_STEP)
    agent, seen = small(envs, n_steps=5, dtype="float64", gamma=0.5), []
    for before, batch, after, _ in learning(agent, 6):
        assert before.observation_moments.count == sum(map(len, seen))
        seen.append(batch.raw_observations[batch.valid])
        rows, moments = np.concatenate(seen), after.observation_moments
        assert moments.count == after.reward_scale.moments.count == len(rows)
        assert len(rows) == sum(map(len, envs.call("diary")))
        np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(moments.variance, rows.var(axis=0), rtol=1e-12)


def test_rewards_are_scaled_by_the_running_return_of_all_steps():
    """Computed anew from the diaries, in which an end starts the return afresh."""
    envs, seen = vectorized(counters(2, (3, 4)), AutoresetMode.NEXT_STEP), []
    agent = small(envs, n_steps=5, gamma=0.5).learn(70)
    for diary in envs.call("diary"):
        running = 0.0
        for _, _, reward, terminated, truncated, _ in diary:
            running = 0.5 * running + reward
            seen.append(running)
            running = 0.0 if terminated or truncated else running
    moments = agent.learner.reward_scale.moments
    assert moments.count == len(seen)
    np.testing.assert_allclose(moments.mean, np.mean(seen), rtol=1e-13)
    np.testing.assert_allclose(moments.variance, np.var(seen), rtol=1e-12)


@each_fit
def test_an_update_that_is_not_finite_is_refused_and_the_learner_kept_but_for_its_counts(fit):
    agent = small(value_fit=fit, dtype="float64")
    [(before, batch, _, _)] = learning(agent, 1)
    huge = replace(
        batch, raw_observations=1e308 * batch.raw_observations.astype(float)
    )  # whose squares are infinite
    after, result = learn(agent.model, before, huge, np.random.default_rng(0))
    assert result.outcome is UpdateOutcome.NOT_FINITE
    assert result.theta is before.theta
    assert (after.num_timesteps, after.n_updates) == (32, 1)
    assert bits(replace(after, num_timesteps=0, n_updates=0)) == bits(before)
    assert all(array is before.arrays()[name] for name, array in after.arrays().items())


def test_a_batch_of_resets_only_is_refused():
    agent = small()
    [(before, batch, _, _)] = learning(agent, 1)
    nothing = replace(batch, valid=np.zeros_like(batch.valid))
    with pytest.raises(ValueError, match="no transition to learn from"):
        learn(agent.model, before, nothing, np.random.default_rng(0))


def test_in_another_number_of_environments_running_returns_begin_at_zero():
    two, three = (small(vectorized([Counter] * n), n_steps=4) for n in (2, 3))
    [(_, _, of_two, _)] = learning(two, 1)
    assert of_two.reward_scale.running.all()
    three.learner = of_two
    [(_, batch, after, _)] = learning(three, 1)
    expected = of_two.at_reset(3).reward_scale.updated(batch.rewards, batch.ended, batch.valid, 0.99)
    np.testing.assert_array_equal(after.reward_scale.running, expected.running)
    assert after.reward_scale.moments.count == expected.moments.count == 8 + 12


def test_every_purpose_and_every_update_has_random_numbers_of_its_own():
    """Else updates would repeat the noise of the ones before, or take that of the environments."""
    learners = [replace(small(seed=seed).learner, n_updates=n) for seed in (0, 1) for n in range(3)]
    numbers = [learner.rng(purpose).random() for learner in learners for purpose in PURPOSES]
    assert len(set(numbers)) == len(numbers) == 30
    assert numbers[0] == small().learner.rng("initialisation").random()


def test_all_of_an_agents_random_numbers_are_those_of_their_purpose(monkeypatch):
    asked, rng = [], learner_module.Learner.rng
    monkeypatch.setattr(
        learner_module.Learner, "rng", lambda self, purpose: asked.append(purpose) or rng(self, purpose)
    )
    small(registered(TwoStates)).learn(64)
    assert asked == ["initialisation", "predict", "reset", *2 * ["sampling", "value fit"]]


# --- the learner of an agent -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["theta", "value_theta"])
def test_an_array_that_is_assigned_is_copied_into_a_new_learner(name):
    agent = small()
    before, old = agent.learner, bits(agent.learner)
    new = np.arange(getattr(agent, name).size)
    setattr(agent, name, new)
    assert getattr(agent, name) is getattr(agent.learner, name)
    assert getattr(agent, name).dtype == np.float32
    new[:] = 0
    np.testing.assert_array_equal(getattr(agent, name), np.arange(new.size))
    assert bits(before) == old
    with pytest.raises(ValueError, match=rf"{name} must have shape \(\d+,\), not \(3,\)"):
        setattr(agent, name, np.zeros(3))


def test_writing_into_theta_changes_what_the_agent_does_and_what_it_learns_from():
    agent, twin = small(), small()
    agent.theta[:] = 0
    twin.theta = np.zeros(twin.theta.size)
    assert not agent.learner.theta.any()
    assert bits(agent.learn(32).learner) == bits(twin.learn(32).learner)


def test_counts_and_moments_can_be_assigned_too():
    agent, other = small(), small(seed=1).learn(32)
    agent.num_timesteps, agent.n_updates = 5, 7
    agent.observation_moments = other.observation_moments
    assert (agent.learner.num_timesteps, agent.learner.n_updates) == (5, 7)
    assert agent.learner.observation_moments is other.learner.observation_moments
    agent.config = replace(agent.config, gamma=0.5)
    assert agent.model.config.gamma == 0.5
