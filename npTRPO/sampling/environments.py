"""Vector environments, made from an id, an environment or a vector environment."""

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


def checked_env_id(env_id: str, way_out: str) -> str:
    """Return an environment's id that was read from a file, unless making it would import a module.

    Parameters
    ----------
    env_id : str
        As the file has it: "name", or "module:name".
    way_out : str
        What to do, for the error's message, if the module is trusted.

    Raises
    ------
    ValueError
        If it names a module that isn't imported yet.
    """
    module = env_id.rpartition(":")[0]
    if module and module not in sys.modules:
        raise ValueError(
            f"the file names {env_id!r}, and no module is imported because a file names it: "
            f"if you trust it, {way_out}"
        )
    return env_id


def make_vector_env(
    env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any],
    n_envs: int,
    vectorization_mode: str | None = None,
) -> VectorEnv[Any, Any, Any]:
    """Make a vector environment to train or evaluate on.

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
        with _interrupts_blocked() if mode == "async" else contextlib.nullcontext():
            return gymnasium.make_vec(
                env, n_envs, vectorization_mode=mode, **({} if mode == "vector_entry_point" else options)
            )
    except gymnasium.error.DependencyNotInstalled as error:
        raise missing_package_error(f"{env} needs a package that isn't installed", error) from error


def missing_package_error(what: str, error: gymnasium.error.DependencyNotInstalled) -> ModuleNotFoundError:
    """Return an error that says what needs a missing package, and which extra of npTRPO installs it."""
    return ModuleNotFoundError(f"{what}: {_THEIR_EXTRA.sub(lambda found: _OURS[found[1]], str(error))}")


_OURS = {name: f"npTRPO[{name}]" for name in ("mujoco", "box2d")} | {"classic-control": "npTRPO[video]"}
_THEIR_EXTRA = re.compile(rf"gymnasium\[({'|'.join(_OURS)})\]")


class RememberingList(list[Any]):
    """A list that remembers which of its elements is at work: it was handed out last.

    Gymnasium's vectors keep what they step, environments or pipes to them, in a list. While they go through
    it, ``last`` is the index of the element that it is the turn of, and None after the last one's.
    """

    last: int | None = None

    def __getitem__(self, index: Any) -> Any:
        self.last = index if isinstance(index, int) else None
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        for i, element in enumerate(list.__iter__(self)):
            self.last = i
            yield element
        self.last = None


def remembering_members(env: VectorEnv[Any, Any, Any]) -> RememberingList:
    """Let a vector environment remember which of its environments is at work, if it keeps them in a list."""
    vector: Any = env.unwrapped
    for name in ("envs", "parent_pipes"):
        members = getattr(vector, name, None)
        if isinstance(members, list):
            if not isinstance(members, RememberingList):
                members = RememberingList(members)
                setattr(vector, name, members)
            return members
    return RememberingList()


class SyncVector(SyncVectorEnv):
    """Gymnasium's :class:`SyncVectorEnv`, at less cost per step.

    Infos are passed on at the end of episodes only. A lone environment's observations are passed on as it
    gives them, whatever their dtype.

    Parameters
    ----------
    *makers : callable
        Each makes one of the environments.
    autoreset_mode : AutoresetMode
        SAME_STEP or DISABLED.
    """

    def __init__(
        self,
        *makers: Callable[[], gymnasium.Env[Any, Any]],
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    ) -> None:
        super().__init__(makers, autoreset_mode=autoreset_mode)
        self.envs: RememberingList = RememberingList(self.envs)
        self.spec = self.envs[0].spec

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments."""
        if self.num_envs > 1:
            return super().reset(seed=seed, options=options)
        [env] = self.envs
        observation, info = env.reset(seed=seed, options=options)
        return batch_of_one(self.single_observation_space, observation), self._add_info({}, info, 0)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments, and in SAME_STEP mode reset those whose episodes end."""
        n, space, observed = self.num_envs, self.single_observation_space, self._env_obs
        rewards = np.zeros(n)
        terminated, truncated = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        infos: dict[str, Any] = {}
        # Without the list's own iterator, which takes 3 % of a step of one CartPole.
        for i, (env, action) in enumerate(zip(list.__iter__(self.envs), actions, strict=True)):
            self.envs.last = i
            observed[i], rewards[i], terminated[i], truncated[i], info = env.step(action)
            if (terminated[i] or truncated[i]) and self.autoreset_mode is AutoresetMode.SAME_STEP:
                last = copy.deepcopy(observed[i])  # the environment may use its memory again
                infos = self._add_info(infos, {"final_obs": last, "final_info": info}, i)
                observed[i], info = env.reset()
                infos = self._add_info(infos, info, i)
        self.envs.last = None
        if n == 1:
            return batch_of_one(space, observed[0]), rewards, terminated, truncated, infos
        memory: Any = create_empty_array(space, n, np.empty)
        return concatenate(space, observed, memory), rewards, terminated, truncated, infos


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block the terminal's Ctrl-C in processes started meanwhile: this one decides when they end."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def force_close(env: VectorEnv[Any, Any, Any] | None) -> None:
    """Close a vector environment, if there is one, even if its processes hang or are dead."""
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


class StepTimeout(VectorWrapper):
    """Raise TimeoutError if a vector environment takes longer than a given time for a step or a reset.

    An alarm of the operating system interrupts it. The alarm comes in Python's main thread only, and in no
    code that doesn't return to Python; but environments in processes of their own
    (``vectorization_mode="async"``) may hang in any way.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        The vector environment to limit.
    seconds : float
        The longest time allowed.

    Raises
    ------
    ValueError
        If the time isn't positive and finite.
    RuntimeError
        On a system without alarms, and outside of Python's main thread.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], seconds: float) -> None:
        super().__init__(env)
        if not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError(f"env_timeout must be a positive number of seconds, but it is {seconds!r}")
        if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
            raise RuntimeError("env_timeout needs a system with alarms, and Python's main thread")
        self.seconds = seconds

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments in time."""
        with self._alarm():
            return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments in time."""
        with self._alarm():
            return self.env.step(actions)

    @contextlib.contextmanager
    def _alarm(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self._expired)
        # It repeats, in case the environment catches the error.
        signal.setitimer(signal.ITIMER_REAL, self.seconds, self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _expired(self, *_: object) -> None:
        raise TimeoutError(f"an environment took longer than {self.seconds:g} s")


def _make_envpool(env: str, n_envs: int) -> VectorEnv[Any, Any, Any]:
    """Make EnvPool's form of an environment, which steps in threads of C++."""
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
        with warnings.catch_warnings():  # about the precision of its own bounds, when they are first read
            warnings.simplefilter("ignore", UserWarning)
            _ = made.single_observation_space
        return made

    return _Reseeded(make)


class _Reseeded(VectorWrapper):
    """Make EnvPool's environments anew for each seed, as it takes one only when it makes them."""

    def __init__(self, make: Callable[[int], VectorEnv[Any, Any, Any]]) -> None:
        super().__init__(make(0))
        self._make = make

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments, made anew if there is a seed."""
        if seed is not None:
            self.env.close()
            self.env = self._make(int(seed))
        return self.env.reset(options=options)


def check_spaces(policy: Policy, env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
    """Raise a ValueError that names both, if the environment's spaces aren't the policy's."""
    ours = policy.observation_space, policy.action_space
    if isinstance(env, VectorEnv):
        theirs = env.single_observation_space, env.single_action_space
    else:
        theirs = env.observation_space, env.action_space
    if ours != theirs:
        raise ValueError(
            f"the agent acts on {ours[0]} with {ours[1]}, but the environment has {theirs[0]} and {theirs[1]}"
        )
