"""Distributions over actions: log-probability, entropy, KL divergence, samples and Fisher information.

A distribution is made of a network's outputs, one row per state, and everything it computes is
plain NumPy, so that it can be differentiated in them. KL always reads KL(old ‖ new): ``old.kl(new)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np

from npTRPO._typing import Array, BoolArray
from npTRPO.autograd import log_softmax
from npTRPO.policies.exponential import expm1_minus
from npTRPO.policies.masks import masked

# Up to this size exp overflows in no dtype.
_FAR = 80.0


class Distribution(Protocol):
    """The protocol of a distribution over actions; rows are states, N of them."""

    def log_prob(self, actions: Any) -> Any:
        """Log-probability (or density) of one action per state, shape (N,)."""
        ...

    def entropy(self) -> Any:
        """Entropy per state in nats, shape (N,)."""
        ...

    def kl(self, new: Self) -> Any:
        """KL(self ‖ new) per state in nats, shape (N,)."""
        ...

    def sample(self, rng: np.random.Generator) -> Array:
        """One action per state."""
        ...

    def mode(self) -> Array:
        """The most probable action per state."""
        ...

    def fisher_product(self, v: Any) -> Any:
        """Fisher information M in the outputs times ``v``, which is shaped as they are (E22)."""
        ...


class Categorical:
    """Softmax over the last axis: π(a|s) = exp z_a / Σ_b exp z_b.

    Parameters
    ----------
    logits : array, shape (..., n)
        Unnormalised log-probabilities z; −∞ for an action of probability 0.
    mask : bool array, shape (..., n), optional
        True for the actions that are allowed; the others have probability 0, whatever their logits are. All
        sums over actions are then those over the allowed.

    Raises
    ------
    ValueError
        For a mask that isn't like the logits, or that allows nothing in a state.

    Examples
    --------
    >>> import numpy as np
    >>> old, new = Categorical(np.log([[0.5, 0.5]])), Categorical(np.log([[0.25, 0.75]]))
    >>> old.kl(new).round(4), old.entropy().round(4)
    (array([0.1438]), array([0.6931]))
    >>> Categorical(np.zeros((1, 3)), mask=np.array([[True, False, True]])).probs
    array([[0.5, 0. , 0.5]])
    """

    def __init__(self, logits: Any, mask: BoolArray | None = None) -> None:
        self.logits = logits if mask is None else masked(logits, mask, logits.shape[-1:])

    @cached_property
    def _forbidden(self) -> BoolArray | None:
        """Where actions have probability 0 as their logits are −∞; None if there are none."""
        forbidden: BoolArray = self.logits == -np.inf
        return forbidden if forbidden.any() else None

    def _allowed(self, x: Any) -> Any:
        """Return ``x`` with 0 where an action is forbidden."""
        return x if self._forbidden is None else np.where(self._forbidden, 0, x)

    @cached_property
    def log_probs(self) -> Any:
        """Log π of every action, shape (..., n)."""
        return log_softmax(self.logits, axis=-1)

    @cached_property
    def probs(self) -> Any:
        """π of every action, shape (..., n)."""
        return np.exp(self.log_probs)

    def log_prob(self, actions: Any) -> Any:
        """Log π(a|s) for integer actions 0 … n − 1, shape (...)."""
        index = np.asarray(actions)[..., None]
        return np.take_along_axis(self.log_probs, index, axis=-1)[..., 0]

    def entropy(self) -> Any:
        """−Σ_a π log π in nats, shape (...)."""
        return -np.sum(self.probs * self._allowed(self.log_probs), axis=-1)

    def kl(self, new: Categorical) -> Any:
        """E16: Σ_a π(a|s) log(π(a|s) / π'(a|s)) in nats, shape (...).

        With u = log π' − log π it is computed as Σ π (exp(u) − 1 − u), as Σ π (exp(u) − 1) = 0: no term is
        negative, and none cancels. u = Δz − log Σ π exp(Δz) comes from the logits' difference Δz, without
        the part of it that is common to all actions. The rounding error of Δz (Knuth's two-sum) is added when
        most of that part is gone, so that logits which move far together lose no digits. It is infinite where
        ``new`` forbids what this distribution allows.

        Source: Schulman et al. 2015 (TRPO), Appendix C.1; KL(old ‖ new) with old = self.
        """
        z, z_new = self._allowed(self.logits), new._allowed(new.logits)
        p, change = self.probs, z_new - z
        moved = change - z_new
        error = (z_new - (change - moved)) - (z + moved)
        change = self._allowed(self._centred(self._centred(change) + error))
        near = (change < _FAR) & (change > -_FAR) & self._as_in(new)
        near = np.all(near, axis=-1, keepdims=True)
        change = np.where(near, change, 0)
        u = np.where(
            near,
            change - np.log1p(np.sum(p * np.expm1(change), axis=-1, keepdims=True)),
            new.log_probs - self._allowed(self.log_probs),
        )
        u = self._allowed(u)
        # π exp(u) is π', which can't overflow.
        moderate = u < 1
        terms = np.where(moderate, p * expm1_minus(np.where(moderate, u, 0)), new.probs - p - p * u)
        if self._forbidden is not None:
            terms = np.where(self._forbidden, new.probs, terms)
        return np.sum(terms, axis=-1)

    def _as_in(self, new: Categorical) -> Any:
        """Return where both distributions forbid an action or both allow it."""
        if self._forbidden is None and new._forbidden is None:
            return True
        return (self.logits == -np.inf) == (new.logits == -np.inf)

    def sample(self, rng: np.random.Generator) -> Array:
        """Actions drawn by inverting the cumulative distribution, int64, shape (...)."""
        # Not from ``probs``, whose normalisation takes as long as all the rest for the few rows of a step.
        z = self.logits
        cumulative = np.exp(z - z.max(axis=-1, keepdims=True)).cumsum(axis=-1, dtype=np.float64)
        threshold = rng.random((*z.shape[:-1], 1)) * cumulative[..., -1:]
        return (cumulative > threshold).argmax(axis=-1)  # type: ignore[no-any-return]

    def mode(self) -> Array:
        """The action with the largest logit (the first, at a tie), shape (...)."""
        return np.asarray(np.argmax(self.logits, axis=-1))

    def fisher_product(self, v: Any) -> Any:
        """E22: (diag(π) − π πᵀ) v, the Fisher information in the logits; shape (..., n)."""
        return self.probs * self._centred(v)

    def fisher_form(self, v: Any) -> Any:
        """E24: vᵀ (diag(π) − π πᵀ) v, the variance of v under π; shape (...)."""
        return np.sum(self.probs * self._centred(v) ** 2, axis=-1)

    def _centred(self, v: Any) -> Any:
        return v - np.sum(self.probs * v, axis=-1, keepdims=True)


class MultiCategorical:
    """Several independent categorical actions at once.

    Parameters
    ----------
    logits : array, shape (..., sum(nvec))
        The logits of all components, one component after the other.
    nvec : sequence of int
        Number of choices of each component.
    mask : bool array, shape (..., sum(nvec)), optional
        As for :class:`Categorical`, one component after the other.

    Examples
    --------
    >>> import numpy as np
    >>> MultiCategorical(np.zeros((1, 5)), [2, 3]).log_prob(np.array([[0, 2]])).round(4)
    array([-1.7918])
    """

    def __init__(self, logits: Any, nvec: Sequence[int], mask: BoolArray | None = None) -> None:
        self.nvec = tuple(int(n) for n in nvec)
        if logits.shape[-1] != sum(self.nvec):
            raise ValueError(f"nvec {self.nvec} needs {sum(self.nvec)} logits, not {logits.shape[-1]}")
        self.logits = logits if mask is None else masked(logits, mask, self.nvec)

    @cached_property
    def components(self) -> tuple[Categorical, ...]:
        """One categorical distribution per component."""
        return tuple(Categorical(part) for part in self._split(self.logits))

    def log_prob(self, actions: Any) -> Any:
        """Log π(a|s) for integer actions (..., len(nvec)): the sum over components."""
        return self._total(c.log_prob(actions[..., i]) for i, c in enumerate(self.components))

    def entropy(self) -> Any:
        """Entropy in nats: the sum over components."""
        return self._total(c.entropy() for c in self.components)

    def kl(self, new: MultiCategorical) -> Any:
        """E18: the KL divergence of a product is the sum over its components (each E16)."""
        return self._total(c.kl(d) for c, d in zip(self.components, new.components, strict=True))

    def sample(self, rng: np.random.Generator) -> Array:
        """Actions, int64, shape (..., len(nvec))."""
        return np.stack([c.sample(rng) for c in self.components], axis=-1)

    def mode(self) -> Array:
        """The most probable choice of each component."""
        return np.stack([c.mode() for c in self.components], axis=-1)

    def fisher_product(self, v: Any) -> Any:
        """E22: block-diagonal, one categorical block per component; shaped as the logits."""
        parts = zip(self.components, self._split(v), strict=True)
        return np.concatenate([c.fisher_product(part) for c, part in parts], axis=-1)

    def fisher_form(self, v: Any) -> Any:
        """E24: the sum over components; shape (...)."""
        return self._total(
            c.fisher_form(part) for c, part in zip(self.components, self._split(v), strict=True)
        )

    def _split(self, x: Any) -> list[Any]:
        ends = np.cumsum(self.nvec)
        return [x[..., end - n : end] for n, end in zip(self.nvec, ends, strict=True)]

    @staticmethod
    def _total(parts: Any) -> Any:
        first, *rest = parts
        return sum(rest, start=first)


class Bernoulli:
    """Several independent binary actions: component i is 1 with probability 1 / (1 + exp(−z_i)).

    Parameters
    ----------
    logits : array, shape (..., n)
        Log-odds z of a 1.

    Examples
    --------
    >>> import numpy as np
    >>> Bernoulli(np.zeros((1, 3))).log_prob(np.array([[0, 1, 1]])).round(4)
    array([-2.0794])
    """

    def __init__(self, logits: Any) -> None:
        self.logits = logits

    @cached_property
    def _pairs(self) -> Categorical:
        """Each component as a categorical distribution over 0 and 1, with the logits 0 and z."""
        return Categorical(np.stack([np.zeros_like(self.logits), self.logits], axis=-1))

    @cached_property
    def probs(self) -> Any:
        """Probability of a 1, shape (..., n)."""
        return self._pairs.probs[..., 1]

    def log_prob(self, actions: Any) -> Any:
        """Log π(a|s) for actions of 0 and 1, shape (..., n): the sum over components."""
        return np.sum(self._pairs.log_prob((np.asarray(actions) == 1).astype(np.int64)), axis=-1)

    def entropy(self) -> Any:
        """Entropy in nats: the sum over components."""
        return np.sum(self._pairs.entropy(), axis=-1)

    def kl(self, new: Bernoulli) -> Any:
        """E18: the sum over components of E16 with two actions."""
        return np.sum(self._pairs.kl(new._pairs), axis=-1)

    def sample(self, rng: np.random.Generator) -> Array:
        """Actions of 0 and 1, int64, shape (..., n)."""
        return (rng.random(self.probs.shape) < self.probs).astype(np.int64)  # type: ignore[no-any-return]

    def mode(self) -> Array:
        """1 where it is more probable than 0."""
        return (self.logits > 0).astype(np.int64)  # type: ignore[no-any-return]

    def fisher_product(self, v: Any) -> Any:
        """E22: p(1 − p) v, the Fisher information in the log-odds."""
        return self._variance * v

    def fisher_form(self, v: Any) -> Any:
        """E24: Σ p(1 − p) v², shape (...)."""
        return np.sum(self._variance * v**2, axis=-1)

    @cached_property
    def _variance(self) -> Any:
        """p(1 − p), shape (..., n)."""
        return np.prod(self._pairs.probs, axis=-1)


class DiagGaussian:
    """Independent normal distributions, one per action dimension.

    Parameters
    ----------
    mean : array, shape (..., n)
        Means μ, in units of the action.
    log_std : array, broadcastable to (..., n)
        Logarithms of the standard deviations σ.

    Examples
    --------
    >>> import numpy as np
    >>> old, new = DiagGaussian(np.zeros((1, 1)), np.zeros(1)), DiagGaussian(np.ones((1, 1)), np.zeros(1))
    >>> old.kl(new), old.entropy().round(4)
    (array([0.5]), array([1.4189]))
    """

    def __init__(self, mean: Any, log_std: Any) -> None:
        self.mean = mean
        self._log_std = log_std
        if log_std.shape != mean.shape[-1:]:
            _ = self.log_std  # an error now, if it can't be broadcast

    @cached_property
    def log_std(self) -> Any:
        """Logarithms of the standard deviations, shape (..., n)."""
        given, shape = self._log_std, self.mean.shape
        return given if given.shape == shape else np.broadcast_to(given, shape)

    @cached_property
    def _precision(self) -> Any:
        """1/σ², shape (..., n)."""
        return np.exp(-2 * self.log_std)

    def log_prob(self, actions: Any) -> Any:
        """Log π(a|s) per unit of action volume for actions (..., n): the sum over dimensions."""
        standardized = (actions - self.mean) * np.exp(-self.log_std)
        constant = 0.5 * self.mean.shape[-1] * math.log(2 * math.pi)
        return -0.5 * np.sum(standardized**2, axis=-1) - np.sum(self.log_std, axis=-1) - constant

    def entropy(self) -> Any:
        """Differential entropy in nats: Σ_i log σ_i + ½ log(2πe)."""
        return np.sum(self.log_std, axis=-1) + 0.5 * self.mean.shape[-1] * math.log(2 * math.pi * math.e)

    def kl(self, new: DiagGaussian) -> Any:
        """E17: Σ_i [log(σ'_i/σ_i) + (σ_i² + (μ_i − μ'_i)²) / (2σ'_i²) − ½] in nats.

        The primed parameters are those of ``new``. Many texts print the roles exchanged, which is
        KL(new ‖ old). With u = log(σ_i/σ'_i), log(σ'_i/σ_i) + σ_i²/(2σ'_i²) − ½ is computed as
        ½(exp(2u) − 1 − 2u), without cancellation.
        """
        u = self.log_std - new.log_std
        distance = (self.mean - new.mean) * np.exp(-new.log_std)
        return 0.5 * np.sum(expm1_minus(2 * u) + distance**2, axis=-1)

    def sample(self, rng: np.random.Generator) -> Array:
        """Actions μ + σ ε with standard normal ε, in the dtype of the means."""
        noise = rng.standard_normal(self.mean.shape, dtype=self.mean.dtype)
        return self.mean + np.exp(self._log_std) * noise  # type: ignore[no-any-return]

    def mode(self) -> Array:
        """The means."""
        return self.mean  # type: ignore[no-any-return]

    def fisher_product(self, v: tuple[Any, Any]) -> tuple[Any, Any]:
        """E22: diag(1/σ², 2) v, the Fisher information in (μ, log σ), for ``v`` a pair shaped as they are."""
        along_mean, along_log_std = v
        return along_mean * self._precision, 2 * along_log_std

    def fisher_form(self, v: tuple[Any, Any]) -> Any:
        """E24: vᵀ diag(1/σ², 2) v, shape (...)."""
        along_mean, along_log_std = v
        return np.sum(along_mean**2 * self._precision + 2 * along_log_std**2, axis=-1)
