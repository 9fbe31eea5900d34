"""Batches of several vector environments, joined to one."""

import dataclasses
import pickle

import numpy as np
import pytest

from npTRPO import Policy
from npTRPO.sampling import Batch, Moments, Sampler
from tests.environments import counters, in_both_modes, vectorized

MOMENTS = Moments(np.array([0.5, 4.0, 1.0]), np.array([0.25, 16.0, 4.0]), 9)


def batch(n=2, mode="SameStep", steps=7, moments=MOMENTS, dtype=np.float64, lengths=(2, 3)):
    envs = vectorized(counters(n, lengths, ("truncated", "terminated")), mode)
    policy = Policy.for_spaces(envs.single_observation_space, envs.single_action_space, net_arch=(4,))
    theta = policy.init(np.random.default_rng(n), dtype)
    return Sampler(envs, policy, 0).collect(theta, steps, moments, np.random.default_rng(n))


@in_both_modes
def test_joined_batches_have_the_values_of_each(mode):
    batches = [batch(n, mode) for n in (2, 1, 3)]
    joined = Batch.concatenate(batches)

    def predict(rows):
        return rows @ np.array([1.0, 16.0, 256.0])

    alone = [each.values(predict) for each in batches]
    for found, expected in zip(joined.values(predict), zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))
    for name in ("raw_observations", "observations", "actions", "rewards", "valid", "ended", "terminated"):
        found, expected = getattr(joined, name), [getattr(each, name) for each in batches]
        np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))
    for name in ("returns", "lengths"):
        expected = [getattr(each.episodes, name) for each in batches]
        np.testing.assert_array_equal(getattr(joined.episodes, name), np.concatenate(expected))
    assert joined.moments is MOMENTS
    np.testing.assert_array_equal(joined.final_steps.max(initial=5, axis=0)[1], 5)


def test_a_batch_is_pickled_with_its_moments():
    one = batch()
    copies = pickle.loads(pickle.dumps([one, Batch.concatenate([one])]))
    for copy in copies:
        np.testing.assert_equal(dataclasses.asdict(copy), dataclasses.asdict(one))
    assert Batch.concatenate([one, copies[0]]).rewards.shape == (7, 4)  # equal moments, not the same ones


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 6}, "numbers of steps can't be joined: 7 and 6"),
        ({"dtype": np.float32}, "dtypes can't be joined: float64 and float32"),
        ({"moments": None}, r"(?s)moments can't be joined: Moments\(.*count=9\) and None"),
        ({"moments": dataclasses.replace(MOMENTS, count=8)}, r"(?s)count=9\) and Moments\(.*count=8\)"),
        (
            {"moments": dataclasses.replace(MOMENTS, variance=np.ones(3))},
            r"(?s)16.* and .*array\(\[1., 1., 1.",
        ),
    ],
    ids=["steps", "dtype", "none", "count", "moments"],
)
def test_batches_that_differ_are_not_joined(options, said):
    with pytest.raises(ValueError, match=said):
        Batch.concatenate([batch(), batch(**options)])


def test_there_must_be_a_batch_to_join():
    with pytest.raises(ValueError, match="at least one batch"):
        Batch.concatenate([])
