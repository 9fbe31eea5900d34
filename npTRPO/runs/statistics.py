"""Statistics of a few runs: the interquartile mean, its bootstrap interval, and which of two is better."""

import numpy as np

from npTRPO._typing import Array


def interquartile_mean(x: Array) -> Array:
    """Compute the mean of the middle half over axis 0; with fewer than four runs, of what trimming leaves.

    References
    ----------
    Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
    """
    import scipy.stats

    if not x.size:  # for which the first versions of SciPy that are supported give another shape
        return np.zeros(x.shape[1:])
    return np.asarray(scipy.stats.trim_mean(x, 0.25, axis=0))


def bootstrap_interval(x: Array, rng: np.random.Generator, resamples: int = 1000) -> tuple[Array, Array]:
    """Compute a 95 % percentile interval of the interquartile mean over axis 0, by resampling runs.

    The stratified bootstrap of Agarwal et al. 2021 for one task, which is one stratum.
    """
    chosen = rng.integers(len(x), size=(resamples, len(x)))
    low, high = np.quantile(interquartile_mean(x[chosen.T]), [0.025, 0.975], axis=0)
    return low, high


def probability_of_improvement(x: Array, y: Array) -> float:
    """Compute P(X > Y) + ½ P(X = Y) for a run of the first group and a run of the second, over all pairs.

    References
    ----------
    Agarwal et al. 2021, as above; Mann and Whitney 1947, whose U it is as a share of all pairs.
    """
    first, second = x[:, None], y[None, :]
    return float(np.mean(first > second) + np.mean(first == second) / 2)
