"""Sample trajectories and transitions of a finite MDP, or enumerate its short paths."""

from dataclasses import dataclass

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.mdp import TabularMDP


@dataclass(frozen=True, eq=False)
class Trajectories:
    """n trajectories of T steps; time is the first axis, as everywhere in the package.

    Attributes
    ----------
    states : int array, shape (T + 1, n)
        s_0 … s_T.
    actions : int array, shape (T, n)
    rewards : array, shape (T, n)
        r(s_t, a_t).
    """

    states: Array
    actions: Array
    rewards: Array


@dataclass(frozen=True, eq=False)
class Paths(Trajectories):
    """All trajectories of T steps that can happen, with their probabilities.

    Attributes
    ----------
    probabilities : array, shape (n,)
        Of each one, given its first state and action.
    """

    probabilities: Array


@dataclass(frozen=True, eq=False)
class Transitions:
    """Independent transitions, each array (n,)."""

    states: Array
    actions: Array
    next_states: Array


def draw(rows: Array, rng: np.random.Generator) -> Array:
    """Draw an index per row of probabilities (n, k), by inverting the cumulative distribution; int, (n,)."""
    return _inverted(np.cumsum(rows, axis=-1), rng)


def _inverted(cumulative: Array, rng: np.random.Generator) -> Array:
    threshold = rng.random((len(cumulative), 1)) * cumulative[:, -1:]
    indices: Array = (cumulative[:, :-1] <= threshold).sum(axis=-1)
    return indices


def simulate(mdp: TabularMDP, policy: Array, n_steps: int, n: int, rng: np.random.Generator) -> Trajectories:
    """Simulate ``n`` trajectories of ``n_steps`` steps each from start states drawn from ρ₀.

    Parameters
    ----------
    mdp : TabularMDP
    policy : array, shape (S, A)
    n_steps, n : int
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        For a policy that isn't an array of distributions (S, A), no steps, or no trajectories.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.theory import random_mdp, simulate
    >>> mdp, rng = random_mdp(np.random.default_rng(0), n_states=4, n_actions=2), np.random.default_rng(1)
    >>> simulate(mdp, np.full((4, 2), 0.5), n_steps=10, n=3, rng=rng).rewards.shape
    (10, 3)
    """
    policy = mdp.checked_policy(policy)
    if n_steps < 1 or n < 1:
        raise ValueError(f"there must be at least one step and one trajectory, not {n_steps} and {n}")
    states = np.empty((n_steps + 1, n), dtype=np.int64)
    actions = np.empty((n_steps, n), dtype=np.int64)
    states[0] = draw(np.broadcast_to(mdp.start, (n, mdp.n_states)), rng)
    choices, arrivals = np.cumsum(policy, axis=-1), np.cumsum(mdp.transition, axis=-1)
    for t in range(n_steps):
        actions[t] = _inverted(choices[states[t]], rng)
        states[t + 1] = _inverted(arrivals[states[t], actions[t]], rng)
    return Trajectories(states, actions, mdp.reward[states[:-1], actions])


def sample_visitation(mdp: TabularMDP, policy: Array, n: int, rng: np.random.Generator) -> Transitions:
    """Draw transitions whose states are distributed as ν^π (E5), by simulation.

    A trajectory is followed to a time T with P(T = t) = (1 − γ)γᵗ, and its transition at T taken. So
    E[f(s_T, a_T, s_{T+1})] = (1 − γ) E_τ[Σ_t γᵗ f(s_t, a_t, s_{t+1})] without a cut-off, and a sample is
    as bounded as f is, which a sum over a trajectory would not be. What happens on the way isn't looked at,
    so that states are drawn after 1, 2, 4, … steps, as T is a sum of these.
    """
    left = rng.geometric(1 - mdp.discount, n) - 1
    states = draw(np.broadcast_to(mdp.start, (n, mdp.n_states)), rng)
    pairs = policy[:, :, None] * mdp.transition
    steps = np.sum(pairs, axis=1)
    while np.any(left):
        moving = np.flatnonzero(left % 2)
        states[moving] = draw(steps[states[moving]], rng)
        steps, left = steps @ steps, left // 2
    # Action and next state are drawn together.
    actions, next_states = np.divmod(draw(pairs.reshape(mdp.n_states, -1)[states], rng), mdp.n_states)
    return Transitions(states, actions, next_states)


def all_paths(mdp: TabularMDP, policy: Array, n_steps: int) -> Paths:
    """Enumerate every path of ``n_steps`` steps from every first state and action.

    There are (S·A)^n_steps · S of them; those without probability are left out.
    """
    n_states, n_actions = mdp.n_states, mdp.n_actions
    states = [np.repeat(np.arange(n_states), n_actions)]
    actions = [np.tile(np.arange(n_actions), n_states)]
    weights = np.ones(n_states * n_actions)
    for t in range(n_steps):
        weights = (weights[:, None] * mdp.transition[states[-1], actions[-1]]).ravel()
        kept = np.flatnonzero(weights)
        parents = kept // n_states
        states = [*(s[parents] for s in states), kept % n_states]
        actions, weights = [a[parents] for a in actions], weights[kept]
        if t < n_steps - 1:
            weights = (weights[:, None] * policy[states[-1]]).ravel()
            kept = np.flatnonzero(weights)
            parents = kept // n_actions
            states = [s[parents] for s in states]
            actions, weights = [*(a[parents] for a in actions), kept % n_actions], weights[kept]
    visited, taken = np.stack(states), np.stack(actions)
    return Paths(visited, taken, mdp.reward[visited[:-1], taken], weights)
