"""Tiny environments with known answers.

Those that :func:`registered` names can be made by their id as well; importing this module registers them.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]
in_both_modes = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
# Python's own warning about the processes that Gymnasium forks while other threads run.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

# --- a counter, whose every transition can be checked ----------------------------------------------


def _bits(number, n):
    return np.array([number >> i & 1 for i in range(n)], dtype=np.int8)


VIEWS: dict[str, tuple[gymnasium.Space[Any], Callable[[np.ndarray], Any]]] = {
    "box": (spaces.Box(-np.inf, np.inf, (3,), np.float64), lambda place: np.array(place, dtype=np.float64)),
    "number": (
        spaces.Box(-np.inf, np.inf, (), np.float64),
        lambda place: np.asarray(place @ np.array([100.0, 10.0, 1.0])),
    ),
    "image": (
        spaces.Box(0, 255, (2, 2), np.uint8),
        lambda place: np.array([[place[0], place[1]], [place[2], 255]], dtype=np.uint8),
    ),
    "discrete": (spaces.Discrete(60, start=7), lambda place: np.int64(7 + place @ np.array([15, 5, 1]) % 60)),
    "multi-discrete": (
        spaces.MultiDiscrete([[4, 7], [9, 2]]),
        lambda place: np.array([[place[0] % 4, place[1] % 7], [place[2] % 9, 1]], dtype=np.int64),
    ),
    "multi-binary": (
        spaces.MultiBinary((2, 4)),
        lambda place: np.stack([_bits(place[1], 4), _bits(place[2], 4)]),
    ),
    "dict": (
        spaces.Dict({"when": spaces.Box(-np.inf, np.inf, (2,), np.float64), "copy": spaces.Discrete(8)}),
        lambda place: {"when": np.array(place[1:], dtype=np.float64), "copy": np.int64(place[0])},
    ),
    "tuple": (
        spaces.Tuple((spaces.Discrete(8), spaces.Box(-np.inf, np.inf, (2,), np.float64))),
        lambda place: (np.int64(place[0]), np.array(place[1:], dtype=np.float64)),
    ),
    "nested": (
        spaces.Dict(
            [
                ("z", spaces.Tuple((spaces.Discrete(8), spaces.Dict({"step": spaces.MultiBinary(5)})))),
                ("a", spaces.Dict({"episode": spaces.Box(-np.inf, np.inf, (1,), np.float64)})),
            ]
        ),
        lambda place: {
            "z": (np.int64(place[0]), {"step": _bits(place[2], 5)}),
            "a": {"episode": np.array(place[1:2], dtype=np.float64)},
        },
    ),
}


class Counter(gymnasium.Env[Any, Any]):
    """Observes its place: copy, episode, steps into it; what comes next doesn't depend on the actions.

    The rewards tell the place and the action, and the diary holds every transition: the flattened
    observation before it, action, reward, terminated, truncated, and the flattened observation after it.

    Parameters
    ----------
    copy : int
        Its number among the copies.
    lengths, ends
        Steps of its episodes and how they end ("terminated", "truncated" or "both"), over and over.
    view : str
        How it shows the place; a key of ``VIEWS``, which holds a space of every kind.
    """

    def __init__(
        self,
        copy=0,
        lengths=(3,),
        ends=("terminated",),
        view="box",
    ):
        self.copy, self.lengths, self.ends = copy, tuple(lengths), tuple(ends)
        self.observation_space, self._show = VIEWS[view]
        self.action_space = spaces.Discrete(3)
        self.episode, self.now, self.over, self.closed = -1, 0, True, False
        self.diary: list[tuple[Any, ...]] = []

    def observe(self):
        return self._show(np.array([self.copy, self.episode, self.now]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.now, self.over = self.episode + 1, 0, False
        return self.observe(), {}

    def step(self, action):
        assert not self.over, "a step after the end of an episode"
        assert self.action_space.contains(action)
        before = spaces.flatten(self.observation_space, self.observe())
        reward = float(1000 * self.copy + 100 * self.episode + 10 * self.now + action)
        self.now += 1
        self.over = self.now == self.lengths[self.episode % len(self.lengths)]
        end = self.ends[self.episode % len(self.ends)] if self.over else ""
        terminated, truncated = end in ("terminated", "both"), end in ("truncated", "both")
        after = spaces.flatten(self.observation_space, self.observe())
        self.diary.append((before, int(action), reward, terminated, truncated, after))
        return self.observe(), reward, terminated, truncated, {}

    def close(self):
        self.closed = True


def counters(n, lengths=(3,), ends=("terminated",), view="box"):
    """Makers of n counters, for a vector environment; each begins the lists at another place."""
    turned = [(tuple(lengths[i % len(lengths) :]) + tuple(lengths[: i % len(lengths)])) for i in range(n)]
    return [lambda i=i: Counter(i, turned[i], ends, view) for i in range(n)]


def vectorized(
    makers,
    mode=AutoresetMode.SAME_STEP,
    asynchronous=False,
):
    """Vector environment of those that the makers make."""
    return (AsyncVectorEnv if asynchronous else SyncVectorEnv)(makers, autoreset_mode=mode)


# --- environments that break their word --------------------------------------------------------------


class Flawed(Counter):
    """A counter that goes wrong once, at step ``at`` of its life (0 is its first reset).

    Parameters
    ----------
    at : int
        When.
    observation, reward : optional
        What it returns then instead.
    error : Exception, optional
        What it raises then.
    """

    def __init__(
        self,
        at,
        *,
        observation=None,
        reward=None,
        error=None,
        **of_counter,
    ):
        super().__init__(**of_counter)
        self.at, self.flaw, self.wrong_reward, self.error = at, observation, reward, error

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        if self.at == 0 and self.episode == 0:
            observation = self.flaw
        return observation, info

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if len(self.diary) == self.at:
            if self.error is not None:
                raise self.error
            observation = observation if self.flaw is None else self.flaw
            reward = reward if self.wrong_reward is None else self.wrong_reward
        return observation, reward, *rest


class Misshapen(SyncVectorEnv):
    """A vector environment whose step number ``at`` passes through ``distort``; 0 is its reset."""

    def __init__(self, makers, at, distort):
        super().__init__(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        self.at, self.distort, self.taken = at, distort, 0

    def reset(self, **options):
        observation, info = super().reset(**options)
        return (self.distort(observation, 0.0)[0] if self.at == 0 else observation), info

    def step(self, actions):
        observation, reward, *rest = super().step(actions)
        self.taken += 1
        if self.taken == self.at:
            observation, reward = self.distort(observation, reward)
        return observation, reward, *rest


# --- tasks with known solutions ----------------------------------------------------------------------


class Bandit(gymnasium.Env[Any, Any]):
    """One step, one of four arms: each pays its mean plus standard normal noise."""

    means = (0.0, 0.5, 2.0, 1.0)
    best = 2

    def __init__(self):
        self.observation_space = spaces.Box(-1, 1, (1,))
        self.action_space = spaces.Discrete(4)

    def action_masks(self):
        return np.ones(4, dtype=bool)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        reward = self.means[action] + self.np_random.standard_normal()
        return np.zeros(1, dtype=np.float32), reward, True, False, {}


class TwoStates(gymnasium.Env[Any, Any]):
    """Two states, two actions: stay (0) or go to the other (1); the better state costs a reward to reach.

    Staying pays 0.1 in state 0 and 1 in state 1, going pays nothing. It never ends of itself and is cut
    after 20 steps, so that the best policy (go from 0, stay in 1) has the discounted values γ/(1 − γ) in
    state 0 and 1/(1 − γ) in state 1, and the undiscounted returns 19 and 20.
    """

    limit = 20

    def __init__(self):
        self.observation_space = spaces.Discrete(2)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.now = int(self.np_random.integers(2)), 0
        return np.int64(self.state), {}

    def step(self, action):
        reward = 0.0 if action else (0.1, 1.0)[self.state]
        self.state ^= int(action)
        self.now += 1
        return np.int64(self.state), reward, False, self.now == self.limit, {}


class Target(gymnasium.Env[Any, Any]):
    """One step: the action should be half the observation plus a quarter; pays minus the squared error."""

    def __init__(self):
        self.observation_space = spaces.Box(-1, 1, (1,))
        self.action_space = spaces.Box(-2, 2, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.state, {}

    def step(self, action):
        error = float(action[0]) - (0.5 * float(self.state[0]) + 0.25)
        return self.state, -(error**2), True, False, {"error": error}


class Choosy(gymnasium.Env[Any, Any]):
    """Random observations from any space, and an error for an action outside the space of actions.

    Pays the mean of the action's numbers; episodes are cut after four steps.
    """

    def __init__(
        self,
        observation_space=None,
        action_space=None,
    ):
        self.observation_space = spaces.Box(-1, 1, (2,)) if observation_space is None else observation_space
        self.action_space = spaces.Discrete(2) if action_space is None else action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.now = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.now += 1
        return self.observation_space.sample(), float(np.mean(action)), False, self.now == 4, {}


def registered(kind):
    """The id under which an environment of this module is registered."""
    return f"tests/{kind.__name__}-v0"


for _kind in (Bandit, Choosy, Counter, Flawed, Target, TwoStates):
    if registered(_kind) not in gymnasium.registry:
        gymnasium.register(registered(_kind), _kind, disable_env_checker=True, order_enforce=False)
