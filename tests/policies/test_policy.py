import copy
import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import Bernoulli, Categorical, DiagGaussian, MultiCategorical, Policy
from npTRPO.autograd import grad
from npTRPO.policies.mlp import MLP
from npTRPO.policies.spaces import batch_of_one, encoded_size
from tests.policies.oracles import EPS, complex_step, family_of, log_prob_by_definition
from tests.policies.own import residual_block, tempered
from tests.strategies import (
    action_spaces,
    activations,
    observation_spaces,
    policy_batches,
    seeds,
)

BOX = spaces.Box(-1, 1, (3,))


@pytest.mark.parametrize(
    ("action_space", "kind", "n_outputs"),
    [
        (spaces.Discrete(4, start=2), Categorical, 4),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), MultiCategorical, 14),
        (spaces.MultiBinary([2, 3]), Bernoulli, 6),
        (spaces.Box(-1, 1, (2, 3)), DiagGaussian, 6),
        (spaces.Box(-1, 1, ()), DiagGaussian, 1),
    ],
    ids=str,
)
def test_the_action_space_decides_the_family(action_space, kind, n_outputs):
    policy = Policy.for_spaces(BOX, action_space, net_arch=(5,))
    assert policy.network.sizes == (3, 5, n_outputs)
    theta = policy.init(np.random.default_rng(0))
    assert theta.shape == (policy.n_parameters,)
    assert policy.n_parameters == 4 * 5 + 6 * n_outputs + (n_outputs if kind is DiagGaussian else 0)
    distribution = policy(theta, np.zeros((7, 3)))
    assert type(distribution) is kind
    assert distribution.entropy().shape == (7,)


@st.composite
def policies(draw):
    """Policies for any pair of spaces that is supported."""
    net_arch = draw(st.lists(st.integers(1, 4), max_size=2))
    return Policy.for_spaces(draw(observation_spaces), draw(action_spaces), net_arch, draw(activations))


@given(policies(), seeds, st.sampled_from([np.float32, np.float64]))
def test_from_any_observation_to_an_action_of_any_space(policy, seed, dtype):
    policy.observation_space.seed(seed)
    rng = np.random.default_rng(seed)
    theta = policy.init(rng, dtype)
    flat = spaces.flatten(policy.observation_space, policy.observation_space.sample()).astype(dtype)
    observations = np.clip(flat, -10, 10)[None]
    distribution = policy(theta, observations)
    actions = distribution.sample(rng)
    log_prob = distribution.log_prob(actions)
    assert theta.dtype == log_prob.dtype == dtype
    assert np.all(np.isfinite(log_prob))
    (action,) = policy.to_env(actions)
    space = policy.action_space
    assert space.contains(np.asarray(action) if isinstance(space, spaces.Box) else action)


@given(policies(), seeds)
def test_at_one_theta_it_is_the_same_policy_to_the_bit(policy, seed):
    rng = np.random.default_rng(seed)
    theta = policy.init(rng) + rng.standard_normal(policy.n_parameters)
    rows = rng.standard_normal((5, policy.n_features))
    one, other = policy.at(theta)(rows), policy(theta, rows)
    assert type(one) is type(other)
    drawn = one.sample(np.random.default_rng(seed))
    np.testing.assert_array_equal(drawn, other.sample(np.random.default_rng(seed)))
    for quantity in (lambda d: d.mode(), lambda d: d.log_prob(drawn), lambda d: d.entropy()):
        np.testing.assert_array_equal(quantity(one), quantity(other))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize(
    ("action_space", "own"),
    [
        (spaces.Discrete(3, start=2), {"activation_fn": "silu"}),
        (spaces.MultiDiscrete([2, 3], start=[0, 5]), {"network": residual_block}),
        (spaces.MultiBinary((2, 1)), {"activation_fn": "relu"}),
        (spaces.MultiBinary((2, 1)), {"network": residual_block, "distribution": tempered}),
        (spaces.Box(-1, np.array([1, 2], np.float32)), {"activation_fn": "sigmoid"}),
        (spaces.Box(-3, 3, (2,), np.int8), {"network": residual_block}),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, spaces.Space) else "-".join(given),
)
def test_copies_act_to_the_same_bits(action_space, own, copied):
    policy = Policy.for_spaces(BOX, action_space, **own)
    theta = policy.init(np.random.default_rng(0)) + 0.5
    rows = np.random.default_rng(1).standard_normal((5, 3))
    other = copied(policy)
    assert other.action_space == action_space
    np.testing.assert_array_equal(other.init(np.random.default_rng(0)) + 0.5, theta)
    drawn = [p(theta, rows).sample(np.random.default_rng(2)) for p in (policy, other)]
    for one, another in (
        drawn,
        [p.to_env(drawn[0]) for p in (policy, other)],
        # What was used before is copied as well: a distribution with what it remembers, the policy at one θ.
        [d.log_prob(drawn[0]) for d in (policy(theta, rows), copied(policy(theta, rows)))],
        [at(rows).mode() for at in (policy.at(theta), copied(policy.at(theta)))],
    ):
        assert one.tobytes() == another.tobytes()


