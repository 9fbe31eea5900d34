"""Observations with an offset that is large beside what varies."""

import gymnasium
import numpy as np
import pytest

from npTRPO import TRPO, Policy
from npTRPO.sampling.normalization import Moments
from tests.parameters import crossed


class Shown(gymnasium.Env):
    """Twenty steps; the action that is shown, as ``offset + size · {0, 1}``, pays 1."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, offset, size, dtype=np.float64):
        self.offset, self.size = offset, size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), dtype)

    def _show(self):
        self.shown = int(self.np_random.integers(2))
        return np.array([self.offset + self.size * self.shown], self.observation_space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return self._show(), {}

    def step(self, action):
        reward, self.now = float(action == self.shown), self.now + 1
        return self._show(), reward, self.now == 20, False, {}


@pytest.mark.parametrize(
    ("offset", "size", "dtype"),
    crossed(
        [(1e6, 0.02), (123_456_789.0, 0.02), (1e9, 100.0), (-1e12, 1.0)],
        ["float32", "float64"],
    ),
)
def test_what_varies_beside_a_large_offset_is_learned_from(offset, size, dtype):
    agent = TRPO(
        "MlpPolicy", Shown(offset, size), n_steps=500, net_arch=(8,), target_kl=0.05, seed=0, dtype=dtype
    )
    agent.learn(8000)
    right = [agent.predict(np.array([offset + size * shown]), deterministic=True)[0] for shown in (0, 1)]
    assert right == [0, 1]
    assert np.mean(list(agent.recent_returns)[-20:]) > 18.5


def test_a_deviation_counts_down_to_the_precision_of_the_observations_themselves():
    """σ = 50 at 1e9 is rounding in float32, whose numbers are 64 apart there, and none in float64."""
    rows = 1e9 + 50 * np.array([[-1.0], [1.0]])
    moments = Moments.empty(1).updated(rows)
    assert moments.scale == moments.scale_of(np.finfo(np.float64).eps) == 50
    assert moments.scale_of(np.finfo(np.float32).eps) == 1


def test_observations_are_as_precise_as_their_space():
    single, double = np.finfo(np.float32).eps, np.finfo(np.float64).eps
    box = gymnasium.spaces.Box
    space = gymnasium.spaces.Dict(
        a=box(-1, 1, (2,), np.float64),
        b=box(-1, 1, (1,), np.float32),
        c=box(0, 255, (1,), np.uint8),
        d=box(0, 2**30, (1,), np.int32),
        e=gymnasium.spaces.Discrete(2),
    )
    policy = Policy.for_spaces(space, gymnasium.spaces.Discrete(2))
    np.testing.assert_array_equal(
        policy.observation_eps, [double, double, single, single, double, single, single]
    )
    assert policy.observation_dtype == np.float64
    of_images = Policy.for_spaces(box(0, 255, (3,), np.uint8), gymnasium.spaces.Discrete(2))
    assert of_images.observation_dtype == np.float32
