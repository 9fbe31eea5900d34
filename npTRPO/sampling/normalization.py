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
# The deviation of equal numbers, relative to them, as it is computed from several batches in float64.
_ROUNDING = 8 * float(np.finfo(np.float64).eps)
_FEW = 2**20  # numbers that are in float64 at a time


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

    @classmethod
    def of(cls, rows: Array) -> Moments:
        """Return the moments of ``rows``, of shape (N, d); or (N,), whose mean and variance have no axis."""
        if not len(rows):
            return cls(np.zeros(rows.shape[1:]), np.ones(rows.shape[1:]), 0)
        mean = np.asarray(np.mean(rows, axis=0, dtype=np.float64))
        return cls(mean, np.asarray(np.var(rows, axis=0, dtype=np.float64)), len(rows))

    def updated(self, rows: Array) -> Moments:
        """Return the moments of all rows so far and ``rows`` (N, d) together."""
        return self.merged(Moments.of(rows))

    def merged(self, *others: Moments) -> Moments:
        """Return the moments of all rows of these and of the others, which are taken in their order."""
        merged = self
        for other in others:
            merged = merged._merged(other)
        return merged

    def _merged(self, other: Moments) -> Moments:
        n = other.count
        if n == 0:
            return self
        if self.count == 0:
            return other
        total = self.count + n
        shift = other.mean - self.mean
        variance = (self.variance * self.count + other.variance * n) / total
        return Moments(
            self.mean + shift * (n / total), variance + shift**2 * (self.count * n / total**2), total
        )

    @property
    def scale(self) -> Array:
        """Standard deviation per feature; 1 for a feature that has not varied beyond float64's rounding."""
        return self.scale_of(0.0)

    def scale_of(self, eps: float | Array) -> Array:
        """Return the scale of numbers whose own relative precision is ``eps``, at least that of float64.

        Standard deviation per feature; 1 for a feature that has not varied beyond that precision.
        """
        deviation = np.sqrt(self.variance)
        # The inverse of a smaller number than the smallest normal one may be infinite in float32.
        noise = np.maximum(np.maximum(eps, _ROUNDING) * np.abs(self.mean), np.finfo(np.float32).tiny)
        return np.where(deviation > noise, deviation, 1.0)

    def normalizer(self, dtype: npt.DTypeLike, eps: float | Array = 0.0) -> tuple[Array, Array]:
        """Return the pair (mean, 1 / scale) that :func:`standardize` takes, to give rows of this dtype.

        The mean is in float64, as is the difference from it: an offset may be large beside the deviation.
        """
        return self.mean, (1 / self.scale_of(eps)).astype(dtype)

    def change(self, new: Moments, eps: float | Array = 0.0) -> tuple[Array, Array]:
        """E57: Return factor and shift, both (d,), with which rows normalised by ``new`` give those by these.

        (x − μ₀)/σ₀ = factor · (x − μ₁)/σ₁ + shift, where nothing is clipped.
        """
        scale = self.scale_of(eps)
        return new.scale_of(eps) / scale, (new.mean - self.mean) / scale


def standardize(rows: Array, normalizer: tuple[Array, Array]) -> Array:
    """Return (rows − mean) / scale, clipped to ±10 standard deviations, in the dtype of the normalizer."""
    mean, factor = normalizer
    if rows.size <= _FEW:
        return clipped((rows - mean) * factor, -CLIP, CLIP).astype(factor.dtype, copy=False)
    result = np.empty(rows.shape, factor.dtype)
    step = max(1, _FEW * len(rows) // rows.size)
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        result[block] = clipped((rows[block] - mean) * factor, -CLIP, CLIP)
    return result


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
        return self.merged(self.of(rewards, ended, valid, gamma, self.running))

    @classmethod
    def of(
        cls, rewards: Array, ended: BoolArray, valid: BoolArray, gamma: float, running: Array
    ) -> RewardScale:
        """Return the scale of the steps of a batch alone, which begins with ``running``."""
        if not len(rewards):
            return cls(Moments.empty(1), running)
        seen = running_sums(rewards, gamma, ended, running)
        return cls(Moments.of(seen[valid][:, None]), np.where(ended[-1], 0.0, seen[-1]))

    def merged(self, *others: RewardScale) -> RewardScale:
        """Return the scale after further steps, in groups of environments that are joined in their order."""
        running = np.concatenate([other.running for other in others])
        return RewardScale(self.moments.merged(*(other.moments for other in others)), running)

    def apply(self, rewards: Array) -> Array:
        """Return rewards divided by the scale, clipped to ±10."""
        return clipped(rewards / self.moments.scale[0], -CLIP, CLIP)
