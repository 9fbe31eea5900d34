"""A batch in parts, in this process or in others: all means over it are weighted sums over its parts.

The sums are taken in the order of the parts, so that where a part is kept changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from npTRPO._typing import Array
from npTRPO.policies.mlp import MLP
from npTRPO.policies.network import Network
from npTRPO.trust_region.curvature import Curvature
from npTRPO.trust_region.fisher import policy_preconditioner
from npTRPO.trust_region.kronecker import MOST_BLOCKS, KroneckerMeans
from npTRPO.trust_region.linearized import weighted_sum
from npTRPO.trust_region.objective import Trial


@dataclass(frozen=True)
class Parts:
    """Parts of a batch, each of which has methods that return means over its own rows.

    Attributes
    ----------
    each : callable
        ``each(method, *arguments)`` calls a method of every part, and returns the results in their order.
    weights : sequence of float
        The parts of the whole that they are, with sum 1.
    """

    each: Callable[..., Sequence[Any]]
    weights: Sequence[float]

    @classmethod
    def of(cls, *parts: Any, weights: Sequence[float] = (1.0,)) -> Self:
        """Return parts that are in this process."""
        return cls(lambda method, *arguments: [getattr(part, method)(*arguments) for part in parts], weights)

    def mean(self, method: str, *arguments: Any) -> Any:
        """Return the mean over the whole batch of what a method returns for a part."""
        return weighted_sum(self.weights, self.each(method, *arguments))


class PartsCurvature(Curvature):
    """H + λI, where H is a mean over a batch in parts.

    Parameters
    ----------
    parts : Parts
        With methods ``product``, ``form`` and ``factors``.
    theta : array, shape (p,)
        Where they are linearised.
    damping : float
        λ ≥ 0.
    """

    def __init__(self, parts: Parts, theta: Array, damping: float) -> None:
        super().__init__(theta.size, theta.dtype, damping)
        self._parts = parts

    def product(self, v: Array) -> Any:
        """Return H v, shape (p,), without the damping."""
        return self._parts.mean("product", v)

    def form(self, v: Array) -> float:
        """Return vᵀHv, without the damping."""
        return float(self._parts.mean("form", v))

    def factors(self) -> KroneckerMeans:
        """Return the Kronecker factors of H, from as many blocks of rows as for a batch in one part."""
        weights = self._parts.weights
        return KroneckerMeans.merged(weights, self._parts.each("factors", -(-MOST_BLOCKS // len(weights))))


class PartsObjective:
    """The objective of an update, for a batch in parts that each have a :class:`PolicyObjective`.

    Parameters
    ----------
    parts : Parts
        Of policy objectives, all at ``theta``.
    models : sequence of tuples
        What :meth:`PolicyObjective.model` of each returned.
    network : Network
        The policy's.
    theta : array, shape (p,)
        Parameters of the old policy.
    damping : float
        λ of (F + λI) x = g.
    preconditioner : {"kronecker", "identity"}
        Solve with :meth:`FisherOperator.preconditioner` or without.

    Attributes
    ----------
    gradient, at_old, entropy
        As in :class:`PolicyObjective`.
    """

    def __init__(
        self,
        parts: Parts,
        models: Sequence[tuple[Array, float, float, float]],
        network: Network,
        theta: Array,
        damping: float,
        preconditioner: Literal["kronecker", "identity"],
    ) -> None:
        self._parts, self._theta, self._damping = parts, theta, damping
        self._layered = network if preconditioner == "kronecker" and isinstance(network, MLP) else None
        self.gradient, at_old, entropy = weighted_sum(parts.weights, [model[:3] for model in models])
        self.at_old, self.entropy = float(at_old), float(entropy)
        chosen = [weight * model[3] for weight, model in zip(parts.weights, models, strict=True)]
        self._of_states = [mass / sum(chosen) for mass in chosen] if any(chosen) else parts.weights

    def __call__(self, theta: Array) -> Trial:
        """Evaluate surrogate and mean KL at ``theta``."""
        return Trial(*map(float, self._parts.mean("trial", theta)))

    def system(self) -> tuple[Curvature, Callable[[Array], Array] | None]:
        """Return F + λI, of every k-th state, and its Kronecker factors, where they are asked for."""
        fisher = PartsCurvature(Parts(self._parts.each, self._of_states), self._theta, self._damping)
        if self._layered is None:
            return fisher, None
        dtype = self._theta.dtype
        return fisher, policy_preconditioner(self._layered, fisher.factors(), dtype, self._damping)
