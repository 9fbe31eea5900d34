"""Batches of experience: what the steps of a policy in a vector environment gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Any

import numpy as np

from npTRPO._typing import Array, BoolArray
from npTRPO.sampling.normalization import Moments


@dataclass(frozen=True)
class Episodes:
    """Episodes that ended within a batch.

    Attributes
    ----------
    returns : array, shape (k,)
        Undiscounted sums of the environment's own rewards.
    lengths : array, shape (k,)
        Numbers of steps.
    infos : tuple of dict
        Numbers in their last infos, by name.
    """

    returns: Array
    lengths: Array
    infos: tuple[dict[str, float], ...] = ()

    @classmethod
    def concatenate(cls, parts: Sequence[Episodes]) -> Episodes:
        """Return the episodes of all parts, in their order."""
        return cls(
            np.concatenate([some.returns for some in parts]),
            np.concatenate([some.lengths for some in parts]),
            tuple(info for some in parts for info in some.infos),
        )


@dataclass(frozen=True)
class Batch:
    """T steps in each of n environments; all are transitions, except for those that only reset.

    Attributes
    ----------
    raw_observations : array, shape (T, n, d)
        Encoded observations before each step.
    observations : array, shape (T, n, d)
        The same, normalised as the policy saw them.
    actions : array, shape (T, n, ...)
        As the distribution gave them.
    rewards : array, shape (T, n)
        The environment's own, float64.
    terminated, truncated : bool array, shape (T, n)
        Whether the step ended an episode, and how.
    valid : bool array, shape (T, n)
        False for the steps that only reset.
    times : int array, shape (T, n)
        Number of steps that its episode took before each, also in earlier batches; 0 after a reset.
    final_steps : int array, shape (k, 2)
        Steps (t, environment) whose next observation isn't the one in the following row.
    final_observations : array, shape (k, d)
        Their next observations, normalised: the true last ones of their episodes.
    last_observations : array, shape (n, d)
        Observations after the last step, normalised.
    episodes : Episodes
        Those that ended.
    moments : Moments or None
        Those that ``observations`` are normalised by, if they are.
    masks : bool array, shape (T, n, m), or None
        Which actions were allowed, if they are masked.
    infos : dict
        Numbers from the infos, by their keys, each an array of shape (T, n): 0 in steps that only reset.
    """

    raw_observations: Array
    observations: Array
    actions: Array
    rewards: Array
    terminated: BoolArray
    truncated: BoolArray
    valid: BoolArray
    times: Array
    final_steps: Array
    final_observations: Array
    last_observations: Array
    episodes: Episodes
    moments: Moments | None = None
    masks: BoolArray | None = None
    infos: Mapping[str, Array] = field(default_factory=dict)

    @property
    def ended(self) -> BoolArray:
        """Whether the step ended an episode, shape (T, n)."""
        return self.terminated | self.truncated

    def values(self, predict: Callable[[Array], Array]) -> tuple[Array, Array]:
        """Return V of each observation and of the one each step led to, both (T, n).

        ``predict`` maps observations (N, d) to values (N,); it is called once.
        """
        steps, n, d = self.observations.shape
        rows = np.concatenate(
            [self.observations.reshape(-1, d), self.last_observations, self.final_observations]
        )
        predicted = predict(rows)
        values = predicted[: steps * n].reshape(steps, n)
        next_values = np.concatenate([values[1:], predicted[None, steps * n : (steps + 1) * n]])
        next_values[tuple(self.final_steps.T)] = predicted[(steps + 1) * n :]
        return values, next_values

    @classmethod
    def concatenate(cls, batches: Sequence[Batch]) -> Batch:
        """Join batches from different environments along the environment axis, in the order given.

        Parameters
        ----------
        batches : sequence of Batch
            With the same number of steps T, moments, dtype, and keys of infos.

        Returns
        -------
        Batch
            With as many environments as all of them together; episodes and final steps come batch by batch.

        Raises
        ------
        ValueError
            If there are no batches, or if they differ in T, moments, dtype or masked actions; the message
            names both values.
        """
        if not batches:
            raise ValueError("there must be at least one batch to concatenate")
        first, *others = batches
        for other in others:
            for what, one, another in (
                ("numbers of steps", len(first.rewards), len(other.rewards)),
                ("dtypes", first.observations.dtype, other.observations.dtype),
                ("moments", first.moments, other.moments),
                ("numbers of masked actions", _masked(first), _masked(other)),
                ("infos", sorted(first.infos), sorted(other.infos)),
            ):
                if not _same(one, another):
                    raise ValueError(f"batches with different {what} can't be joined: {one} and {another}")

        joined: dict[str, Any] = {}
        for each in fields(cls)[:-4]:
            parts = [getattr(batch, each.name) for batch in batches]
            joined[each.name] = np.concatenate(parts, axis=0 if each.name in _WITHOUT_STEPS else 1)
        numbers = [batch.rewards.shape[1] for batch in batches]
        before = np.repeat(np.cumsum(numbers) - numbers, [len(batch.final_steps) for batch in batches])
        joined["final_steps"][:, 1] += before
        episodes = Episodes.concatenate([batch.episodes for batch in batches])
        masks = [batch.masks for batch in batches if batch.masks is not None]
        joined["masks"] = np.concatenate(masks, axis=1) if masks else None
        joined["infos"] = {
            key: np.concatenate([batch.infos[key] for batch in batches], axis=1) for key in first.infos
        }
        return cls(**joined, episodes=episodes, moments=first.moments)


_WITHOUT_STEPS = ("final_steps", "final_observations", "last_observations")


def _masked(batch: Batch) -> int:
    return 0 if batch.masks is None else int(batch.masks.shape[-1])


def _same(one: Any, another: Any) -> bool:
    if not (isinstance(one, Moments) and isinstance(another, Moments)):
        return bool(one == another)
    return all(map(np.array_equal, astuple(one), astuple(another)))
