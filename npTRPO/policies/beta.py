"""The beta distribution on the unit interval, for actions between finite bounds."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import betaln, digamma, polygamma

from npTRPO._typing import Array
from npTRPO.policies.exponential import expm1_minus

# With so many terms of Stirling's series, at arguments moved up by so many steps, what is left out is
# less than 1e-16 of the whole.
_STEPS = np.arange(10.0)
_POWERS = np.arange(1.0, 16.0, 2.0)
_STIRLING = np.array(
    [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400]
)


class Beta:
    """Independent beta distributions on (0, 1), one per action dimension, with density ∝ uᵅ⁻¹ (1 − u)ᵝ⁻¹.

    Parameters
    ----------
    log_alpha, log_beta : array, shape (..., n)
        Logarithms of α and β. Both 0 is the uniform distribution.

    References
    ----------
    Chou, Maturana and Scherer 2017, "Improving stochastic policy gradients in continuous control with deep
    reinforcement learning using the beta distribution".

    Examples
    --------
    >>> import numpy as np
    >>> old, new = Beta(np.zeros((1, 1)), np.zeros((1, 1))), Beta(np.log([[2.0]]), np.zeros((1, 1)))
    >>> old.kl(new).round(4), new.entropy().round(4)
    (array([0.3069]), array([-0.1931]))
    """

    def __init__(self, log_alpha: Any, log_beta: Any) -> None:
        self.log_alpha = log_alpha
        self.log_beta = log_beta

    @cached_property
    def alpha(self) -> Any:
        """α, shape (..., n)."""
        return np.exp(self.log_alpha)

    @cached_property
    def beta(self) -> Any:
        """β, shape (..., n)."""
        return np.exp(self.log_beta)

    def log_prob(self, actions: Any) -> Any:
        """Log π(u|s) for actions u (..., n) between 0 and 1: the sum over dimensions."""
        powers = (self.alpha - 1) * np.log(actions) + (self.beta - 1) * np.log1p(-actions)
        return np.sum(powers - betaln(self.alpha, self.beta), axis=-1)

    def entropy(self) -> Any:
        """Differential entropy in nats: Σ_i log B(α, β) − (α − 1)ψ(α) − (β − 1)ψ(β) + (α + β − 2)ψ(α + β)."""
        a, b = self.alpha, self.beta
        powers = (a - 1) * digamma(a) + (b - 1) * digamma(b) - (a + b - 2) * digamma(a + b)
        return np.sum(betaln(a, b) - powers, axis=-1)

    def kl(self, new: Beta) -> Any:
        """E18: Σ_i log B(α', β') − log B(α, β) + (α − α')ψ(α) + (β − β')ψ(β) + (α' + β' − α − β)ψ(α + β).

        The primed parameters are those of ``new``. With D(x, h) = log Γ(x + h) − log Γ(x) − hψ(x) ≥ 0 it is
        computed as D(α, α' − α) + D(β, β' − β) − D(α + β, α' + β' − α − β), each of which keeps its digits
        however small the differences are.
        """
        a, b = self.alpha, self.beta
        da = a * np.expm1(new.log_alpha - self.log_alpha)
        db = b * np.expm1(new.log_beta - self.log_beta)
        parts = log_gamma_excess(a, da, new.alpha) + log_gamma_excess(b, db, new.beta)
        return np.sum(parts - log_gamma_excess(a + b, da + db, new.alpha + new.beta), axis=-1)

    def sample(self, rng: np.random.Generator) -> Array:
        """Actions in float64, which are neither 0 nor 1, as the density is that of the open interval.

        Where α or β isn't a positive number they are no numbers either, as a Gaussian's are.
        """
        a, b = self.alpha, self.beta
        known = (a > 0) & (b > 0) & np.isfinite(a + b)
        drawn = rng.beta(np.where(known, a, 1), np.where(known, b, 1))
        inside = np.clip(drawn, np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0))
        return np.where(known, inside, np.nan)

    def mode(self) -> Array:
        """The means α / (α + β), which always exist, as the most probable action may not."""
        return 1 / (1 + np.exp(self.log_beta - self.log_alpha))  # type: ignore[no-any-return]

    def fisher_product(self, v: tuple[Any, Any]) -> tuple[Any, Any]:
        """E22: M v, the Fisher information in (log α, log β), for ``v`` a pair shaped as they are.

        In (α, β) it is diag(ψ₁(α), ψ₁(β)) − ψ₁(α + β) 11ᵀ, with the trigamma function ψ₁.
        """
        along_alpha, along_beta = self._along(v)
        first, second, both = self._trigammas
        shared = both * (along_alpha + along_beta)
        return self.alpha * (first * along_alpha - shared), self.beta * (second * along_beta - shared)

    def fisher_form(self, v: tuple[Any, Any]) -> Any:
        """E24: vᵀ M v, shape (...)."""
        along_alpha, along_beta = self._along(v)
        first, second, both = self._trigammas
        parts = first * along_alpha**2 + second * along_beta**2 - both * (along_alpha + along_beta) ** 2
        return np.sum(parts, axis=-1)

    def _along(self, v: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return the direction in (α, β) that ``v`` is in their logarithms."""
        return self.alpha * v[0], self.beta * v[1]

    @cached_property
    def _trigammas(self) -> tuple[Any, Any, Any]:
        """ψ₁ of α, β and α + β, each (..., n)."""
        a, b = self.alpha, self.beta
        first, second, both = (polygamma(1, x).astype(a.dtype) for x in (a, b, a + b))
        return first, second, both


def log_gamma_excess(x: Any, h: Any, y: Any) -> Any:
    """Compute log Γ(y) − log Γ(x) − h ψ(x) ≥ 0, where y = x + h, to the precision of its dtype.

    With L_k = log((y + k)/(x + k)) and e(z) = exp(z) − 1 − z, Γ(x + 1) = x Γ(x) and Stirling's series give
    Σ_k e(L_k) over ten steps, and beyond them, at X = x + 10 and Y = y + 10 with L = log(Y/X),
    Y e(−L) + ½ e(L) + Σ_m c_m X⁻ᵐ (e(−mL) + m e(L)). But for a few small c_m nothing is subtracted.

    Examples
    --------
    >>> import numpy as np
    >>> excess = log_gamma_excess(np.array([2.0]), np.array([1e-9]), np.array([2 + 1e-9]))
    >>> excess / (0.5e-18 * (np.pi**2 / 6 - 1))  # ½ h² ψ₁(2)
    array([1.])
    """
    steps, powers = (np.asarray(numbers, dtype=x.dtype) for numbers in (_STEPS, _POWERS))
    each = _log_ratio(x[..., None] + steps, h[..., None], y[..., None] + steps)
    x, y = x + len(steps), y + len(steps)
    change = _log_ratio(x, h, y)
    up = expm1_minus(change)
    series = np.asarray(_STIRLING, dtype=x.dtype) * x[..., None] ** -powers
    rest = expm1_minus(-powers * change[..., None]) + powers * up[..., None]
    beyond = y * expm1_minus(-change) + 0.5 * up + np.sum(series * rest, axis=-1)
    return np.sum(expm1_minus(each), axis=-1) + beyond


def _log_ratio(x: Any, h: Any, y: Any) -> Any:
    """Compute log(y/x) where y = x + h."""
    relative = h / x
    near = (relative < 0.5) & (relative > -0.5)
    return np.where(near, np.log1p(np.where(near, relative, 0)), np.log(y / x))