def test_at_one_theta_a_network_of_ones_own_that_inherits_acts_as_itself():
    class Louder(MLP):
        def __call__(self, theta, x):
            return 3 * super().__call__(theta, x)

    quiet = Policy.for_spaces(BOX, spaces.Discrete(2))
    policy = dataclasses.replace(quiet, network=Louder(quiet.network.sizes))
    theta = policy.init(np.random.default_rng(0))
    rows = np.ones((4, 3))
    np.testing.assert_array_equal(policy.at(theta)(rows).probs, policy(theta, rows).probs)


@given(policies(), seeds)
def test_encode_gives_the_rows_that_the_network_takes(policy, seed):
    space = policy.observation_space
    space.seed(seed)
    item = space.sample()
    batch = batch_of_one(space, item)
    rows = policy.encode(batch, np.float32)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [spaces.flatten(space, item).astype(np.float32)])
    assert policy.network.sizes[0] == policy.n_features == encoded_size(space) == rows.shape[1]


@given(policy_batches())
def test_the_distribution_is_that_of_the_networks_outputs(batch):
    policy, theta, observations, actions, _ = batch
    family = family_of(policy.action_space)
    outputs: Any = policy.network(theta[: policy.network.n_parameters], observations)
    if not family.is_discrete:  # log σ ends θ
        outputs = outputs, np.tile(theta[policy.network.n_parameters :], (len(observations), 1))
    # The same outputs to the bit, so only the families round: about 50 operations on terms that exceed
    # the sum by at most 20, as logits and (a − μ)² / 2σ² stay below that.
    expected = log_prob_by_definition(family, outputs, actions)
    ours = policy(theta, observations).log_prob(actions)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=50 * EPS * (20 + np.max(np.abs(expected))))


@given(policy_batches())
def test_the_score_equals_the_complex_step(batch):
    policy, theta, observations, actions, weights = batch

    def weighted(t):
        return np.sum(policy(t, observations).log_prob(actions) * weights)

    score = grad(weighted)(theta)
    expected = np.array([complex_step(weighted, theta, unit) for unit in np.eye(theta.size)])
    # Each entry sums at most six rows, over at most 4 · 4 paths through two hidden layers; the sum of
    # their magnitudes stays below 1e3 in units of the largest weight and the smallest σ.
    spread = float(np.exp(-2 * np.min(theta[-policy.n_log_std :]))) if policy.n_log_std else 1.0
    np.testing.assert_allclose(score, expected, rtol=0, atol=100 * EPS * 1e3 * spread)


# --- initial parameters ---------------------------------------------------------------------------


def test_initial_log_sigma_is_as_asked_and_the_last_layer_100_times_smaller():
    policy = Policy.for_spaces(BOX, spaces.Box(-1, 1, (2,)), net_arch=(8,), log_std_init=-0.5)
    theta = policy.init(np.random.default_rng(0))
    np.testing.assert_array_equal(theta[-2:], -0.5)
    # Orthonormal columns times 0.01: W is 8 × 2, before its bias of 2 and log σ of 2.
    weights = theta[-20:-4].reshape(8, 2)
    np.testing.assert_allclose(weights.T @ weights, 1e-4 * np.eye(2), rtol=0, atol=1e-4 * 100 * EPS)
    np.testing.assert_array_equal(theta[-4:-2], 0)


def test_weights_may_be_uniform_instead_of_orthogonal():
    draws = [
        Policy.for_spaces(BOX, spaces.Discrete(2), ortho_init=ortho).init(np.random.default_rng(0))
        for ortho in (True, False)
    ]
    first = [theta[: 3 * 64].reshape(3, 64) for theta in draws]
    np.testing.assert_allclose(first[0] @ first[0].T, 2 * np.eye(3), rtol=0, atol=1e3 * 64 * EPS)
    assert np.abs(first[1]).max() <= 1 / math.sqrt(3)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.Text(3), spaces.Discrete(2), "Text observation spaces aren't supported"),
        (spaces.Dict(a=spaces.Text(3)), spaces.Discrete(2), "Text observation spaces aren't supported"),
        (BOX, spaces.Dict(a=BOX), "Dict action spaces aren't supported"),
        (BOX, spaces.Sequence(BOX), "Sequence action spaces aren't supported"),
    ],
)
def test_spaces_that_are_not_supported_are_refused(observation_space, action_space, message):
    with pytest.raises(NotImplementedError, match=message):
        Policy.for_spaces(observation_space, action_space)


@pytest.mark.parametrize("options", [{"net_arch": (0,)}, {"net_arch": (2.5,)}, {"activation_fn": "gelu"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"sizes|activation_fn"):
        Policy.for_spaces(BOX, spaces.Discrete(2), **options)


def test_a_policy_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy.for_spaces(BOX, spaces.Discrete(2)).n_log_std = 1  # type: ignore[misc]
