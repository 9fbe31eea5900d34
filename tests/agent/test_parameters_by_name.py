"""Hyperparameters as attributes, and parameters read and written, as Stable-Baselines3 names them."""

import dataclasses

import numpy as np
import pytest

from npTRPO import TRPO

SMALL = {"n_envs": 2, "n_steps": 32, "net_arch": (8,)}
OBSERVATIONS = np.random.default_rng(0).standard_normal((50, 4))


def small(env="CartPole-v1", **options):
    return TRPO("MlpPolicy", env, **SMALL | {"seed": 0} | options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 0.5),
        ("gae_lambda", 0.5),
        ("normalize_advantage", False),
        ("target_kl", 0.05),
        ("cg_max_steps", 1),
        ("cg_damping", 1.0),
        ("line_search_shrinking_factor", 0.3),
        ("line_search_max_iter", 3),
        ("sub_sampling_factor", 2),
        ("n_critic_updates", 1),
        ("learning_rate", 0.5),
        ("batch_size", 8),
        ("n_steps", 16),
    ],
)
def test_an_option_that_is_assigned_counts_as_if_it_had_been_given(name, value):
    assigned, given = small(), small(**{name: value})
    assert getattr(assigned, name) != value
    setattr(assigned, name, value)
    assert getattr(assigned, name) == value
    assert assigned.config == given.config == dataclasses.replace(small().config, **{name: value})
    np.testing.assert_array_equal(assigned.learn(64).theta, given.learn(64).theta)


def test_impossible_values_and_what_an_agent_is_made_with_are_refused():
    agent = small()
    with pytest.raises(ValueError, match="gamma must be a number from 0 to 1"):
        agent.gamma = 2
    for name in ("seed", "net_arch"):
        with pytest.raises(AttributeError):
            setattr(agent, name, None)
    assert (agent.gamma, agent.seed, agent.net_arch) == (0.99, 0, {"pi": [8], "vf": [8]})
    assert small(n_steps=None).n_steps == 1024


def same(one, other):
    return np.array_equal(one.theta, other.theta) and np.array_equal(
        one.predict_values(OBSERVATIONS), other.predict_values(OBSERVATIONS)
    )


@pytest.mark.parametrize("source", ["dict", "file", "open file"])
def test_an_agent_with_anothers_parameters_acts_and_values_as_it(source, tmp_path):
    learned, other = small().learn(512), small(seed=1)
    assert not same(learned, other)
    if source == "dict":
        other.set_parameters(learned.get_parameters())
    else:
        learned.save(tmp_path / "agent")
        if source == "file":
            other.set_parameters(tmp_path / "agent")
        else:
            with (tmp_path / "agent.npz").open("rb") as file:
                other.set_parameters(file)
    assert same(learned, other)
    expected, _ = learned.predict(OBSERVATIONS, deterministic=True)
    np.testing.assert_array_equal(other.predict(OBSERVATIONS, deterministic=True)[0], expected)
    assert other.num_timesteps == 0
    other.learn(128)


def test_parameters_are_copies_and_a_part_of_them_may_be_written():
    agent = small("Pendulum-v1")
    parameters = agent.get_parameters()
    before = agent.theta.copy()
    parameters["policy"]["log_std"] -= 1
    np.testing.assert_array_equal(agent.theta, before)
    agent.set_parameters({"policy": {"log_std": parameters["policy"]["log_std"]}}, exact_match=False)
    np.testing.assert_array_equal(agent.theta, np.append(before[:-1], before[-1] - 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["policy"].pop("policy.0.bias"), "'policy.0.bias' in 'policy' is missing"),
        (lambda p: p["policy"].update(other=1), "'other' in 'policy' is none of the agent's"),
        (lambda p: p["policy"].update({"value.0.bias": np.zeros(3)}), r"must have shape \(8,\), not \(3,\)"),
        (lambda p: p["policy"]["policy.1.bias"].fill(np.nan), "policy.1.bias must be finite"),
        (
            lambda p: p["normalization"]["observation_moments_variance"].fill(-1),
            "observation_moments_variance must not be negative",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(change, message):
    agent = small()
    parameters, before = small(seed=1).get_parameters(), agent.learner
    change(parameters)
    with pytest.raises(ValueError, match=message):
        agent.set_parameters(parameters)
    assert agent.learner is before
