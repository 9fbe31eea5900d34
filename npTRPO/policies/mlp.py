"""A multilayer perceptron whose parameters are one flat vector.

Order of the vector: W₁ (inputs × outputs, C order), b₁, W₂, b₂, …
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from npTRPO._typing import Array
from npTRPO.autograd import LinearMap, define_rule, primitive
from npTRPO.autograd.rules import scattered


def relu(z: Any) -> Any:
    """Rectified linear unit, max(z, 0)."""
    return np.where(z <= 0, 0, z)  # with derivative 0 at 0, where that of np.maximum is 1/2


def sigmoid(z: Any) -> Any:
    """Logistic function 1 / (1 + exp(−z)), in terms of tanh, which can't overflow."""
    return 0.5 * np.tanh(0.5 * z) + 0.5


def silu(z: Any) -> Any:
    """Sigmoid linear unit, z / (1 + exp(−z))."""
    return z * sigmoid(z)


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "relu": relu,
    "sigmoid": sigmoid,
    "silu": silu,
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
        return int(self.layers[-1].stop)

    @cached_property
    def layers(self) -> tuple[slice, ...]:
        """The part of the parameter vector that each layer's W and b are."""
        ends = itertools.accumulate((fan_in + 1) * fan_out for fan_in, fan_out in self._fans)
        return tuple(itertools.starmap(slice, itertools.pairwise((0, *ends))))

    @property
    def _fans(self) -> list[tuple[int, int]]:
        return list(itertools.pairwise(self.sizes))

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
        for i, (fan_in, fan_out) in enumerate(self._fans):
            last = i == len(self.sizes) - 2
            if self.orthogonal:
                weights = _orthogonal(rng, fan_in, fan_out) * (self.output_gain if last else np.sqrt(2))
            else:
                weights = rng.uniform(-1, 1, (fan_in, fan_out)) / np.sqrt(fan_in)
                weights *= self.output_gain if last else 1
            parts += [weights.ravel(), np.zeros(fan_out)]
        return np.concatenate(parts).astype(dtype)

    def __call__(self, theta: Any, x: Any) -> Any:
        """Compute outputs (..., sizes[-1]) for parameters (n_parameters,) and inputs (..., sizes[0])."""
        return self._through(lambda x, layer: affine(x, theta, layer), self.layers, x)

    def absorb(self, theta: Array, factor: Array, shift: Array) -> Array:
        """E57: Return the parameters that give for x what ``theta`` gives for ``factor * x + shift``.

        W₁ becomes diag(factor) W₁, and b₁ becomes b₁ + W₁ᵀ shift; the other layers stay. It is computed in
        float64.

        Parameters
        ----------
        theta : array, shape (n_parameters,)
        factor, shift : array, shape (inputs,)
            Of a change of the inputs' scale and origin.
        """
        weights, first = theta.copy(), self.layers[0]
        matrix = _with_bias(theta.astype(np.float64), first, self.sizes[0])
        changed = np.concatenate([factor[:, None] * matrix[:-1], matrix[-1:] + shift @ matrix[:-1]])
        weights[first] = changed.ravel()
        return weights

    def by_layer(self, theta: Array) -> dict[str, Array]:
        """Return views of each layer's W, (inputs, outputs), and b: "0.weight", "0.bias", "1.weight", …."""
        views: dict[str, Array] = {}
        for i, (layer, m) in enumerate(zip(self.layers, self.sizes, strict=False)):
            matrix = _with_bias(theta, layer, m)
            views |= {f"{i}.weight": matrix[:-1], f"{i}.bias": matrix[-1]}
        return views

    def at(self, theta: Array) -> Callable[[Array], Array]:
        """Return the network at θ, as a function of inputs alone.

        To act on a few rows at a time: taking θ apart at each call would cost as much as the products.
        """
        matrices = [_with_bias(theta, layer, m) for layer, m in zip(self.layers, self.sizes, strict=False)]
        return partial(self._through, _product, matrices)

    def _through(self, product: Callable[[Any, Any], Any], layers: Sequence[Any], x: Any) -> Any:
        activation = ACTIVATIONS[self.activation_fn]
        *hidden, last = layers
        for layer in hidden:
            x = activation(product(x, layer))
        return product(x, last)


@primitive
def affine(x: Any, theta: Any, layer: slice) -> Any:
    """Compute X W + b for inputs (..., m), with W, m × n in C order, and then b in ``theta[layer]``.

    One step on the tape. As that part is the matrix W with b as one more row, its derivatives are products
    with the inputs that have a 1 as one more column: no further pass over memory for b.
    """
    return _product(x, _with_bias(theta, layer, x.shape[-1]))


def _product(x: Any, matrix: Any) -> Any:
    y = x @ matrix[:-1]
    y += matrix[-1]
    return y


def _with_bias(theta: Any, layer: slice, m: int) -> Any:
    return theta[layer].reshape(m + 1, -1)


class LayerMap(LinearMap):
    """The map from θ to a layer's outputs, the product of ``rows`` (inputs, and a 1) with its part of θ."""

    rows: Any


def _affine_in_x(answer: Any, x: Any, theta: Any, layer: slice) -> LinearMap:
    matrix = _with_bias(theta, layer, x.shape[-1])[:-1]
    if matrix.shape[1] == 1:  # for which NumPy's matmul takes many times as long
        return LinearMap(lambda t: t @ matrix, lambda g: g * matrix.T[0])
    return LinearMap(lambda t: t @ matrix, lambda g: g @ matrix.T)


def _affine_in_theta(answer: Any, x: Any, theta: Any, layer: slice) -> LinearMap:
    m, shape, whole = x.shape[-1], answer.shape, theta.shape
    rows = x.reshape(-1, m)
    rows = np.concatenate([rows, np.ones((len(rows), 1), x.dtype)], axis=1)

    def vjp(g: Any) -> Any:
        return scattered((rows.T @ g.reshape(-1, shape[-1])).reshape(-1), layer, whole)

    linear = LayerMap(lambda t: (rows @ _with_bias(t, layer, m)).reshape(shape), vjp)
    linear.rows = rows
    return linear


define_rule(affine, _affine_in_x, _affine_in_theta)


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Draw a matrix with orthonormal columns (or rows, whichever are fewer), uniformly distributed."""
    gaussian = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(gaussian)
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # makes the factorisation unique, and so q uniform
    return q if rows >= columns else q.T
