"""Backtracking along a step until it keeps to the trust region and improves the surrogate."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from npTRPO._typing import Array


@dataclass(frozen=True)
class LineSearch:
    """Line search with its settings: call it with the other arguments of :func:`line_search`.

    Attributes
    ----------
    shrinking_factor : float
        α, between 0 and 1 exclusive.
    max_iter : int
        Largest number of steps tried.
    """

    shrinking_factor: float = 0.5
    max_iter: int = 10

    def __call__(self, *arguments: Any, target_kl: float) -> LineSearchResult:
        """Search along a step."""
        return line_search(*arguments, target_kl=target_kl, **asdict(self))


class LineSearchOutcome(enum.Enum):
    """Reason why the search ended."""

    ACCEPTED = "A step improves the surrogate within the trust region."
    KL_EXCEEDED = "No step was accepted: the last one tried left the trust region."
    NO_IMPROVEMENT = "No step was accepted: the last one tried did not improve the surrogate."
    NOT_FINITE = "No step was accepted: at the last one tried the surrogate or the KL was not finite."


@dataclass(frozen=True)
class LineSearchResult:
    """Result of a line search.

    Attributes
    ----------
    theta : array
        The accepted parameters, or the very array that was given if no step was accepted.
    surrogate : float
        Surrogate at ``theta``.
    kl : float
        Mean KL divergence from the old policy at ``theta``, in nats.
    tries : int
        Number of steps evaluated.
    fraction : float
        The accepted fraction αⁱ of the full step; 0 if none was accepted.
    outcome : LineSearchOutcome
        Why the search ended; its value is a sentence.
    """

    theta: Array
    surrogate: float
    kl: float
    tries: int
    fraction: float
    outcome: LineSearchOutcome

    @property
    def accepted(self) -> bool:
        """True if a step was accepted."""
        return self.outcome is LineSearchOutcome.ACCEPTED


def line_search(
    evaluate: Callable[[Array], tuple[float, float]],
    theta: Array,
    step: Array,
    surrogate: float,
    *,
    target_kl: float,
    shrinking_factor: float = 0.5,
    max_iter: int = 10,
) -> LineSearchResult:
    """E38: θ + αⁱ Δ with the first i = 0, 1, 2, … that keeps KL ≤ δ and improves the surrogate.

    Both conditions are strict: KL may not exceed δ by any factor, and the surrogate must be larger
    than at θ. If no step within the limit meets both, θ is returned as it is, to the bit.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(theta_new)`` returns the surrogate and the mean KL from θ, in nats.
    theta : array, shape (p,)
        The old parameters θ.
    step : array, shape (p,)
        The full step Δ.
    surrogate : float
        Surrogate at θ.
    target_kl : float
        Trust region size δ in nats.
    shrinking_factor : float
        α, between 0 and 1 exclusive.
    max_iter : int
        Largest number of steps tried.

    Returns
    -------
    LineSearchResult

    References
    ----------
    Schulman et al. 2015, "Trust region policy optimization", Appendix C.

    Examples
    --------
    >>> import numpy as np
    >>> result = line_search(
    ...     lambda t: (float(t[0]), float(t[0] ** 2)), np.zeros(1), np.ones(1), 0.0, target_kl=0.1
    ... )
    >>> result.theta, result.tries, result.outcome.value
    (array([0.25]), 3, 'A step improves the surrogate within the trust region.')
    """
    if not 0 < shrinking_factor < 1:
        raise ValueError(f"shrinking_factor must lie between 0 and 1, but it is {shrinking_factor!r}")
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1, but it is {max_iter!r}")
    if not target_kl > 0:
        raise ValueError(f"target_kl must be positive, but it is {target_kl!r}")
    outcome = LineSearchOutcome.NO_IMPROVEMENT
    for i in range(max_iter):
        fraction = shrinking_factor**i
        candidate = theta + theta.dtype.type(fraction) * step
        new_surrogate, kl = evaluate(candidate)
        if not (math.isfinite(new_surrogate) and math.isfinite(kl)):
            outcome = LineSearchOutcome.NOT_FINITE
        elif kl > target_kl:
            outcome = LineSearchOutcome.KL_EXCEEDED
        elif new_surrogate <= surrogate:
            outcome = LineSearchOutcome.NO_IMPROVEMENT
        else:
            return LineSearchResult(candidate, new_surrogate, kl, i + 1, fraction, LineSearchOutcome.ACCEPTED)
    return LineSearchResult(theta, surrogate, 0.0, max_iter, 0.0, outcome)
