"""E33 to E37 and E54: conjugate gradients for Hx = g."""

from functools import lru_cache
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.checks import COUNTED, KRYLOV, AtMost, Comparison, Equal, Kind, measures
from npTRPO.theory.instances import Instance
from npTRPO.trust_region.conjugate_gradient import CGResult, conjugate_gradient
from npTRPO.trust_region.update import natural_step, predicted_improvement

STEPS = 5
"""Steps of conjugate gradients that are compared; rounding has not yet bent their directions."""

CONVERGED = 1e-2
"""Steps end below this fraction of the first residual, as rounding in what is orthogonal to it grows with
the square of the fraction's inverse."""


def iterates(A: Any, b: Array, steps: int = STEPS, **options: Any) -> Array:
    """Return the points x₀, x₁, … that conjugate gradients visit, shape (up to steps + 1, n)."""
    visited = [np.zeros_like(b)]
    conjugate_gradient(A, b, rtol=CONVERGED, maxiter=steps, callback=visited.append, **options)
    return np.array(visited)


@lru_cache(maxsize=1)
def _visited(instance: Instance) -> Array:
    """Return the points from zero for Hx = g, which several equations look at."""
    return iterates(instance.dense, instance.gradient)


def best_in_krylov_space(H: Array, g: Array, steps: int) -> Array:
    """E33: return the x in span{g, Hg, …, Hᵏ⁻¹g} nearest to H⁻¹g in the H-norm, for k = 0 … steps.

    They are found with an orthonormal basis Q of the span and a direct solve, x = Q (QᵀHQ)⁻¹ Qᵀg, and have
    the shape (steps + 1, n); there are fewer if the span stops growing, as it then holds the solution.
    """
    basis, points = np.zeros((len(g), 0)), [np.zeros_like(g)]
    direction = g
    for _ in range(steps):
        for _ in range(2):  # once is not orthogonal enough
            direction = direction - basis @ (basis.T @ direction)
        if np.linalg.norm(direction) <= 1e-8 * np.linalg.norm(g):
            break
        basis = np.column_stack([basis, direction / np.linalg.norm(direction)])
        points.append(basis @ np.linalg.solve(basis.T @ H @ basis, basis.T @ g))
        direction = H @ basis[:, -1] * np.linalg.norm(g)
    return np.array(points)


@measures("E33", Kind.IDENTITY, KRYLOV, conjugate_gradient, needs_gradient=True)
def krylov_minimiser(instance: Instance) -> tuple[Comparison, ...]:
    """E33: compare iterates with the best points of their Krylov subspaces, from zero and from elsewhere."""
    H, g = instance.dense, instance.gradient
    start = np.linalg.norm(g) * instance.rng(33).standard_normal(len(g))
    shifted = np.array(iterates(H, g, x0=start)[1:]) - start
    comparisons = []
    for ours, b in ((_visited(instance)[1:], g), (shifted, g - H @ start)):
        best = best_in_krylov_space(H, b, len(ours))[1:]
        count = min(len(ours), len(best))
        comparisons.append(Equal(ours[:count], best[:count]))
    return tuple(comparisons)


@measures("E34", Kind.IDENTITY, KRYLOV, conjugate_gradient)
def formulas_for_beta(instance: Instance) -> tuple[Comparison, ...]:
    """E34: compare the iterates with Polak–Ribière with those with Fletcher–Reeves."""
    ours = [
        iterates(instance.damped, instance.gradient, beta=b) for b in ("fletcher-reeves", "polak-ribiere")
    ]
    return (Equal(*_common(*ours)),)


@measures("E35", Kind.IDENTITY, KRYLOV, conjugate_gradient)
def preconditioning(instance: Instance) -> tuple[Comparison, ...]:
    """E35: compare M = CCᵀ with plain conjugate gradients on CᵀHC y = Cᵀg, mapped back by x = Cy."""
    H, g = instance.dense, instance.gradient
    factor = np.eye(len(g)) + 0.3 / np.sqrt(len(g)) * instance.rng(35).standard_normal(H.shape)
    ours = iterates(H, g, M=factor @ factor.T)
    return (Equal(*_common(ours, iterates(factor.T @ H @ factor, factor.T @ g) @ factor.T)),)


def _common(ours: Array, theirs: Array) -> tuple[Array, Array]:
    """Return as many iterates of both as there are of the shorter run."""
    count = min(len(ours), len(theirs))
    return ours[:count], theirs[:count]


@measures("E36", Kind.IDENTITY, KRYLOV, conjugate_gradient, needs_gradient=True)
def promises(instance: Instance) -> tuple[Comparison, ...]:
    """E36: check orthogonality, conjugacy, descent, rate, the end, and rescaled and rotated systems."""
    H, g = instance.dense, instance.gradient
    x = _visited(instance)
    norms, rate, _ = errors_and_bounds(H, g, x)
    rotation, _ = np.linalg.qr(instance.rng(36).standard_normal(H.shape))
    rotated = _common(iterates(rotation @ H @ rotation.T, rotation @ g), x @ rotation.T)
    return (
        *_orthogonality(H, g, x),
        AtMost(norms[1:], norms[:-1]),
        AtMost(norms, rate * norms[0]),
        *_end(instance),
        Equal(iterates(H, -8 * g), -8 * x),
        Equal(*rotated),
    )


