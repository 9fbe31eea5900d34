"""The policy as it acts: with fixed parameters, moments and random numbers."""

from __future__ import annotations

import numpy as np

from npTRPO._typing import Array, BoolArray
from npTRPO.policies.policy import Policy
from npTRPO.sampling.normalization import Moments, standardize


class Actor:
    """π_θ as a function from encoded observations to actions.

    Parameters
    ----------
    policy : Policy
    theta : array, shape (p,)
        Parameters; observations take their dtype.
    moments : Moments or None
        Normalise observations by these, or not at all.
    rng : numpy.random.Generator, optional
        Draws the actions; without it they are the most probable ones.
    """

    def __init__(
        self, policy: Policy, theta: Array, moments: Moments | None, rng: np.random.Generator | None = None
    ) -> None:
        self.dtype = theta.dtype
        eps = policy.observation_eps
        self._normalizer = None if moments is None else moments.normalizer(theta.dtype, eps)
        self._distribution, self._rows = policy.at(theta), policy.rows
        self._rng = rng

    def normalized(self, rows: Array) -> Array:
        """Return encoded observations (..., d) as the policy sees them."""
        if self._normalizer is None:
            return rows.astype(self.dtype, copy=False)
        return standardize(rows, self._normalizer)

    def act(self, observations: Array, masks: BoolArray | None = None) -> Array:
        """Return an action for each of the normalised observations (n, d), as the distribution gives it.

        ``masks``, from :meth:`npTRPO.policies.Policy.masks`, say which are allowed.
        """
        distribution = self._distribution(self._rows(observations, masks))
        return distribution.mode() if self._rng is None else distribution.sample(self._rng)
