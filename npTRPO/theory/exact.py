"""TRPO without samples on a finite MDP: the algorithm with a guarantee, and the practical one.

Both climb the surrogate E7. The first pays for every change of the policy what the bound E12 asks, and so
never gets worse; the second trusts a region of fixed size, and gets to the optimum in reasonable time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from gymnasium import spaces

from npTRPO._typing import Array
from npTRPO.policies.policy import Policy
from npTRPO.theory.mdp import Evaluation, TabularMDP
from npTRPO.trust_region.update import Update, update


def tabular_policy(mdp: TabularMDP, net_arch: tuple[int, ...] = ()) -> Policy:
    """Make a softmax policy on the states of an MDP, encoded one-hot.

    Without hidden layers the logits of state s are row s of the weights plus the biases, so that every
    policy with full support is among them.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.theory import random_mdp, tabular_policy
    >>> policy = tabular_policy(random_mdp(np.random.default_rng(0), 3, 2))
    >>> policy(np.zeros(policy.n_parameters), policy.encode(np.arange(3))).probs
    array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    """
    return Policy.for_spaces(spaces.Discrete(mdp.n_states), spaces.Discrete(mdp.n_actions), net_arch=net_arch)


def table(policy: Policy, theta: Any) -> Any:
    """Return π_θ(a|s) of a policy on one-hot states as an array (S, A), differentiable in θ."""
    distribution: Any = policy(theta, np.eye(policy.n_features))
    return distribution.probs


LOG_KL = (-180.0, 6.0)
"""Range of log KL in which a penalised step is searched: below, it doesn't move in double precision; above,
it moves to a deterministic policy."""

LARGE = 400.0
"""Largest |log u| of the search for the height u."""


@dataclass(frozen=True, eq=False)
class ExactBatch:
    """All pairs of a state and an action as a batch, weighted by their probabilities ν^π(s) π(a|s).

    What training computes from it are no estimates, but the expectations themselves.

    Attributes
    ----------
    observations : array, shape (S·A, S)
        Encoded states.
    actions : int array, shape (S·A,)
    advantages : array, shape (S·A,)
        A^π(s, a).
    weights : array, shape (S·A,)
        ν^π(s) π(a|s).
    """

    observations: Array
    actions: Array
    advantages: Array
    weights: Array

    @classmethod
    def of(cls, policy: Policy, now: Evaluation) -> ExactBatch:
        """Make the batch of a policy that has been evaluated."""
        n_states, n_actions = now.action_values.shape
        return cls(
            observations=np.repeat(policy.encode(np.arange(n_states)), n_actions, axis=0),
            actions=np.tile(np.arange(n_actions), n_states),
            advantages=now.advantages.ravel(),
            weights=(now.visitation[:, None] * now.policy).ravel(),
        )


def local_approximation(old: Evaluation, new: Array, discount: float) -> float:
    """E7: return L_π(π') = J(π) + 1/(1 − γ) Σ_s ν^π(s) Σ_a π'(a|s) A^π(s, a) for a table (S, A) of π'."""
    gain = float(old.visitation @ np.sum(new * old.advantages, axis=1))
    return old.objective + gain / (1 - discount)


def penalty(old: Evaluation, discount: float) -> float:
    """E12: return C = 4εγ / (1 − γ)² with ε = max |A^π(s, a)|, in units of the objective per nat."""
    return 4 * float(np.max(np.abs(old.advantages))) * discount / (1 - discount) ** 2


def guaranteed(old: Evaluation, new: Array, discount: float, divergence: float) -> float:
    """E12: return L_π(π') − C · max_s KL(π ‖ π'), below which J(π') can't be, for a table (S, A) of π'.

    E51: it is J(π) at π, so that whoever raises it above that doesn't lower J. ``divergence`` is the largest
    KL of any state, in nats; half of it serves too (E50).
    """
    return local_approximation(old, new, discount) - penalty(old, discount) * divergence


@dataclass(frozen=True, eq=False)
class PenalisedStep:
    """The policy that maximises the lower bound of E12.

    Attributes
    ----------
    policy : array, shape (S, A)
    bound : float
        L_π(π') − C · max_s KL(π(·|s) ‖ π'(·|s)), below which J(π') can't be; for a jump to a
        deterministic policy the bound of E11, L_π(π') − C.
    max_kl : float
        The largest KL divergence of any state, in nats; infinite for such a jump.
    """

    policy: Array
    bound: float
    max_kl: float


def penalised_step(mdp: TabularMDP, policy: Array) -> PenalisedStep:
    """Maximise L_π(π') − C · max_s KL(π(·|s) ‖ π'(·|s)) over all tabular policies π' (E12, E51).

    If no state's KL may exceed κ, states can be treated one by one: the best q for the state's advantages
    a has q_i ∝ p_i / (η − a_i), with η such that KL(p ‖ q) = κ, and its expected advantage rises with κ
    at the rate 1 / Σ_i p_i / (η − a_i). The sum of these rates over states, weighted by ν^π / (1 − γ),
    falls from infinity to 0 with κ; the best κ is where it is C.

    Parameters
    ----------
    mdp : TabularMDP
    policy : array, shape (S, A)
        π, positive everywhere.

    References
    ----------
    Schulman et al. 2015, "Trust region policy optimization", Algorithm 1.
    """
    old = mdp.evaluate(policy)
    cost = penalty(old, mdp.discount)
    advantages = old.advantages
    best = np.max(advantages, axis=1, keepdims=True)
    spread = best - np.min(advantages, axis=1, keepdims=True)
    # Rounding of the values can't be told from an advantage.
    rounding = 1e-14 * float(np.max(np.abs(old.action_values))) / (1 - mdp.discount)
    moving = (best[:, 0] > rounding) & (old.visitation > 0)
    if not np.any(moving):
        return PenalisedStep(old.policy, old.objective, 0.0)
    if cost > 0 and np.any(policy <= 0):
        raise ValueError("the KL penalty needs a policy that gives every action a positive probability")
    p, below = policy[moving], (best - advantages)[moving] / spread[moving]
    gain = spread[moving, 0] * old.visitation[moving] / (1 - mdp.discount)

    def excess(log_kl: float) -> float:
        """Return the log of the rate of gain at a KL of exp(log_kl) per state, over its price; falling."""
        _, rates = _tilted(p, below, _height(p, below, math.exp(log_kl)))
        rate = max(float(gain @ rates), np.finfo(float).tiny)  # what underflows is as good as nothing
        return math.log(rate) - math.log(cost)

    new = np.array(policy)
    if cost == 0 or excess(LOG_KL[1]) > 0:
        new[moving] = np.eye(mdp.n_actions)[np.argmax(advantages[moving], axis=1)]
        # The bound of E11, as this is far away in KL and no further than 1 in total variation.
        return PenalisedStep(new, guaranteed(old, new, mdp.discount, 1.0), math.inf)
    if excess(LOG_KL[0]) < 0:
        return PenalisedStep(old.policy, old.objective, 0.0)
    log_kl = scipy.optimize.brentq(excess, *LOG_KL, xtol=1e-9)
    new[moving], _ = _tilted(p, below, _height(p, below, math.exp(log_kl)))
    max_kl = float(np.max(np.sum(policy * np.log(policy / new), axis=1)))
    return PenalisedStep(new, guaranteed(old, new, mdp.discount, max_kl), max_kl)


def _tilted(p: Array, below: Array, height: Array) -> tuple[Array, Array]:
    """Return rows q_i ∝ p_i / (u + x_i) and 1 / Σ_i p_i / (u + x_i), for heights u above the best action."""
    q = p / (height[:, None] + below)
    total = np.sum(q, axis=1)
    return q / total[:, None], 1 / total


def _height(p: Array, below: Array, kl: float) -> Array:
    """Return the height u of every row at which KL(p ‖ q) is ``kl``, by bisection in log u."""
    low, high = np.full(len(p), -LARGE), np.full(len(p), LARGE)
    for _ in range(60):
        middle = (low + high) / 2
        t = below * np.exp(-middle)[:, None]
        # Σ p log(p / q), with the cancellation for large u already done.
        above = np.sum(p * np.log1p(t), axis=1) + np.log1p(-np.sum(p * t / (1 + t), axis=1)) > kl
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    height: Array = np.exp((low + high) / 2)
    return height


def practical_step(mdp: TabularMDP, policy: Policy, theta: Array, **options: Any) -> Update:
    """Take one update of training (E30, E38) with exact advantages, surrogate, KL and Fisher information.

    Parameters
    ----------
    mdp : TabularMDP
    policy : Policy
        On the states of the MDP, such as :func:`tabular_policy` makes.
    theta : array, shape (p,)
        Its parameters.
    **options
        Of :func:`npTRPO.trust_region.update`, such as ``target_kl``.
    """
    batch = ExactBatch.of(policy, mdp.evaluate(table(policy, theta)))
    return update(
        policy, theta, batch.observations, batch.actions, batch.advantages, weights=batch.weights, **options
    )


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The objective over several steps from one policy.

    Attributes
    ----------
    objectives : array, shape (n + 1,)
        J before the first step and after each.
    policy : array, shape (S, A)
        The last policy.
    """

    objectives: Array
    policy: Array


def penalised_run(mdp: TabularMDP, policy: Array, n_steps: int) -> LearningCurve:
    """Take steps of TRPO's Algorithm 1, with which J never falls (E12).

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.theory import penalised_run, random_mdp
    >>> mdp = random_mdp(np.random.default_rng(0), 3, 2, discount=0.5)
    >>> run = penalised_run(mdp, np.full((3, 2), 0.5), n_steps=5)
    >>> bool(np.all(np.diff(run.objectives) >= 0))
    True
    """
    objectives = [mdp.evaluate(policy).objective]
    for _ in range(n_steps):
        policy = penalised_step(mdp, policy).policy
        objectives.append(mdp.evaluate(policy).objective)
    return LearningCurve(np.array(objectives), policy)


def practical_run(
    mdp: TabularMDP, policy: Policy, theta: Array, n_steps: int, **options: Any
) -> LearningCurve:
    """Take steps of the practical algorithm on exact quantities, until an update leaves θ as it is.

    The parameters are those of :func:`practical_step`, and the largest number of steps.
    """
    objectives = [mdp.evaluate(table(policy, theta)).objective]
    for _ in range(n_steps):
        moved = practical_step(mdp, policy, theta, **options).theta
        if moved is theta:
            break
        theta = moved
        objectives.append(mdp.evaluate(table(policy, theta)).objective)
    return LearningCurve(np.array(objectives), table(policy, theta))