def _orthogonality(H: Array, g: Array, x: Array) -> tuple[Comparison, ...]:
    """Check that residuals are orthogonal and directions conjugate, all normalised."""
    residuals, directions = g - x[:-1] @ H, np.diff(x, axis=0)
    products = residuals @ residuals.T, directions @ H @ directions.T
    scaled = [p / np.sqrt(np.outer(np.diag(p), np.diag(p))) for p in products]
    return tuple(Equal(p, np.eye(len(p)), scale=1.0) for p in scaled)


def errors_and_bounds(H: Array, g: Array, x: Array) -> tuple[Array, Array, float]:
    """E36: return ‖e_k‖_H of points x_k, Chebyshev's bound of ‖e_k‖_H / ‖e_0‖_H, and the condition of H."""
    error = x - np.linalg.solve(H, g)
    norms = np.sqrt(np.sum(error * (error @ H), axis=1))
    eigenvalues = np.linalg.eigvalsh(H)
    condition = float(eigenvalues[-1] / eigenvalues[0])
    root = np.sqrt(condition)
    return norms, 2 * ((root - 1) / (root + 1)) ** np.arange(len(x)), condition


def _end(instance: Instance) -> tuple[Comparison, ...]:
    """Check that there are as many steps as distinct eigenvalues: three here, on the eigenvectors of H."""
    _, vectors = np.linalg.eigh(instance.dense)
    values = np.array([1.0, 2.0, 5.0])[np.arange(len(vectors)) % 3]
    A = (vectors * values) @ vectors.T
    found = conjugate_gradient(A, instance.gradient, rtol=1e-10)
    expected = vectors @ (vectors.T @ instance.gradient / values)
    return Equal(found.x, expected), AtMost(found.iterations, 3)


@measures("E37", Kind.IDENTITY, COUNTED, conjugate_gradient)
def stopping(instance: Instance) -> tuple[Comparison, ...]:
    """E37: compare the number of steps with the first residual of a longer run within the tolerance.

    Relative tolerances count the same after rescaling, absolute ones take over where they are larger;
    each lies halfway between two residuals, so that rounding decides nothing.
    """
    H, g = instance.dense, instance.gradient
    size = float(np.linalg.norm(g))
    if not size:
        return ()
    norms = np.linalg.norm(g - _visited(instance) @ H, axis=1)
    rng = instance.rng(37)
    k = int(rng.integers(len(norms) - 1))
    tolerance = float(norms[k] * np.sqrt(max(norms[k + 1] / norms[k], 1e-6)))
    first = int(np.argmax(norms <= tolerance))
    scale = float(2.0 ** rng.integers(-20, 21))

    def steps(b: Array, rtol: float, atol: float) -> int:
        result: CGResult = conjugate_gradient(H, b, rtol=rtol, atol=atol)
        return result.iterations

    return (
        Equal(steps(g, tolerance / size, 0.0), first),
        Equal(steps(scale * g, tolerance / size, 0.0), first),
        Equal(steps(g, 0.0, tolerance), first),
        Equal(steps(g, 0.99 * tolerance / size, tolerance), first),
        Equal(steps(g, tolerance / size, 0.99 * tolerance), first),
    )


def predicted_gains(H: Array, g: Array, x: Array) -> Array:
    """E54: return gᵀΔ (E31) of steps Δ along points x (n, p), each on the boundary ½ΔᵀHΔ = 1 (E30)."""
    curvatures = np.sum(x * (x @ H), axis=1)
    steps = [natural_step(point, float(c), 1.0) for point, c in zip(x, curvatures, strict=True)]
    return np.array([predicted_improvement(g, step) for step in steps])


@measures("E54", Kind.IDENTITY, KRYLOV, predicted_gains, needs_gradient=True)
def truncated_gain(instance: Instance) -> tuple[Comparison, ...]:
    """E54: compare squared gains of truncated steps with gᵀx_k and with errors; check rate and optimality.

    Δ_k is compared with steps in 16 random directions of its Krylov space, half of them near to its own.
    """
    H, g = instance.dense, instance.gradient
    x, solution = _visited(instance), np.linalg.solve(H, g)
    gains = predicted_gains(H, g, x[1:])
    shares = (gains / predicted_gains(H, g, solution[None])) ** 2
    norms, rate, _ = errors_and_bounds(H, g, x)
    others = instance.rng(54).standard_normal((16, len(x) - 1)) @ np.diff(x, axis=0)
    others[::2] = x[-1] + 1e-2 * np.linalg.norm(x[-1]) * others[::2] / np.linalg.norm(others[::2])
    return (
        Equal(shares, x[1:] @ g / (solution @ g)),
        Equal(shares, 1 - (norms[1:] / norms[0]) ** 2),
        AtMost(1 - shares, rate[1:] ** 2, scale=1.0),
        AtMost(predicted_gains(H, g, others), gains[-1]),
    )
