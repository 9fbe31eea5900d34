"""A short version of ``python -m tests.endurance``, and what it would notice."""

import itertools
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from npTRPO.agent import trpo
from npTRPO.trust_region import PolicyObjective
from tests.endurance import BEST, Corridor, failures, watched

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads Linux's /proc")


@pytest.mark.parametrize("updates", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_many_updates_leave_no_memory_behind_and_kl_as_exact_as_it_was(updates):
    watch = watched(updates, seed=0, dtype="float64")
    assert failures(watch) == []
    assert np.mean(np.isfinite(watch.kl_errors)) > 0.9
    assert np.all(np.isfinite(watch.python))
    assert np.all(abs(watch.right - BEST) < 0.3)  # neither end, where it would come to rest, is near


def test_the_best_way_through_the_corridor_is_where_it_is_said_to_be():
    """The expected number of steps out of it solves three linear equations."""

    def steps(p):
        going = np.array([[1 - p, p, 0], [p, 0, 1 - p], [0, 1 - p, 0]])
        return np.linalg.solve(np.eye(3) - going, np.ones(3))[0]

    assert steps(BEST) < min(steps(BEST - 1e-3), steps(BEST + 1e-3))
    env = Corridor()
    env.reset(seed=0)
    assert [env.step(action)[2] for action in (0, 1, 0, 1)] == [False, False, False, True]


def test_a_kl_that_drifts_and_memory_that_is_kept_are_noticed():
    drift, true = itertools.count(1), PolicyObjective.trial
    kept, learn = [], trpo.learn

    def drifting(self, theta):
        gain, kl = true(self, theta)
        return gain, kl * (1 + 1e-12 * next(drift))

    def keeping(*given):
        kept.append(np.zeros(1000))
        return learn(*given)

    with (
        mock.patch.object(PolicyObjective, "trial", drifting),
        mock.patch.object(trpo, "learn", keeping),
    ):
        found = failures(watched(20, seed=0))
    assert "a KL is further from sixty digits than rounding explains" in found
    assert "Python's objects have grown" in found
