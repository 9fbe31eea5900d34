"""Sampling: batches of steps to learn from, and the episodes that end in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from npTRPO._typing import Array
from npTRPO.policies.policy import Policy
from npTRPO.sampling.advantages import running_sums
from npTRPO.sampling.batch import Batch, Episodes, Steps
from npTRPO.sampling.normalization import Moments
from npTRPO.sampling.stepping import Actor, Stepper

__all__ = ["Sampler"]


class Sampler:
    """Collects batches in a vector environment, each of which goes on where the last one stopped.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        With NEXT_STEP or SAME_STEP autoreset.
    policy : Policy
        For the environment's single observation and action space.
    seed : int
        For the environment's first reset.

    Raises
    ------
    ValueError
        If the environment doesn't reset by itself, or observes what isn't in its space.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], policy: Policy, seed: int) -> None:
        self.env = env
        self.policy = policy
        self._stepper = Stepper(env, policy, seed)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs)

    def collect(self, theta: Array, n_steps: int, moments: Moments | None, rng: np.random.Generator) -> Batch:
        """Take ``n_steps`` steps in every environment with π_θ.

        Parameters
        ----------
        theta : array, shape (p,)
            Parameters; observations take their dtype.
        n_steps : int
            T.
        moments : Moments or None
            Normalise observations by these, or not at all.
        rng : numpy.random.Generator
            Draws the actions.

        Raises
        ------
        ValueError
            For observations or rewards that aren't finite or have the wrong shape, naming environment
            and step.
        """
        steps = self._stepper.advance(Actor(self.policy, theta, moments, rng), n_steps)
        return Batch(**vars(steps), episodes=self._episodes(steps), moments=moments)

    def _episodes(self, steps: Steps) -> Episodes:
        """Return the returns and lengths of the episodes that ended, in order of time."""
        ended = steps.ended
        with np.errstate(over="ignore", invalid="ignore"):
            returns = running_sums(steps.rewards, 1.0, ended, self._returns)
        for t, i in np.argwhere(~np.isfinite(returns)):
            when = self._stepper.when(int(t) - len(returns))  # the batch is counted already
            raise ValueError(
                f"the rewards of environment {i} add up to {returns[t, i]} at its {when}; "
                "nothing was learned from this batch"
            )
        lengths = running_sums(steps.valid.astype(float), 1.0, ended, self._lengths)
        self._returns = np.where(ended[-1], 0.0, returns[-1])
        self._lengths = np.where(ended[-1], 0.0, lengths[-1])
        return Episodes(returns[ended], lengths[ended].astype(np.int64))
