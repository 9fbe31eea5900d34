"""Identities of the derivation in exact arithmetic, at random points modulo a prime near 2⁶¹.

What is rational in the numbers of an MDP, of a linear system or of a layer is computed in residues, where
"probabilities" only need to have sum 1. Functions of the package that take object arrays are run themselves.

Of E36 these are orthogonality and the end after n steps, of E45 the identity behind the bound, of E55 the
second moment, of E10 and E56 the limits of many episodes, and of E43 the bias.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from npTRPO._typing import Array
from npTRPO.sampling.advantages import gae, td_residuals
from npTRPO.theory.estimators import gae_bias, k_step_estimates
from npTRPO.theory.mdp import Evaluation, evaluated
from npTRPO.theory.practice import expected_visits
from npTRPO.theory.residues import Residue, distributions, drawn, solve

Sides: TypeAlias = tuple[str, Any, Any]
"""The number of an equation, and two things that must be equal."""

Proof: TypeAlias = Callable[[np.random.Generator], Iterator[Sides]]

PROOFS: dict[Proof, tuple[str, ...]] = {}
"""The functions that compute identities, with the numbers of their equations."""

S, A, N = 3, 2, 4
"""States, actions, and unknowns of linear systems."""


def prove(rng: np.random.Generator) -> dict[str, bool]:
    """Compare both sides of every identity at a random point; return whether each equation's are equal."""
    equal: dict[str, bool] = {}
    for proof, numbers in PROOFS.items():
        found = dict.fromkeys(numbers, True)
        try:
            for number, left, right in proof(rng):
                found[number] &= bool(np.all(np.equal(left, right)))
        except Exception:  # whatever a broken function raises proves nothing
            found = dict.fromkeys(numbers, False)
        equal |= found
    return equal


def _proves(*numbers: str) -> Callable[[Proof], Proof]:
    """Register the decorated function for equations whose identity it computes."""

    def register(proof: Proof) -> Proof:
        PROOFS[proof] = numbers
        return proof

    return register


@dataclass(frozen=True, eq=False)
class _Exact:
    """An MDP in residues with two policies; the last state is absorbing, without reward, where asked for."""

    rng: np.random.Generator
    transition: Array
    reward: Array
    start: Array
    gamma: Any

    @classmethod
    def draw(cls, rng: np.random.Generator, absorbing: bool = False) -> _Exact:
        """Draw an MDP."""
        transition, reward, start = distributions(rng, S, A, S), drawn(rng, S, A), distributions(rng, S)
        if absorbing:
            transition[-1], reward[-1] = np.array([Residue(0)] * (S - 1) + [Residue(1)]), Residue(0)
            start[:-1], start[-1] = distributions(rng, S - 1), Residue(0)
        return cls(rng, transition, reward, start, drawn(rng, 1)[0])

    @property
    def absorbing(self) -> Array:
        """States that no action leaves."""
        return np.array([bool(np.all(rows[:, s] == 1)) for s, rows in enumerate(self.transition)])

    def evaluate(self, policy: Array) -> Evaluation:
        """Evaluate a policy by the function of :class:`TabularMDP`."""
        return evaluated(policy, self.transition, self.reward, self.start, self.gamma, solve)

    @cached_property
    def old(self) -> Evaluation:
        """π, evaluated."""
        return self.evaluate(distributions(self.rng, S, A))

    @cached_property
    def new(self) -> Evaluation:
        """π', evaluated."""
        return self.evaluate(distributions(self.rng, S, A))

    @property
    def gains(self) -> Array:
        """f(s) = E_{a~π'}[A^π(s, a)]."""
        gains: Array = np.sum(self.new.policy * self.old.advantages, axis=1)
        return gains

    def along(self, policy: Evaluation, per_pair: Array) -> Any:
        """Return E_{τ~π}[Σ γᵗ f(s_t, a_t)], by the inverse of I − γP_π for the occupation of states."""
        inverse = solve(np.eye(S) - self.gamma * policy.transition, np.eye(S))
        return (self.start @ inverse) @ np.sum(policy.policy * per_pair, axis=1)

    def residuals(self, values: Array, reward: Array) -> Array:
        """Return E[δ | s, a] of TD residuals by the function of training, (S, A)."""
        shape = self.transition.shape
        here, there = np.broadcast_to(values[:, None, None], shape), np.broadcast_to(values, shape)
        never = np.zeros(shape, dtype=bool)
        residuals = td_residuals(np.broadcast_to(reward[:, :, None], shape), here, there, never, self.gamma)
        expected: Array = np.sum(self.transition * residuals, axis=2)
        return expected


