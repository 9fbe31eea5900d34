"""A multilayer perceptron whose parameters are one flat vector.

Order of the vector: W₁ (inputs × outputs, C order), b₁, W₂, b₂, …
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npTRPO._typing import Array

__all__ = ["ACTIVATIONS", "MLP"]

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    # The logistic function in terms of tanh, which can't overflow.
    "sigmoid": lambda z: 0.5 * np.tanh(0.5 * z) + 0.5,
    "silu": lambda z: z * (0.5 * np.tanh(0.5 * z) + 0.5),
}


@dataclass(frozen=True)
class MLP:
    """Alternating affine maps and activations; the last affine map has none after it.

    Parameters
    ----------
    sizes : tuple of int
        Inputs, hidden layers, outputs; ``(d, k)`` is a linear map.
    activation_fn : {"tanh", "relu", "sigmoid", "silu"}
        Activation after each hidden layer.
    output_gain : float
        Initial scale of the last layer; 0.01 makes a policy that starts out indifferent.
    orthogonal : bool
        Initial weights are orthogonal with gain √2 (the last layer: ``output_gain``); otherwise uniform
        in ±1/√fan_in (the last layer: times ``output_gain``). Biases start at zero.

    References
    ----------
    Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear networks".

    Examples
    --------
    >>> import numpy as np
    >>> network = MLP((4, 64, 64, 2))
    >>> theta = network.init(np.random.default_rng(0))
    >>> theta.shape, network(theta, np.zeros((5, 4))).shape
    ((4610,), (5, 2))
    """

    sizes: tuple[int, ...]
    activation_fn: str = "tanh"
    output_gain: float = 1.0
    orthogonal: bool = True

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or any(not isinstance(n, (int, np.integer)) or n < 1 for n in self.sizes):
            raise ValueError(
                f"a network needs whole sizes of at least 1 for inputs and outputs, not {self.sizes}"
            )
        if self.activation_fn not in ACTIVATIONS:
            raise ValueError(
                f"activation_fn must be one of {sorted(ACTIVATIONS)}, not {self.activation_fn!r}"
            )

    @property
    def n_parameters(self) -> int:
        """Length of the parameter vector."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in self._layers)

    @property
    def _layers(self) -> list[tuple[int, int]]:
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    def init(self, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64) -> Array:
        """Draw parameters, shape (n_parameters,).

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        dtype : dtype
            float32 or float64; the numbers drawn are the same.
        """
        parts = []
        for i, (fan_in, fan_out) in enumerate(self._layers):
            last = i == len(self.sizes) - 2
            if self.orthogonal:
                weights = _orthogonal(rng, fan_in, fan_out) * (self.output_gain if last else np.sqrt(2))
            else:
                weights = rng.uniform(-1, 1, (fan_in, fan_out)) / np.sqrt(fan_in)
                weights *= self.output_gain if last else 1
            parts += [weights.ravel(), np.zeros(fan_out)]
        return np.concatenate(parts).astype(dtype)

    def __call__(self, theta: Any, x: Any) -> Any:
        """Outputs, shape (..., sizes[-1]), for parameters (n_parameters,) and inputs (..., sizes[0])."""
        activation = ACTIVATIONS[self.activation_fn]
        start = 0
        for i, (fan_in, fan_out) in enumerate(self._layers):
            middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            x = x @ theta[start:middle].reshape(fan_in, fan_out) + theta[middle:end]
            if i < len(self.sizes) - 2:
                x = activation(x)
            start = end
        return x


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Matrix with orthonormal columns (or rows, whichever are fewer), uniformly distributed."""
    gaussian = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(gaussian)
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # makes the factorisation unique, and so q uniform
    return q if rows >= columns else q.T
