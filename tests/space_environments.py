"""A tiny task for every pair of spaces: see one of two pictures, choose what fits it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from tests.parameters import crossed

ACTIONS: dict[str, gymnasium.Space[Any]] = {
    "discrete": spaces.Discrete(4),
    "discrete from -3": spaces.Discrete(3, start=-3),
    "box": spaces.Box(-1, 1, (2,)),
    "box of one number": spaces.Box(-2, 2, ()),
    "box with one side open": spaces.Box(np.array([0, -np.inf]), np.array([np.inf, 1]), (2,), np.float64),
    "open box in rows": spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    "box of integers": spaces.Box(-2, 2, (2,), np.int64),
    "box of small integers": spaces.Box(np.int8([[-4, 2]]), np.int8([[3, 6]]), (1, 2), np.int8),
    "multi-discrete": spaces.MultiDiscrete([3, 2]),
    "multi-discrete in rows": spaces.MultiDiscrete([[2, 3], [3, 2]], start=[[1, -1], [0, 5]]),
    "multi-binary": spaces.MultiBinary(3),
    "multi-binary in rows": spaces.MultiBinary((2, 2)),
}

_IMAGE = spaces.Box(0, 255, (4, 4, 3), np.uint8)
OBSERVATIONS: dict[str, gymnasium.Space[Any]] = {
    "box": spaces.Box(-1, 1, (3,)),
    "box of one number": spaces.Box(-5, 5, (), np.float64),
    "open box in rows": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
    "image": _IMAGE,
    "box of small integers": spaces.Box(-128, 127, (2, 2), np.int8),
    "discrete from 5": spaces.Discrete(6, start=5),
    "multi-discrete in rows": spaces.MultiDiscrete([[2, 3], [3, 4]], start=[[1, -1], [0, 5]]),
    "multi-binary in rows": spaces.MultiBinary((2, 3)),
    "dict": spaces.Dict({"z": spaces.Box(-1, 1, (2,)), "a": spaces.Discrete(5, start=-1)}),
    "tuple": spaces.Tuple((spaces.MultiBinary(4), spaces.Box(-3, 3, (), np.float64))),
    "dict in tuple": spaces.Tuple(
        (
            spaces.Dict(
                {"image": _IMAGE, "inner": spaces.Tuple((spaces.Discrete(3), spaces.MultiDiscrete([2, 3])))}
            ),
            spaces.Discrete(4, start=2),
        )
    ),
}

PAIRS = crossed(OBSERVATIONS, ACTIONS)
"""All pairs of spaces."""


def _two(space):
    """Two elements of the space that differ in all they hold, as far as can be."""
    if isinstance(space, spaces.Dict):
        pairs = {key: _two(part) for key, part in space.spaces.items()}
        first, second = ({key: pair[i] for key, pair in pairs.items()} for i in (0, 1))
        return first, second
    if isinstance(space, spaces.Tuple):
        parts = [_two(part) for part in space.spaces]
        return tuple(part[0] for part in parts), tuple(part[1] for part in parts)
    if isinstance(space, spaces.Box):
        low, high = np.maximum(space.low, -2.0), np.minimum(space.high, 2.0)
        if space.dtype == np.uint8:
            low, high = np.full(space.shape, 40), np.full(space.shape, 200)
        pattern = np.arange(low.size).reshape(space.shape) % 2 == 0
        ends = np.where(pattern, low, high), np.where(pattern, high, low)
        first, second = (np.asarray(end, space.dtype) for end in ends)
        return first, second
    if isinstance(space, spaces.Discrete):
        return np.int64(space.start), np.int64(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return space.start.astype(space.dtype), (space.start + space.nvec - 1).astype(space.dtype)
    assert isinstance(space, spaces.MultiBinary)
    return np.zeros(space.shape, space.dtype), np.ones(space.shape, space.dtype)


def score(space, action, target):
    """1 for the target; parts that match count as parts, and in a Box distances as such, by halves."""
    if isinstance(space, spaces.Box):
        distance = np.abs(np.asarray(action, np.float64) - np.asarray(target, np.float64))
        return float(np.mean(np.exp2(-distance)))
    return float(np.mean(np.asarray(action) == np.asarray(target)))


def by_chance(space):
    """The mean score of the policy that chooses among finitely many actions with equal probabilities."""
    if isinstance(space, spaces.Discrete):
        return 1 / int(space.n)
    return float(np.mean(1 / (space.nvec if isinstance(space, spaces.MultiDiscrete) else 2 + np.zeros(1))))


best = 1.0


class Matching(gymnasium.Env[Any, Any]):
    """Shows one of two elements of the observation space; each asks for an action of its own.

    An error for an action outside the space of actions; ``seen`` holds all that came. Pays the score in
    each of an episode's four steps, a quarter of it, so that the best return is 1.
    """

    def __init__(self, observation="box", action="discrete"):
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self.pictures, self.targets = _two(self.observation_space), _two(self.action_space)
        self.seen: list[Any] = []

    def _look(self):
        self.which = int(self.np_random.integers(2))
        return self.pictures[self.which]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return self._look(), {}

    def step(self, action):
        # Gymnasium hands on a single number of a Box without its array.
        action = np.asarray(action) if isinstance(self.action_space, spaces.Box) else action
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        assert action.dtype == self.action_space.dtype
        self.seen.append(action)
        reward = score(self.action_space, action, self.targets[self.which]) / 4
        self.now += 1
        return self._look(), reward, self.now == 4, False, {}


def matching_id(observation, action):
    """The id of the task for a pair of spaces."""
    dashed = "-".join(f"{observation} to {action}".replace("-", "").split())
    env_id = f"tests/Matching-{dashed}-v0"
    if env_id not in gymnasium.registry:
        gymnasium.register(
            env_id,
            Matching,
            kwargs={"observation": observation, "action": action},
            disable_env_checker=True,
            order_enforce=False,
        )
    return env_id