@_proves("E1", "E2", "E3", "E4", "E5", "E6")
def _performance(rng: np.random.Generator) -> Iterator[Sides]:
    m = _Exact.draw(rng)
    any_values, gap = drawn(rng, S), m.new.objective - m.old.objective
    yield "E1", m.old.objective, m.along(m.old, m.reward)
    yield "E2", m.start @ any_values, -m.along(m.new, m.residuals(any_values, 0 * m.reward))
    yield "E3", gap, m.along(m.new, m.residuals(m.old.values, m.reward))
    yield "E3", gap, m.along(m.new, m.old.advantages)
    yield "E4", m.residuals(m.old.values, m.reward), m.old.advantages
    nu = m.old.visitation
    yield "E5", np.sum(nu), 1
    yield "E5", nu, (1 - m.gamma) * m.start + m.gamma * (nu @ m.old.transition)
    yield "E6", gap * (1 - m.gamma), m.new.visitation @ m.gains


@_proves("E7", "E9", "E45")
def _surrogate(rng: np.random.Generator) -> Iterator[Sides]:
    m = _Exact.draw(rng)
    old, new = m.old, m.new
    approximation = old.objective + old.visitation @ m.gains / (1 - m.gamma)
    step = drawn(rng, 1)[0]
    mixed = m.evaluate(old.policy + step * (new.policy - old.policy))
    # J along mixtures, less its linear part, is of second order in the step.
    moved = mixed.visitation - old.visitation
    remainder = mixed.objective - old.objective - step * (approximation - old.objective)
    yield "E7", remainder, step * (moved @ m.gains) / (1 - m.gamma)
    ratios = new.policy / old.policy
    weighted = np.sum(old.policy * ratios * old.advantages, axis=1)
    yield "E9", approximation, old.objective + old.visitation @ weighted / (1 - m.gamma)
    change = old.visitation @ (new.transition - old.transition)
    system = np.eye(S) - m.gamma * new.transition
    yield "E45", new.visitation - old.visitation, m.gamma * solve(system.T, change)


@_proves("E10", "E56")
def _episodes(rng: np.random.Generator) -> Iterator[Sides]:
    m = _Exact.draw(rng, absorbing=True)
    visits, counted = (expected_visits(m, m.old, discount, solve) for discount in (m.gamma, Residue(1)))
    gap = m.old.visitation @ m.gains / (1 - m.gamma)
    yield "E10", visits @ m.gains / np.sum(visits), gap / np.sum(visits)
    # By first steps: what is gained, and how long it takes, from every state on.
    going_on = np.eye(S) - m.old.transition * ~m.absorbing
    from_each, lengths = solve(going_on, m.gains), solve(going_on, 1 * ~m.absorbing)
    yield "E56", counted @ m.gains / np.sum(counted), m.start @ from_each / (m.start @ lengths)


@dataclass(frozen=True, eq=False)
class _System:
    """A symmetric system Hx = g in residues, and its conjugate gradients."""

    H: Array
    g: Array

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _System:
        """Draw a system."""
        half = drawn(rng, N, N)
        return cls(half + half.T, drawn(rng, N))

    def path(
        self, polak_ribiere: bool = False, M: Any = None
    ) -> tuple[list[Array], list[Array], list[Array]]:
        """E33 to E35: return the iterates, residuals and directions of N steps from zero."""
        M = np.eye(N) if M is None else M
        x, r = 0 * self.g, self.g
        p = z = M @ r
        points, residuals, directions = [x], [r], [p]
        for _ in range(N):
            alpha = (r @ z) / (p @ self.H @ p)
            x, r_old, z_old = x + alpha * p, r, z
            r = r - alpha * (self.H @ p)
            z = M @ r
            points, residuals = [*points, x], [*residuals, r]
            if len(points) <= N:
                beta = ((r - r_old) @ z if polak_ribiere else r @ z) / (r_old @ z_old)
                p = z + beta * p
                directions.append(p)
        return points, residuals, directions


@_proves("E33", "E34", "E35", "E36", "E54")
def _conjugate_gradients(rng: np.random.Generator) -> Iterator[Sides]:
    system, C = _System.draw(rng), drawn(rng, N, N)
    H, g = system.H, system.g
    x, r, p = system.path()
    solution = solve(H, g)
    yield "E33", x[-1], solution
    for i, j in itertools.combinations(range(N), 2):
        yield "E36", r[i] @ r[j], 0
        yield "E36", p[i] @ H @ p[j], 0
    yield "E34", np.stack(x), np.stack(system.path(polak_ribiere=True)[0])
    inner = _System(C.T @ H @ C, C.T @ g)
    yield "E35", np.stack(system.path(M=C @ C.T)[0]), np.stack(inner.path()[0]) @ C.T
    for point in x[1:]:
        error = point - solution
        share = (g @ point) ** 2 / (point @ H @ point) / (g @ solution)
        yield "E54", share, g @ point / (g @ solution)
        yield "E54", share, 1 - (error @ H @ error) / (solution @ H @ solution)


