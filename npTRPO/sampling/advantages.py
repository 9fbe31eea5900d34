"""Advantage estimates from rewards and values."""

from __future__ import annotations

import numpy as np

from npTRPO._typing import Array, BoolArray

__all__ = ["gae", "td_residuals"]


def td_residuals(
    rewards: Array, values: Array, next_values: Array, terminated: BoolArray, gamma: float
) -> Array:
    """E39: δ_t = r_t + γ V(s_{t+1}) − V(s_t), where V(s_{t+1}) counts as 0 after a termination.

    E4: δ_t is an unbiased sample of the advantage when V is the policy's value function; it isn't the
    advantage itself, unless transitions are deterministic. E2, E3: whatever V is, Σ_t γᵗ δ_t along the
    trajectories of any policy π' telescopes to J(π') − E[V(s₀)] on average. All arrays have one shape, the
    result too.
    """
    return rewards + gamma * np.where(terminated, 0, next_values) - values


def gae(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: BoolArray,
    truncated: BoolArray,
    gamma: float = 0.99,
    lam: float = 0.95,
) -> Array:
    """Generalized advantage estimation.

    E41: Â_t = Σ_{l≥0} (γλ)ˡ δ_{t+l}, the exponentially weighted mean of the k-step estimators
    Â^(k) = Σ_{l<k} γˡ δ_{t+l} (E40). E42: computed as Â_t = δ_t + γλ Â_{t+1}, restarted wherever an
    episode ends, terminated or truncated, and at the end of the arrays. E43: λ = 0 gives the TD residual
    (low variance, biased where V is wrong), λ = 1 the discounted return minus V. E44: unbiased for
    every λ if V is exact.

    Parameters
    ----------
    rewards : array, shape (T,) or (T, n_envs)
        r_t, the reward of step t.
    values : array, same shape
        V(s_t), of the observation before step t, in units of discounted reward.
    next_values : array, same shape
        V(s_{t+1}), of the observation that step t led to: at a truncation, that of the last observation
        of the episode, not of the first one of the next.
    terminated, truncated : bool array, same shape
        Whether step t ended the episode, by reaching a terminal state or by a limit from outside.
    gamma : float
        Discount γ, 0 ≤ γ ≤ 1.
    lam : float
        λ, 0 ≤ λ ≤ 1.

    Returns
    -------
    array, same shape
        Advantages Â_t; adding ``values`` gives the returns to which a value function is fitted.

    Raises
    ------
    ValueError
        For shapes that differ or γ, λ outside [0, 1].

    References
    ----------
    Schulman et al. 2015, "High-dimensional continuous control using generalized advantage estimation",
    arXiv 1506.02438, equation 16.

    Examples
    --------
    >>> import numpy as np
    >>> rewards, values, end = np.ones(3), np.zeros(3), np.array([False, False, True])
    >>> gae(rewards, values, np.zeros(3), end, np.zeros(3, bool), gamma=1.0, lam=1.0)
    array([3., 2., 1.])
    """
    rewards, values, next_values = np.asarray(rewards), np.asarray(values), np.asarray(next_values)
    terminated, truncated = np.asarray(terminated, dtype=bool), np.asarray(truncated, dtype=bool)
    shapes = {a.shape for a in (rewards, values, next_values, terminated, truncated)}
    if len(shapes) != 1 or rewards.ndim not in (1, 2):
        raise ValueError(f"gae needs five arrays of one shape, (T,) or (T, n_envs), not {sorted(shapes)}")
    for name, number in (("gamma", gamma), ("lam", lam)):
        if not 0 <= number <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, but it is {number!r}")
    # Whole numbers become floats here; float32 stays.
    advantages: Array = 1.0 * td_residuals(rewards, values, next_values, terminated, gamma)
    ended = terminated | truncated
    for t in range(len(advantages) - 2, -1, -1):
        # Not a weight of 0, as 0 times what isn't finite would leak across the end.
        advantages[t] += np.where(ended[t], 0, gamma * lam * advantages[t + 1])
    return advantages
