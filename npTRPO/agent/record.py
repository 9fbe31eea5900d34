"""What callbacks and logs are told of an update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npTRPO.trust_region.update import Update

if TYPE_CHECKING:
    from npTRPO.agent.trpo import TRPO

__all__ = ["Callback", "Record", "stops"]

Callback = Callable[["Record"], Any]
"""Called after each update; training stops when it returns False."""


@dataclass(frozen=True)
class Record:
    """What one iteration of training did, for logs and callbacks.

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
    explained_variance : float
        Of the returns, by the values before their fit.
    steps_per_second : float
        Of this iteration.
    time_elapsed : float
        Seconds since ``learn`` began.
    update : Update
        What the policy update did.
    """

    agent: TRPO
    num_timesteps: int
    n_updates: int
    episode_return: float
    episode_length: float
    explained_variance: float
    steps_per_second: float
    time_elapsed: float
    update: Update


def stops(callback: Callback | None, record: Record) -> bool:
    """Whether a callback, if there is one, says that training is to stop: by False, and nothing else."""
    answer = None if callback is None else callback(record)
    return isinstance(answer, (bool, np.bool_)) and not answer
