"""From an id, an environment or a vector environment to a vector environment."""

from __future__ import annotations

import contextlib
import copy
import difflib
import importlib
import math
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import concatenate, create_empty_array

from npTRPO.policies.policy import Policy
from npTRPO.policies.spaces import batch_of_one

__all__ = ["TimeLimited", "check_spaces", "dismiss", "id_from_file", "make_vector_env", "missing"]


def id_from_file(env_id: str, way_out: str) -> str:
    """An environment's id that a file names; no module is imported on a file's word.

    Raises
    ------
    ValueError
        If it names a module that isn't imported yet, with the way out.
    """
    module = env_id.rpartition(":")[0]
    if module and module not in sys.modules:
        raise ValueError(
            f"the file names {env_id!r}, and no module is imported on a file's word: "
            f"if you trust it, {way_out}"
        )
    return env_id


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
        For an id; unless given, the environment's own vectorised form if it has one and there are several
        copies, and else sync.

    Raises
    ------
    ValueError
        For an id that isn't registered, with near matches.
    """
    if isinstance(env, VectorEnv):
        return env
    if isinstance(env, gymnasium.Env):
        return SyncVector(lambda: env)
    if not isinstance(env, str):
        raise TypeError(
            f"env must be the id of an environment, a gymnasium.Env or a gymnasium.vector.VectorEnv, "
            f"not {type(env).__name__}; make_vec_env's copies are made here too: give the id and n_envs"
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
    mode = vectorization_mode or ("vector_entry_point" if own_form and n_envs > 1 else "sync")
    env_id = env
    options: dict[str, Any] = {"vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}}
    try:
        if mode == "sync":
            return SyncVector(*[lambda: gymnasium.make(env_id)] * n_envs)
        with _deaf_to_interruption() if mode == "async" else contextlib.nullcontext():
            return gymnasium.make_vec(
                env, n_envs, vectorization_mode=mode, **({} if mode == "vector_entry_point" else options)
            )
    except gymnasium.error.DependencyNotInstalled as error:
        raise missing(f"{env} needs a package that isn't installed", error) from error


def missing(what: str, error: gymnasium.error.DependencyNotInstalled) -> ModuleNotFoundError:
    """The error that says what fails for want of a package, and which of our extras brings it."""
    return ModuleNotFoundError(f"{what}: {_THEIR_EXTRA.sub(lambda found: _OURS[found[1]], str(error))}")


_OURS = {name: f"npTRPO[{name}]" for name in ("mujoco", "box2d")} | {"classic-control": "npTRPO[video]"}
_THEIR_EXTRA = re.compile(rf"gymnasium\[({'|'.join(_OURS)})\]")


class SyncVector(SyncVectorEnv):
    """Gymnasium's :class:`SyncVectorEnv` in SAME_STEP mode, at less cost per step.

    Infos are passed on at the end of episodes only. A lone environment's observations are passed on as it
    gives them, whatever their dtype.

    Parameters
    ----------
    *makers : callable
        Each makes one of the environments.
    """

    def __init__(self, *makers: Callable[[], gymnasium.Env[Any, Any]]) -> None:
        super().__init__(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        self.spec = self.envs[0].spec

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments."""
        if self.num_envs > 1:
            return super().reset(seed=seed, options=options)
        [env] = self.envs
        observation, info = env.reset(seed=seed, options=options)
        return batch_of_one(self.single_observation_space, observation), self._add_info({}, info, 0)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments, and reset those whose episodes end."""
        n, space, observed = self.num_envs, self.single_observation_space, self._env_obs
        rewards = np.zeros(n)
        terminated, truncated = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        infos: dict[str, Any] = {}
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            observed[i], rewards[i], terminated[i], truncated[i], info = env.step(action)
            if terminated[i] or truncated[i]:
                last = copy.deepcopy(observed[i])  # the environment may use its memory again
                infos = self._add_info(infos, {"final_obs": last, "final_info": info}, i)
                observed[i], info = env.reset()
                infos = self._add_info(infos, info, i)
        if n == 1:
            return batch_of_one(space, observed[0]), rewards, terminated, truncated, infos
        memory: Any = create_empty_array(space, n, np.empty)
        return concatenate(space, observed, memory), rewards, terminated, truncated, infos


@contextlib.contextmanager
def _deaf_to_interruption() -> Iterator[None]:
    """Processes started meanwhile don't hear the terminal's Ctrl-C: what becomes of them is ours to say."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def dismiss(env: VectorEnv[Any, Any, Any] | None) -> None:
    """Close a vector environment, if there is one, in whatever state: its processes may hang, or be dead."""
    inner = None if env is None else env.unwrapped
    if inner is None or inner.closed:
        return
    if not isinstance(inner, AsyncVectorEnv):
        with contextlib.suppress(Exception):
            inner.close()
        return
    for process in inner.processes:
        process.terminate()
    for process in inner.processes:
        process.join(5)
        if process.is_alive():
            process.kill()
    inner.closed = True


class TimeLimited(VectorWrapper):
    """A vector environment that may take only so long for a step or a reset.

    If it takes longer, an alarm of the operating system raises TimeoutError in its midst. The alarm comes in
    Python's main thread only, and in no code that doesn't return to Python; but environments in processes of
    their own (``vectorization_mode="async"``) may hang in any way.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        What may take so long.
    seconds : float
        How long.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], seconds: float) -> None:
        super().__init__(env)
        if not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError(f"env_timeout must be a positive number of seconds, but it is {seconds!r}")
        if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
            raise RuntimeError("env_timeout needs a system with alarms, and Python's main thread")
        self.seconds = seconds

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments within the time."""
        with self._alarm():
            return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments within the time."""
        with self._alarm():
            return self.env.step(actions)

    @contextlib.contextmanager
    def _alarm(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self._expired)
        signal.setitimer(
            signal.ITIMER_REAL, self.seconds, self.seconds
        )  # again, if it is caught by the environment
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _expired(self, *_: object) -> None:
        raise TimeoutError(f"an environment took longer than {self.seconds:g} s")


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
