"""The record of an update that callbacks and logs are given."""

import inspect
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import VectorEnv

from npTRPO._typing import Array
from npTRPO.agent.checkpoint import Checkpoint
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.learner import Learner
from npTRPO.policies.policy import Policy
from npTRPO.sampling.makers import EnvMaker
from npTRPO.sampling.normalization import Moments
from npTRPO.trust_region.update import Update

Callback = Callable[["Record"], Any]
"""Called after each update; training stops when it returns False."""


class Agent(Protocol):
    """The part of :class:`npTRPO.TRPO` that callbacks and evaluations use; see there for explanations."""

    config: TRPOConfig
    policy: Policy
    learner: Learner
    theta: Array
    observation_moments: Moments | None
    num_timesteps: int
    n_updates: int
    env: VectorEnv[Any, Any, Any] | None
    maker: EnvMaker | None
    verbose: int
    tensorboard_log: str | os.PathLike[str] | None

    def predict(
        self, observation: Any, state: None = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, None]:
        """Choose an action for one observation or for each of a batch."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the agent to a file."""

    def checkpoint(self) -> Checkpoint:
        """Return what a file holds, as it is now."""

    def leave_episodes(self) -> None:
        """Go on learning from a reset of the environments."""


@dataclass(frozen=True)
class Record:
    """Figures of one iteration of training.

    Attributes
    ----------
    agent : TRPO
        The agent, after the update.
    num_timesteps : int
        Environment steps so far.
    n_updates : int
        Updates so far.
    episode_return, episode_length : float
        Mean over the last 100 finished episodes of undiscounted return and of steps; NaN before the
        first.
    steps_per_second : float
        Of this iteration.
    time_elapsed : float
        Seconds since ``learn`` began.
    update : Update
        What the policy update did.
    evaluations : list of (mean, std)
        Of the returns in evaluations after this update, which callbacks append: those that are called later
        see it.
    metrics : dict
        Means of the numbers in the last infos of this update's episodes, by name; that of ``is_success`` is
        ``success_rate``.
    """

    agent: Agent
    num_timesteps: int
    n_updates: int
    episode_return: float
    episode_length: float
    steps_per_second: float
    time_elapsed: float
    update: Update
    evaluations: list[tuple[float, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def explained_variance(self) -> float:
        """Explained variance of the returns by the values before their fit."""
        return self.update.explained_variance


def checked_callback(callback: Any) -> Callback:
    """Return a callback, or raise a TypeError if calling it with a record would do nothing."""
    function = callback
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        hint = ", but a class, of which an instance may be one"
    elif not callable(function):
        hint = ""
    elif any(kind(each) for kind in _SUSPENDED for each in (function, type(function).__call__)):
        hint = ", but one whose body would never run, as it is asynchronous or yields"
    else:
        return callback  # type: ignore[no-any-return]
    raise TypeError(f"a callback is a function of a Record, which {callback!r} is not{hint}")


_SUSPENDED = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def stops(callback: Callback | None, record: Record) -> bool:
    """Call a callback, if there is one, and return whether it asks to stop: by False, and nothing else."""
    answer = None if callback is None else callback(record)
    return isinstance(answer, (bool, np.bool_)) and not answer


def mean_of(numbers: Collection[float]) -> float:
    """Return the mean of numbers; NaN of none."""
    return sum(numbers) / len(numbers) if numbers else float("nan")


def means_by_name(infos: Collection[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each number over the infos that have it; that of is_success is success_rate."""
    names = dict.fromkeys(name for info in infos for name in info)
    return {
        "success_rate" if name == "is_success" else name: mean_of([x[name] for x in infos if name in x])
        for name in names
    }
