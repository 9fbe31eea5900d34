"""Finite Markov decision processes, with exact values and visitations of policies by linear algebra."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npTRPO._typing import Array, BoolArray
from npTRPO.autograd import linearize

# Probabilities are accepted when they sum to one up to the rounding of how they were made.
SUM_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The exact values, visitation and objective of a policy in an MDP.

    Attributes
    ----------
    policy : array, shape (S, A)
        π(a|s).
    transition : array, shape (S, S)
        P_π(s'|s) = Σ_a π(a|s) P(s'|s, a).
    values : array, shape (S,)
        V^π, in units of discounted reward.
    action_values : array, shape (S, A)
        Q^π.
    visitation : array, shape (S,)
        ν^π (E5), a distribution over states. E6: a mean over it is 1 − γ times a discounted sum along
        trajectories.
    objective : float
        J(π).
    """

    policy: Array
    transition: Array
    values: Array
    action_values: Array
    visitation: Array
    objective: float

    @property
    def advantages(self) -> Array:
        """A^π = Q^π − V^π, shape (S, A)."""
        advantages: Array = self.action_values - self.values[:, None]
        return advantages


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """A discounted Markov decision process with S states and A actions.

    A tabular policy is an array (S, A) whose rows are distributions over actions. It may be complex,
    so that what follows from it can be differentiated with a complex step.

    Parameters
    ----------
    transition : array, shape (S, A, S)
        P(s'|s, a).
    reward : array, shape (S, A)
        Expected reward r(s, a).
    start : array, shape (S,)
        ρ₀, the distribution of the first state.
    discount : float
        γ, 0 ≤ γ < 1.

    Raises
    ------
    ValueError
        For shapes that don't belong together, rows that aren't distributions, and γ out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.theory import TabularMDP
    >>> stay_or_go = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    >>> mdp = TabularMDP(stay_or_go, np.array([[1.0, 0.0], [3.0, 3.0]]), np.array([1.0, 0.0]), 0.5)
    >>> mdp.evaluate(np.array([[1.0, 0.0], [1.0, 0.0]])).values
    array([2., 6.])
    """

    transition: Array
    reward: Array
    start: Array
    discount: float

    def __post_init__(self) -> None:
        for name in ("transition", "reward", "start"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if not np.all(np.isfinite(array)):
                raise ValueError(f"{name} must be finite")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        shape = self.transition.shape
        if len(shape) != 3 or shape[0] != shape[2] or not all(shape):
            raise ValueError(f"transition must have shape (S, A, S) with S, A ≥ 1, not {shape}")
        for name, expected in (("reward", shape[:2]), ("start", shape[:1])):
            if getattr(self, name).shape != expected:
                raise ValueError(
                    f"{name} must have shape {expected}, as transition has {shape}, "
                    f"not {getattr(self, name).shape}"
                )
        for name in ("transition", "start"):
            _check_distributions(name, getattr(self, name))
        if not 0 <= self.discount < 1:
            raise ValueError(f"discount must be at least 0 and less than 1, not {self.discount!r}")
        object.__setattr__(self, "discount", float(self.discount))

    @property
    def n_states(self) -> int:
        """S."""
        return len(self.start)

    @property
    def n_actions(self) -> int:
        """A."""
        return int(self.reward.shape[1])

    @property
    def absorbing(self) -> BoolArray:
        """States that no action leaves and in which no action is rewarded, shape (S,)."""
        states = np.arange(self.n_states)
        stays = np.all(self.transition[states, :, states] == 1, axis=1)
        absorbing: BoolArray = stays & np.all(self.reward == 0, axis=1)
        return absorbing

    def evaluate(self, policy: Array) -> Evaluation:
        """Evaluate a policy by solving its linear systems.

        E1: V^π = r_π + γ P_π V^π and J(π) = E_{s₀~ρ₀}[V^π(s₀)]. E5: ν^π = (1 − γ)ρ₀ + γ P_πᵀ ν^π. All of
        it is exact up to rounding times the condition of I − γP_π, at most (1 + γ) / (1 − γ).

        Parameters
        ----------
        policy : array, shape (S, A)
            π(a|s).

        Raises
        ------
        ValueError
            If ``policy`` isn't an array of distributions of that shape.
        """
        policy = self.checked_policy(policy)
        return evaluated(policy, self.transition, self.reward, self.start, self.discount)

    def policy_gradient(self, table: Callable[[Any], Any], theta: Array) -> Array:
        """Return the exact gradient of J(π_θ) for a differentiable policy.

        E8: ∇J = 1/(1 − γ) Σ_s ν^π(s) Σ_a ∇π_θ(a|s) Q^π(s, a), which is also the gradient at θ of the
        surrogate L_π. [Sutton et al. 2000, theorem 1; TRPO eq. 4]

        Parameters
        ----------
        table : callable
            From θ to the array (S, A) of π_θ(a|s), in plain NumPy.
        theta : array, shape (p,)
            Where.

        Returns
        -------
        array, shape (p,)
        """
        lin = linearize(table, theta)
        now = self.evaluate(lin.value)
        gradient: Array = lin.vjp(now.visitation[:, None] * now.action_values / (1 - self.discount))
        return gradient

    def checked_policy(self, policy: Array) -> Array:
        """Return ``policy`` as an array, or raise a ValueError unless it is one of distributions (S, A)."""
        policy = np.asarray(policy)
        if policy.shape != self.reward.shape:
            raise ValueError(
                f"a policy must have shape (S, A) = {self.reward.shape}, one distribution over actions "
                f"per state, not {policy.shape}"
            )
        _check_distributions("policy", policy)
        return policy


def evaluated(
    policy: Array,
    transition: Array,
    reward: Array,
    start: Array,
    gamma: Any,
    solve: Callable[[Array, Array], Array] = np.linalg.solve,
) -> Evaluation:
    """Evaluate a policy as :meth:`TabularMDP.evaluate` does, in any numbers that ``solve`` solves systems of.

    E1: V^π = r_π + γ P_π V^π. E5: ν^π = (1 − γ)ρ₀ + γ P_πᵀ ν^π.
    """
    along = (policy[:, None, :] @ transition)[:, 0, :]
    system = np.eye(len(start)) - gamma * along
    values = solve(system, np.sum(policy * reward, axis=1))
    return Evaluation(
        policy=policy,
        transition=along,
        values=values,
        action_values=reward + gamma * (transition @ values),
        visitation=solve(system.T, (1 - gamma) * start),
        objective=np.asarray(start @ values).item(),
    )


def _check_distributions(name: str, rows: Array) -> None:
    """Raise if the last axis isn't a distribution; complex numbers may perturb one."""
    total = np.abs(np.sum(rows, axis=-1) - 1)
    if not np.all(total <= SUM_TOLERANCE) or np.any(rows.real < 0):
        where = tuple(int(i) for i in np.unravel_index(np.argmax(total), total.shape))
        raise ValueError(
            f"{name} must hold probabilities: not negative and with sum 1 over the last axis, but the "
            f"smallest is {np.min(rows.real):.3g} and the sum at {where} is {np.sum(rows[where]):.12g}"
        )
