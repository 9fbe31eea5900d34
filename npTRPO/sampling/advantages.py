"""Advantage estimates from rewards and values."""

import numpy as np

from npTRPO._typing import Array, BoolArray


def td_residuals(
    rewards: Array, values: Array, next_values: Array, terminated: BoolArray, gamma: float
) -> Array:
    """Compute E39: δ_t = r_t + γ V(s_{t+1}) − V(s_t), where V(s_{t+1}) counts as 0 after a termination.

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
    """Estimate advantages by generalized advantage estimation.

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
    return _decayed_sums(advantages[::-1], gamma * lam, ended[::-1])[::-1]


def running_sums(terms: Array, factor: float, ended: BoolArray, before: Array) -> Array:
    """Compute R_t = terms_t + factor · R_{t−1} within each episode: sums restart after a step that ends one.

    Parameters
    ----------
    terms : array, shape (T, n), T ≥ 1
        The terms of the sums, such as rewards.
    factor : float
        Weight of the sum so far, at most 1 in size: γ for discounted returns, 1 for undiscounted ones.
    ended : bool array, shape (T, n)
        Whether step t ended an episode.
    before : array, shape (n,)
        R before the first step.

    Returns
    -------
    array, shape (T, n)
    """
    first = terms[0] + factor * before
    anew = np.concatenate([np.ones_like(ended[:1]), ended[:-1]])
    return _decayed_sums(np.concatenate([first[None], terms[1:]]), factor, anew)


def _decayed_sums(terms: Array, factor: float, anew: BoolArray) -> Array:
    """Compute R_t = terms_t + factor · R_{t−1}, where R_{t−1} counts as 0 if ``anew`` is true.

    In log₂ T passes over whole arrays instead of T steps: before each pass R_t holds its last ``reach``
    terms, and takes as many more from R_{t − reach}.
    """
    sums, joined, reach = terms.copy(), ~anew, 1
    while reach < len(sums):
        # Not a weight of 0: 0 times inf or NaN would leak across the end.
        sums[reach:] += np.where(joined[reach:], factor**reach * sums[:-reach], 0)
        joined[reach:] &= joined[:-reach]
        reach *= 2
    return sums