@_proves("E39", "E40", "E41", "E42")
def _advantages(rng: np.random.Generator) -> Iterator[Sides]:
    gamma, lam = drawn(rng, 2)
    T, rewards, values, after = 6, drawn(rng, 6), drawn(rng, 6), drawn(rng, 6)
    terminated, truncated = np.arange(T) == 3, np.arange(T) == 5
    after[:3], after[4] = values[1:4], values[5]
    ours = gae(rewards, values, after, terminated, truncated, gamma, lam)
    deltas = td_residuals(rewards, values, after, terminated, gamma)
    expected = drawn(rng, T)
    for t in reversed(range(T)):
        ends = terminated[t] or truncated[t]
        value = 0 if terminated[t] else after[t]
        yield "E39", deltas[t], rewards[t] + gamma * value - values[t]
        expected[t] = deltas[t] + (0 if ends else gamma * lam * expected[t + 1])
    yield "E42", ours, expected
    for first, last in ((0, 3), (4, 5)):
        episode = slice(first, last + 1)
        seen = np.append(values[episode], 0 if terminated[last] else after[last])
        estimates, n = k_step_estimates(rewards[episode], seen, gamma), last + 1 - first
        yield "E40", estimates, [sum(gamma**j * deltas[first + j] for j in range(k + 1)) for k in range(n)]
        weights = [(1 - lam) * lam**k for k in range(n - 1)] + [lam ** (n - 1)]
        yield "E41", ours[first], sum(w * estimate for w, estimate in zip(weights, estimates, strict=True))


@_proves("E43", "E44")
def _bias(rng: np.random.Generator) -> Iterator[Sides]:
    m, lam, n = _Exact.draw(rng), drawn(rng, 1)[0], 2
    for wrong in (0 * m.start, drawn(rng, S)):
        values, total = m.old.values + wrong, 0 * m.reward
        for s, a, t, b, u in itertools.product(range(S), range(A), range(S), range(A), range(S)):
            visited, never = values[[s, t, u]], np.zeros(n, dtype=bool)
            rewards = m.reward[[s, t], [a, b]]
            first = gae(rewards, visited[:-1], visited[1:], never, never, m.gamma, lam)[0]
            total[s, a] += m.transition[s, a, t] * m.old.policy[t, b] * m.transition[t, b, u] * first
        number = "E43" if np.any(wrong != 0) else "E44"
        yield number, total - m.old.advantages, gae_bias(m.old, m.transition, wrong, m.gamma, lam, n)


@_proves("E48")
def _sharp_pair(rng: np.random.Generator) -> Iterator[Sides]:
    alpha, gamma = drawn(rng, 2)
    zero, one, c = Residue(0), Residue(1), alpha / (1 - alpha)
    stay, leave = [one, zero], [zero, one]
    transition = np.array([[stay, leave, stay], [leave] * 3])
    m = _Exact(rng, transition, np.array([[c, one, -one], [-c, one, -one]]), np.array(stay), gamma)
    policy = np.array([[1 - alpha, zero, alpha], [1 - alpha, alpha, zero]])
    old, new = m.evaluate(policy), m.evaluate(policy[::-1])
    gains = np.sum(new.policy * old.advantages, axis=1)
    error = old.objective + old.visitation @ gains / (1 - gamma) - new.objective
    share = (1 - gamma) / (1 - gamma * (1 - alpha))
    yield "E48", error, 4 * gamma * alpha**2 / ((1 - gamma) * (1 - gamma * (1 - alpha)))
    yield "E48", error, share * 2 * gamma * gains[0] * alpha / (1 - gamma) ** 2
    yield "E48", gains[1], -gains[0]
    yield "E48", 2 * (new.visitation - old.visitation)[1], share * 2 * gamma / (1 - gamma) * alpha


@_proves("E55")
def _spread(rng: np.random.Generator) -> Iterator[Sides]:
    old, new = distributions(rng, 2, N)
    yield "E55", old @ (new / old) ** 2, 1 + np.sum((new - old) ** 2 / old)


@_proves("E57")
def _renewed_moments(rng: np.random.Generator) -> Iterator[Sides]:
    (mean, scale, new_mean, new_scale, raw), W, b = drawn(rng, 5, N), drawn(rng, N, A), drawn(rng, A)
    carried = (new_scale / scale)[:, None] * W, b + ((new_mean - mean) / scale) @ W
    yield "E57", (raw - mean) / scale @ W + b, (raw - new_mean) / new_scale @ carried[0] + carried[1]
