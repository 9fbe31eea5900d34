"""Which distribution a policy has over the actions of a space, and what its network's outputs mean for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from npTRPO._typing import Array
from npTRPO.policies.beta import Beta
from npTRPO.policies.distributions import Bernoulli, Categorical, DiagGaussian, Distribution, MultiCategorical
from npTRPO.policies.spaces import Space, action_units, interval_units, warn_of_wide_bounds

DistributionFactory = Callable[[Space], tuple[int, Callable[[Any], Distribution]]]
"""``factory(action_space)`` returns the number of outputs, and what makes a distribution of them."""

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Between these a log σ that depends on the state stays."""


@dataclass(frozen=True)
class Family:
    """A family of distributions, and its network.

    Attributes
    ----------
    n_outputs : int
        Of the network.
    make : callable
        From the distribution's parameters to the distribution.
    head : callable, optional
        From the network's outputs to the distribution's parameters, if they aren't these.
    n_log_std : int
        How many log standard deviations end θ.
    units : pair of arrays, optional
        Those of the distribution's actions; see :func:`npTRPO.policies.spaces.action_converter`.
    """

    n_outputs: int
    make: Callable[[Any], Distribution]
    head: Callable[[Any], Any] | None = None
    n_log_std: int = 0
    units: tuple[Array, Array] | None = None


def family_for(
    space: Space,
    distribution: DistributionFactory | Literal["beta"] | None,
    rescale_actions: bool,
    log_std_init: float | None,
) -> Family:
    """Return the family for a space of actions; the arguments are those of :meth:`Policy.for_spaces`.

    ``log_std_init`` is None unless log σ depends on the state.
    """
    if log_std_init is not None:
        if distribution is not None or not isinstance(space, spaces.Box):
            raise ValueError(
                "state_dependent_std is for Gaussians, the usual distribution of a Box's actions, "
                f"not for {distribution or space}"
            )
        if not LOG_STD_MIN < log_std_init < LOG_STD_MAX:
            raise ValueError(
                f"log_std_init must be between {LOG_STD_MIN:g} and {LOG_STD_MAX:g}, where a log σ that "
                f"depends on the state stays, not {log_std_init:g}"
            )
    if distribution == "beta":
        if not isinstance(space, spaces.Box):
            raise ValueError(f"a beta distribution is for the actions of a Box, not of {space}")
        n = int(np.prod(space.shape))
        return Family(2 * n, _beta, partial(_halves, n), units=interval_units(space))
    if distribution is not None:
        return Family(*distribution(space))
    if isinstance(space, spaces.Discrete):
        return Family(int(space.n), Categorical)
    if isinstance(space, spaces.MultiDiscrete):
        nvec = tuple(int(n) for n in space.nvec.ravel())
        return Family(sum(nvec), partial(MultiCategorical, nvec=nvec))
    n = int(np.prod(space.shape or ()))
    if not isinstance(space, spaces.Box):
        return Family(n, Bernoulli)
    units = None
    if rescale_actions:
        warn_of_wide_bounds(space)
        units = action_units(space)
    if log_std_init is None:
        return Family(n, _gaussian, n_log_std=n, units=units)
    return Family(2 * n, _gaussian, partial(_mean_and_log_std, n, log_std_init), units=units)


def _beta(outputs: tuple[Any, Any]) -> Beta:
    """Make a beta distribution of the pair of log α and log β."""
    return Beta(*outputs)


def _gaussian(outputs: tuple[Any, Any]) -> DiagGaussian:
    """Make a Gaussian of the pair of means and log standard deviations."""
    return DiagGaussian(*outputs)


def _halves(n: int, outputs: Any) -> tuple[Any, Any]:
    """Return the first n outputs, and the others."""
    return outputs[..., :n], outputs[..., n:]


def _mean_and_log_std(n: int, log_std_init: float, outputs: Any) -> tuple[Any, Any]:
    """E58: Return means μ_θ(s), and log σ_θ(s) between the two bounds.

    log σ is x itself where the output x is near its initial value, and tends to the bounds as a tanh; that is
    differentiated through, and has no place where its derivative is 0.
    """
    mean, x = _halves(n, outputs)
    moved = x - log_std_init
    room = np.where(moved > 0, LOG_STD_MAX - log_std_init, log_std_init - LOG_STD_MIN).astype(moved.dtype)
    return mean, log_std_init + room * np.tanh(moved / room)
