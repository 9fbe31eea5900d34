"""Collecting batches: where episodes go on, and where training goes back to when a worker was lost."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from npTRPO.agent.checkpoint import Checkpoint
from npTRPO.agent.experience import WholeBatch
from npTRPO.agent.learner import Learner
from npTRPO.agent.model import Model
from npTRPO.agent.shards import ShardedEnv, reset_seed
from npTRPO.sampling.rollout import Sampler
from npTRPO.sampling.workers import LostWorkerError

_MOST_FAILURES = 3


class Collector:
    """Collects batches in a vector environment or in shards; each goes on where the last one stopped.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        The environments, which are reset.
    model : Model
        The policy and its options.
    learner : Learner
        What the seed of the reset follows from.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], model: Model, learner: Learner) -> None:
        self._shards = env if isinstance(env, ShardedEnv) else None
        self._left: tuple[Model, dict[str, Any]] | None = None
        if self._shards is None:
            self._sampler = Sampler(env, model.policy, reset_seed(learner), info_keys=model.config.info_keys)
        else:
            self._shards.begin(model, learner)

    @property
    def undisturbed(self) -> bool:
        """True unless others have stepped or reset the environments since."""
        return self._sampler.undisturbed if self._shards is None else self._shards.under_way

    def collect(self, model: Model, learner: Learner) -> WholeBatch:
        """Take the steps of an update in every environment."""
        n_steps = model.config.steps_per_env(learner.reward_scale.running.size)
        if self._shards is not None:
            return self._shards.collect(model, learner, n_steps)
        batch = self._sampler.collect(
            learner.theta, n_steps, learner.observation_moments, learner.rng("sampling")
        )
        return WholeBatch.of(model, [batch], learner.reward_scale.running)

    def leave(self, model: Model, learner: Learner) -> None:
        """Remember the agent as an update leaves it, for :meth:`changed`."""
        if self._shards is not None:  # as workers may be lost
            self._left = model, {name: np.copy(leaf) for name, leaf in learner.leaves().items()}

    def changed(self, model: Model, learner: Learner) -> bool:
        """Return whether the agent was changed by hand since, also by writing into its arrays."""
        if self._left is None:
            return False
        before, leaves = self._left
        now = learner.leaves()
        same = now.keys() == leaves.keys() and all(np.array_equal(now[name], leaves[name]) for name in now)
        return not same or model is not before


def before_loss(start: Checkpoint | None, error: LostWorkerError, failures: int, reached: int) -> Checkpoint:
    """Return where training goes on after a worker was lost: the last reset of the environments.

    Parameters
    ----------
    start : Checkpoint or None
        The agent at the last reset; None if it was changed by hand since.
    error : LostWorkerError
        What happened.
    failures : int
        How many workers were lost since the last update.
    reached : int
        Environment steps so far.

    Raises
    ------
    LostWorkerError
        The one given, if there is nothing to go back to, or for the third in a row.

    Warns
    -----
    RuntimeWarning
        With what happened, and how many steps are repeated.
    """
    if start is None or failures == _MOST_FAILURES:
        error.add_note(
            "what was learned since the environments were reset can't be repeated, as the agent was changed"
            if start is None
            else f"{failures} times in a row without an update between"
        )
        raise error
    again = start.learner.num_timesteps
    warnings.warn(
        f"{error}: it is replaced, and training goes on from step {again:,}; "
        f"{reached - again:,} steps are repeated",
        RuntimeWarning,
        stacklevel=4,
    )
    return start
