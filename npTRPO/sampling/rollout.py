"""Sampling: batches of steps to learn from, and the episodes that end in them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from npTRPO._typing import Array, BoolArray
from npTRPO.policies.policy import Policy
from npTRPO.sampling.actor import Actor
from npTRPO.sampling.advantages import running_sums
from npTRPO.sampling.batch import Batch, Episodes
from npTRPO.sampling.normalization import Moments
from npTRPO.sampling.stepping import Stepper


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
    first : int
        Number of the first environment in messages, where these are some of many.
    info_keys : sequence of str
        Keys of numbers in the infos of every step that batches are to have, such as "cost".

    Raises
    ------
    ValueError
        If the environment doesn't reset by itself, or observes what isn't in its space.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        policy: Policy,
        seed: int,
        first: int = 0,
        info_keys: Sequence[str] = (),
    ) -> None:
        self.env = env
        self.policy = policy
        self._stepper = Stepper(env, policy, seed, first=first, info_keys=info_keys)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs)

    @property
    def undisturbed(self) -> bool:
        """True unless others have stepped or reset the environments since."""
        return self._stepper.undisturbed

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
        actor = Actor(self.policy, theta, moments, rng)
        steps = self._stepper.advance(actor, n_steps)
        self._stepper.look(actor, steps)
        ended = steps.terminated | steps.truncated
        lengths = running_sums(steps.valid.astype(float), 1.0, ended, self._lengths)
        finals = np.array([row for *_, row in steps.finals], self.policy.observation_dtype)
        finals = finals.reshape(len(finals), steps.observations.shape[-1])
        return Batch(
            raw_observations=steps.raw_observations[:-1],
            observations=steps.observations[:-1],
            actions=np.array(steps.actions),
            rewards=steps.rewards,
            terminated=steps.terminated,
            truncated=steps.truncated,
            valid=steps.valid,
            times=np.where(steps.valid, lengths - 1, 0).astype(np.int64),
            final_steps=np.array([place for *place, _ in steps.finals], np.int64).reshape(len(finals), 2),
            final_observations=actor.normalized(finals),
            last_observations=steps.observations[-1],
            episodes=replace(self._episodes(steps.rewards, ended, lengths), infos=tuple(steps.final_infos)),
            moments=moments,
            masks=np.array(steps.masks) if steps.masks else None,
            infos={key: np.array(numbers) for key, numbers in steps.infos.items()},
        )

    def _episodes(self, rewards: Array, ended: BoolArray, lengths: Array) -> Episodes:
        """Return the returns and lengths of the episodes that ended, in order of time."""
        with np.errstate(over="ignore", invalid="ignore"):
            returns = running_sums(rewards, 1.0, ended, self._returns)
        for t, i in np.argwhere(~np.isfinite(returns)):
            when = self._stepper.when(self._stepper.taken - len(rewards) + int(t) + 1)
            raise ValueError(
                f"the rewards of {self._stepper.name(int(i))} add up to {returns[t, i]} at its {when}; "
                "nothing was learned from this batch"
            )
        self._returns = np.where(ended[-1], 0.0, returns[-1])
        self._lengths = np.where(ended[-1], 0.0, lengths[-1])
        return Episodes(returns[ended], lengths[ended].astype(np.int64))
