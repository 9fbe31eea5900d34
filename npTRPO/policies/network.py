"""The protocol of a policy's network, and networks made of functions of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from npTRPO._typing import Array


class Network(Protocol):
    """A function of parameters and encoded observations in plain NumPy, with initial parameters."""

    @property
    def n_parameters(self) -> int:
        """Length of the parameter vector."""
        ...

    def init(self, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64) -> Array:
        """Draw parameters, shape (n_parameters,)."""
        ...

    def __call__(self, theta: Any, x: Any) -> Any:
        """Outputs (N, n_outputs) for parameters and encoded observations (N, n_features)."""
        ...


NetworkFactory = Callable[
    [int, int], tuple[Callable[[Any, Any], Any], Callable[[np.random.Generator], Array]]
]
"""``factory(n_features, n_outputs)`` returns the function (θ, observations) → outputs and its initialiser."""


@dataclass(frozen=True)
class FunctionNetwork:
    """A network made of any two functions.

    The engine differentiates ``forward`` as it is, and so the Fisher-vector product works unchanged.

    Parameters
    ----------
    forward : callable
        ``forward(theta, observations)``, plain NumPy; each row of outputs depends on its own row of
        observations alone.
    initialise : callable
        ``initialise(rng)`` returns the first parameters, a vector.

    Examples
    --------
    >>> import numpy as np
    >>> network = FunctionNetwork(lambda theta, x: x * theta, lambda rng: rng.standard_normal(3))
    >>> network.n_parameters, network(np.ones(3), np.eye(3)).shape
    (3, (3, 3))
    """

    forward: Callable[[Any, Any], Any]
    initialise: Callable[[np.random.Generator], Array]

    @classmethod
    def made_by(cls, factory: NetworkFactory, n_features: int, n_outputs: int) -> FunctionNetwork:
        """Return the network that a factory makes, tried on a few observations.

        Raises
        ------
        ValueError
            If it doesn't return rows of ``n_outputs`` numbers, one for each observation.
        """
        network = cls(*factory(n_features, n_outputs))
        rng = np.random.default_rng(0)
        theta, rows = network.init(rng), rng.standard_normal((n_outputs + 1, n_features))
        shape = getattr(network(theta, rows), "shape", None)
        if shape != (n_outputs + 1, n_outputs):
            raise ValueError(
                f"a network of one's own must return an array of shape (N, {n_outputs}) for observations of "
                f"shape (N, {n_features}), but for N = {n_outputs + 1} it returned "
                f"{'no array' if shape is None else shape}"
            )
        return network

    @cached_property
    def n_parameters(self) -> int:
        """Length of the parameter vector."""
        return self.init(np.random.default_rng(0)).size

    def init(self, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64) -> Array:
        """Draw parameters.

        Raises
        ------
        ValueError
            If the initialiser doesn't return a vector of finite numbers.
        """
        theta = np.asarray(self.initialise(rng))
        if theta.ndim != 1 or not np.issubdtype(theta.dtype, np.floating) or not np.all(np.isfinite(theta)):
            raise ValueError(
                f"a network's initialiser must return a vector of finite floats, "
                f"not shape {theta.shape} of {theta.dtype}"
            )
        return theta.astype(dtype)

    def __call__(self, theta: Any, x: Any) -> Any:
        """Outputs of ``forward``."""
        return self.forward(theta, x)
