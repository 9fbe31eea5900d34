"""Vector environments, made from an id, an environment or a vector environment."""

import contextlib
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
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, VectorEnv, VectorWrapper

from npTRPO.policies.policy import Policy
from npTRPO.sampling.vectors import AsyncVector, SyncVector


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
    spec = env_spec(env)
    own_form = spec.vector_entry_point is not None
    if vectorization_mode == "envpool":
        return _make_envpool(env, n_envs, spec)
    mode = vectorization_mode or ("vector_entry_point" if own_form and n_envs > 1 else "sync")
    env_id = env
    try:
        if mode == "sync":
            return SyncVector(*[lambda: gymnasium.make(env_id)] * n_envs)
        if mode == "async":
            with interrupts_blocked():
                return AsyncVector(env, n_envs)
        return gymnasium.make_vec(env, n_envs, vectorization_mode=mode)
    except gymnasium.error.DependencyNotInstalled as error:
        raise missing_package_error(f"{env} needs a package that isn't installed", error) from error


def env_spec(env: str) -> EnvSpec:
    """Return the specification of an environment's id, after its module, if it names one, is imported."""
    module, _, name = env.rpartition(":")
    near = difflib.get_close_matches(name, gymnasium.registry, n=3)
    matches = f"; near matches are {', '.join(near)}" if near else ""
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # the module is there, and needs another
            raise ValueError(f"there is no environment {env!r}: {error}{matches}") from error
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        way_out = "" if module else "; one that a package registers when it is imported is named as module:id"
        raise ValueError(f"there is no environment {env!r}{matches or f': {error}'}{way_out}") from error


def register_again(env: str, spec: EnvSpec) -> None:
    """Have an id in the registry of this process as it is in that of another, where the spec was found."""
    modules = [env.rpartition(":")[0]]
    if isinstance(spec.entry_point, str):
        modules.append(spec.entry_point.partition(":")[0])
    for module in modules:
        if module and spec.id not in gymnasium.registry:  # where the module may put it by itself
            importlib.import_module(module)
    gymnasium.registry.setdefault(spec.id, spec)


def longest_episode(env: str | None) -> int:
    """Return the largest number of steps of an episode that the environment's specification states, or 0."""
    try:
        return 0 if env is None else env_spec(env).max_episode_steps or 0
    except ValueError:  # there is none, as making it will say
        return 0


def missing_package_error(what: str, error: gymnasium.error.DependencyNotInstalled) -> ModuleNotFoundError:
    """Return an error that says what needs a missing package, and which extra of npTRPO installs it."""
    return ModuleNotFoundError(f"{what}: {_THEIR_EXTRA.sub(lambda found: _OURS[found[1]], str(error))}")


_OURS = {name: f"npTRPO[{name}]" for name in ("mujoco", "box2d")} | {"classic-control": "npTRPO[video]"}
_THEIR_EXTRA = re.compile(rf"gymnasium\[({'|'.join(_OURS)})\]")


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
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


def _make_envpool(env: str, n_envs: int, spec: EnvSpec) -> VectorEnv[Any, Any, Any]:
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

    return _Reseeded(make, spec)


class _Reseeded(VectorWrapper):
    """Make EnvPool's environments anew for each seed, as it takes one only when it makes them."""

    def __init__(self, make: Callable[[int], VectorEnv[Any, Any, Any]], spec: EnvSpec) -> None:
        super().__init__(make(0))
        self._make, self._spec = make, spec

    @property
    def spec(self) -> EnvSpec:  # type: ignore[override]  # as in Gymnasium's own wrapper
        """Gymnasium's specification of the environment, as EnvPool's own has no id."""
        return self._spec

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
