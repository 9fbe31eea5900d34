"""Running moments, and the normalisation of observations and rewards by them.

Moments are values: an update returns new ones. The agent replaces them only between batches, so that
sampling and the update normalise a batch in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npTRPO._typing import Array, BoolArray
from npTRPO.policies.spaces import clipped
from npTRPO.sampling.advantages import running_sums

# Normalised numbers are clipped to this many standard deviations, as is usual.
CLIP = 10.0


@dataclass(frozen=True)
class Moments:
    """Mean and variance of all rows seen so far, per feature.

    Attributes
    ----------
    mean, variance : array, shape (d,)
        In float64; the variance is the population's (divided by the count).
    count : int
        Number of rows.

    References
    ----------
    Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", equation 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> moments = Moments.empty(1).updated(np.array([[1.0], [2.0]])).updated(np.array([[6.0]]))
    >>> moments.mean, moments.variance.round(4), moments.count
    (array([3.]), array([4.6667]), 3)
    """

    mean: Array
    variance: Array
    count: int

    @classmethod
    def empty(cls, size: int) -> Moments:
        """Return moments of no rows, which normalise nothing."""
        return cls(np.zeros(size), np.ones(size), 0)

    def updated(self, rows: Array) -> Moments:
        """Return the moments of all rows so far and ``rows`` (N, d) together."""
        n = len(rows)
        if n == 0:
            return self
        mean = np.asarray(np.mean(rows, axis=0, dtype=np.float64))
        variance = np.asarray(np.var(rows, axis=0, dtype=np.float64))
        if self.count == 0:
            return Moments(mean, variance, n)
        total = self.count + n
        shift = mean - self.mean
        merged = (self.variance * self.count + variance * n) / total + shift**2 * (self.count * n / total**2)
        return Moments(self.mean + shift * (n / total), merged, total)

    @property
    def scale(self) -> Array:
        """Standard deviation per feature; 1 for a feature that has not varied beyond rounding."""
        deviation, single = np.sqrt(self.variance), np.finfo(np.float32)
        # The inverse of a smaller number than the smallest normal one may be infinite in float32.
        noise = np.maximum(single.eps * np.abs(self.mean), single.tiny)
        return np.where(deviation > noise, deviation, 1.0)

    def normalizer(self, dtype: npt.DTypeLike) -> tuple[Array, Array]:
        """Return the pair (mean, 1 / scale) that :func:`standardize` takes, in the dtype given."""
        return self.mean.astype(dtype), (1 / self.scale).astype(dtype)


def standardize(rows: Array, normalizer: tuple[Array, Array]) -> Array:
    """Return (rows − mean) / scale, clipped to ±10 standard deviations."""
    mean, factor = normalizer
    return clipped((rows - mean) * factor, -CLIP, CLIP)


@dataclass(frozen=True)
class RewardScale:
    """Scale of the rewards: the standard deviation of the running discounted return.

    Rewards are divided by it, and not centred, as that would change the task.

    Attributes
    ----------
    moments : Moments
        Of the running return R ← γR + r over all steps and environments.
    running : array, shape (n_envs,)
        R of the episode under way in each environment.
    """

    moments: Moments
    running: Array

    @classmethod
    def empty(cls, n_envs: int) -> RewardScale:
        """Return the scale before any reward, which is 1."""
        return cls(Moments.empty(1), np.zeros(n_envs))

    def updated(self, rewards: Array, ended: BoolArray, valid: BoolArray, gamma: float) -> RewardScale:
        """Return the scale after the steps of a batch, arrays (T, n_envs); only valid ones are counted."""
        if not len(rewards):
            return self
        seen = running_sums(rewards, gamma, ended, self.running)
        return RewardScale(self.moments.updated(seen[valid][:, None]), np.where(ended[-1], 0.0, seen[-1]))

    def apply(self, rewards: Array) -> Array:
        """Return rewards divided by the scale, clipped to ±10."""
        return clipped(rewards / self.moments.scale[0], -CLIP, CLIP)
