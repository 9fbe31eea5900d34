"""Random finite MDPs of several kinds."""

from typing import Literal, get_args

import numpy as np

from npTRPO.theory.mdp import TabularMDP

Kind = Literal["dense", "sparse", "deterministic", "absorbing"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Largest discount drawn: it keeps the condition of I − γP, (1 + γ) / (1 − γ), below 200.
MAX_DISCOUNT = 0.99


def random_mdp(
    rng: np.random.Generator,
    n_states: int,
    n_actions: int,
    *,
    kind: Kind = "dense",
    discount: float | None = None,
) -> TabularMDP:
    """Draw an MDP with standard normal rewards.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_states, n_actions : int
        S and A, at least 1 each; an absorbing MDP has at least 2 states.
    kind : {"dense", "sparse", "deterministic", "absorbing"}
        Transitions from a flat Dirichlet distribution over all states (dense), over at most two of them
        (sparse), to one state (deterministic), or dense with a last state that is absorbing, without
        reward, and no start. Sparse and deterministic ones start in one state, so that some states may
        never be visited.
    discount : float, optional
        γ; unless given, 0 one time in ten, and else 1 − γ is drawn log-uniformly from 0.01 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO.theory import random_mdp
    >>> mdp = random_mdp(np.random.default_rng(0), 4, 2, kind="absorbing")
    >>> mdp.absorbing
    array([False, False, False,  True])
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    smallest = 2 if kind == "absorbing" else 1
    if n_states < smallest or n_actions < 1:
        raise ValueError(
            f"an MDP of kind {kind!r} needs at least {smallest} states and 1 action, "
            f"not {n_states} and {n_actions}"
        )
    if discount is None:
        discount = 0.0 if rng.random() < 0.1 else 1 - (1 - MAX_DISCOUNT) ** rng.random()
    reward = rng.standard_normal((n_states, n_actions))
    start = rng.dirichlet(np.ones(n_states))
    if kind in ("sparse", "deterministic"):
        branches = min(n_states, 2 if kind == "sparse" else 1)
        order = np.argsort(rng.random((n_states, n_actions, n_states)), axis=-1)[..., :branches]
        transition = np.zeros((n_states, n_actions, n_states))
        weights = rng.dirichlet(np.ones(branches), (n_states, n_actions))
        np.put_along_axis(transition, order, weights, axis=-1)
        start = np.eye(n_states)[rng.integers(n_states)]
    else:
        transition = rng.dirichlet(np.ones(n_states), (n_states, n_actions))
    if kind == "absorbing":
        transition[-1], reward[-1] = np.eye(n_states)[-1], 0
        start = np.append(rng.dirichlet(np.ones(n_states - 1)), 0.0)
    return TabularMDP(transition, reward, start, discount)
