"""Convert a finite MDP into a Gymnasium environment, and an environment with a table into an MDP."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from npTRPO.theory.mdp import TabularMDP
from npTRPO.theory.simulation import draw


class TabularEnv(gymnasium.Env[Any, Any]):
    """A finite MDP as an environment with discrete observations and actions.

    An episode terminates when it enters an absorbing state. Gymnasium's environments have no discount: give
    the agent γ.

    Parameters
    ----------
    mdp : TabularMDP
    max_episode_steps : int, optional
        Episodes that have not terminated by then are truncated; never, unless given.

    Raises
    ------
    ValueError
        For ``max_episode_steps`` below 1.

    Examples
    --------
    >>> from npTRPO import TRPO
    >>> from npTRPO.theory import TabularEnv, mdp_from_gymnasium
    >>> mdp = mdp_from_gymnasium("FrozenLake-v1", discount=0.99)
    >>> agent = TRPO("MlpPolicy", TabularEnv(mdp, 100), n_steps=64, seed=0).learn(64)
    """

    def __init__(self, mdp: TabularMDP, max_episode_steps: int | None = None) -> None:
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be at least 1, not {max_episode_steps!r}")
        self.mdp = mdp
        self.max_episode_steps = max_episode_steps
        self.observation_space = spaces.Discrete(mdp.n_states)
        self.action_space = spaces.Discrete(mdp.n_actions)
        self._absorbing = mdp.absorbing
        self._state = -1  # no episode has begun
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in a state drawn from ρ₀; return it."""
        super().reset(seed=seed)
        self._state = int(draw(self.mdp.start[None], self.np_random)[0])
        self._steps = 0
        return self._state, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action; return the next state, the reward r(s, a), and what ended the episode."""
        if self._state < 0:
            raise gymnasium.error.ResetNeeded("call reset before step")
        if not self.action_space.contains(action):
            raise ValueError(
                f"action must be a whole number from 0 to {self.mdp.n_actions - 1}, not {action!r}"
            )
        reward = float(self.mdp.reward[self._state, action])
        self._state = int(draw(self.mdp.transition[self._state, action][None], self.np_random)[0])
        self._steps += 1
        terminated, truncated = bool(self._absorbing[self._state]), self._steps == self.max_episode_steps
        return self._state, reward, terminated, truncated, {}


def mdp_from_gymnasium(env: str | gymnasium.Env[Any, Any], *, discount: float, **options: Any) -> TabularMDP:
    """Read the MDP of a Gymnasium environment that keeps its transitions in a table.

    Parameters
    ----------
    env : str or gymnasium.Env
        Such as "FrozenLake-v1", "CliffWalking-v1", or a Taxi.
    discount : float
        γ, which Gymnasium's environments don't have.
    **options
        For :func:`gymnasium.make`, if ``env`` is an id.

    Returns
    -------
    TabularMDP
        With one more state than the environment, last: every terminal transition leads to it, and it is
        absorbing, without reward.

    Raises
    ------
    TypeError
        If the environment keeps no table ``P`` of its transitions, as Gymnasium's toy texts do.

    Examples
    --------
    >>> from npTRPO.theory import mdp_from_gymnasium
    >>> mdp_from_gymnasium("FrozenLake-v1", discount=0.99).transition.shape
    (17, 4, 17)
    """
    made = gymnasium.make(env, **options) if isinstance(env, str) else env
    inner: Any = made.unwrapped
    table, start = getattr(inner, "P", None), getattr(inner, "initial_state_distrib", None)
    if table is None or start is None or not isinstance(inner.action_space, spaces.Discrete):
        raise TypeError(
            f"{inner} has no table of its transitions (attributes P and initial_state_distrib), as "
            f"FrozenLake, Taxi and CliffWalking have: make a TabularMDP from arrays instead"
        )
    n_states, n_actions = len(start), int(inner.action_space.n)
    transition = np.zeros((n_states + 1, n_actions, n_states + 1))
    reward = np.zeros((n_states + 1, n_actions))
    transition[n_states, :, n_states] = 1
    for state in range(n_states):
        for action in range(n_actions):
            for probability, next_state, r, terminated in table[state][action]:
                transition[state, action, n_states if terminated else next_state] += probability
                reward[state, action] += probability * r
    if isinstance(env, str):
        made.close()
    return TabularMDP(transition, reward, np.append(start, 0.0), discount)
