"""From an id, an environment or a vector environment to a vector environment."""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

from npTRPO.policies.policy import Policy

__all__ = ["check_spaces", "make_vector_env"]


def make_vector_env(
    env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any],
    n_envs: int,
    vectorization_mode: str | None = None,
) -> VectorEnv[Any, Any, Any]:
    """Vector environment to train or evaluate on.

    Parameters
    ----------
    env : str, gymnasium.Env or gymnasium.vector.VectorEnv
        An id, after "module:" where a module registers it, is made ``n_envs`` times; a single
        environment becomes a vector of one, whatever ``n_envs``; a vector environment is taken as it is.
    n_envs : int
        Copies to make of an id.
    vectorization_mode : {"sync", "async", "vector_entry_point", "envpool"}, optional
        For an id; unless given, the environment's own vectorised form if it has one, and else sync.

    Raises
    ------
    ValueError
        For an id that isn't registered, with near matches.
    """
    if isinstance(env, VectorEnv):
        return env
    if isinstance(env, gymnasium.Env):
        return SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.SAME_STEP)
    if not isinstance(env, str):
        raise TypeError(
            f"env must be the id of an environment, a gymnasium.Env or a gymnasium.vector.VectorEnv, "
            f"not {type(env).__name__}"
        )
    module, _, name = env.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        own_form = gymnasium.spec(name).vector_entry_point is not None
    except (ModuleNotFoundError, gymnasium.error.Error) as error:
        near = difflib.get_close_matches(name, gymnasium.registry, n=3)
        hint = f"; near matches are {', '.join(near)}" if near else f": {error}"
        raise ValueError(f"there is no environment {env!r}{hint}") from error
    if vectorization_mode == "envpool":
        return _make_envpool(env, n_envs)
    mode = vectorization_mode or ("vector_entry_point" if own_form else "sync")
    options: dict[str, Any] = {"vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}}
    try:
        return gymnasium.make_vec(
            env, n_envs, vectorization_mode=mode, **({} if mode == "vector_entry_point" else options)
        )
    except gymnasium.error.DependencyNotInstalled as error:
        raise ModuleNotFoundError(f"{env} needs a package that isn't installed: {error}") from error


def _make_envpool(env: str, n_envs: int) -> VectorEnv[Any, Any, Any]:
    """EnvPool's own form of an environment, which steps in threads of C++."""
    try:
        envpool: Any = importlib.import_module("envpool")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'vectorization_mode "envpool" needs EnvPool: pip install "npTRPO[envpool]"'
        ) from error
    if env not in envpool.list_all_envs():
        raise ValueError(f"EnvPool has no environment {env!r}: choose another vectorization_mode")

    def make(seed: int) -> VectorEnv[Any, Any, Any]:
        made: VectorEnv[Any, Any, Any] = envpool.make_gymnasium(env, num_envs=n_envs, seed=seed)
        with warnings.catch_warnings():  # about the precision of its own bounds, at the first look at them
            warnings.simplefilter("ignore", UserWarning)
            _ = made.single_observation_space
        return made

    return _Reseeded(make)


class _Reseeded(VectorWrapper):
    """EnvPool takes a seed only when it makes environments, so they are made again for each."""

    def __init__(self, make: Callable[[int], VectorEnv[Any, Any, Any]]) -> None:
        super().__init__(make(0))
        self._make = make

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments, newly made if there is a seed for them."""
        if seed is not None:
            self.env.close()
            self.env = self._make(int(seed))
        return self.env.reset(options=options)


def check_spaces(policy: Policy, env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
    """Raise an error that names both, if the environment's spaces aren't the policy's."""
    ours = policy.observation_space, policy.action_space
    if isinstance(env, VectorEnv):
        theirs = env.single_observation_space, env.single_action_space
    else:
        theirs = env.observation_space, env.action_space
    if ours != theirs:
        raise ValueError(
            f"the agent acts on {ours[0]} with {ours[1]}, but the environment has {theirs[0]} and {theirs[1]}"
        )
