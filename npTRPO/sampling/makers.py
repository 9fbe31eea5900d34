"""What makes an environment: an id, a specification, a class or a callable, with keywords and wrappers."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Self, TypeAlias

import gymnasium
from gymnasium.envs.registration import EnvSpec

from npTRPO._checks import environment_id

Wrapper: TypeAlias = str | Callable[[Any], Any]
"""Given an environment, returns one; or the name of what does, as "module:callable"."""


@dataclass(frozen=True, eq=False)
class EnvMaker:
    """Makes an environment each time it is called.

    Parameters
    ----------
    env : str, EnvSpec or callable
        An id, after "module:" where a module registers it; a specification; a class, or another callable that
        returns a new environment.
    kwargs : dict
        Keyword arguments for it.
    wrappers : tuple of callables or str
        Each is given the environment that the one before returned. A str names one, as "module:callable".
    from_file : bool
        True if a file named it, and nobody has yet said that what it names is to be trusted.

    Examples
    --------
    >>> from gymnasium.wrappers import TimeAwareObservation
    >>> env = EnvMaker("FrozenLake-v1", {"is_slippery": False}, (TimeAwareObservation,))()
    >>> env.spec.kwargs["is_slippery"], type(env).__name__
    (False, 'TimeAwareObservation')
    """

    env: str | EnvSpec | Callable[..., Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[Wrapper, ...] = ()
    from_file: bool = False

    @classmethod
    def of(
        cls, env: Any, kwargs: Mapping[str, Any] | None = None, wrappers: Sequence[Wrapper] = ()
    ) -> Self | None:
        """Return what makes environments, or None where one is given.

        Raises
        ------
        TypeError
            If there are keyword arguments or wrappers for an environment that is made already, or they aren't
            any.
        """
        if kwargs is not None and not (isinstance(kwargs, Mapping) and all(map(_is_text, kwargs))):
            raise TypeError(f"env_kwargs must be a dict of keyword arguments by name, not {kwargs!r}")
        if isinstance(wrappers, str) or not all(_is_text(each) or callable(each) for each in wrappers):
            raise TypeError(f"wrappers must be a list of callables, or of their names, not {wrappers!r}")
        given, around = dict(kwargs or {}), tuple(wrappers)
        if isinstance(env, cls):
            return replace(env, kwargs={**env.kwargs, **given}, wrappers=(*env.wrappers, *around))
        made = isinstance(env, (gymnasium.Env, gymnasium.vector.VectorEnv)) or hasattr(env, "num_envs")
        if isinstance(env, (str, EnvSpec)) or (callable(env) and (isinstance(env, type) or not made)):
            return cls(env, given, around)
        if given or around:
            raise TypeError(
                f"env_kwargs and wrappers are for environments that are made here, from an id, a class or a "
                f"callable, and not for {type(env).__name__}, which is made already"
            )
        return None

    @property
    def id(self) -> str | None:
        """The id, if it is made by one."""
        return self.env if isinstance(self.env, str) else None

    @property
    def spec(self) -> EnvSpec | None:
        """The specification, after the module that an id names is imported; None of a class or callable."""
        if isinstance(self.env, EnvSpec):
            return self.env
        return env_spec(self.env) if isinstance(self.env, str) else None

    @property
    def wrapper_names(self) -> tuple[str, ...]:
        """The wrappers as files have them."""
        return tuple(map(_name_of, self.wrappers))

    def __str__(self) -> str:
        if isinstance(self.env, str):
            return self.env
        return self.env.id if isinstance(self.env, EnvSpec) else _name_of(self.env).rpartition(":")[2]

    def __call__(self, **more: Any) -> gymnasium.Env[Any, Any]:
        """Make an environment, with keyword arguments that may be added.

        Raises
        ------
        ValueError
            If it knows one of its keyword arguments, or a wrapper, not.
        TypeError
            If what is made is no environment.
        """
        kwargs = {**self.kwargs, **more}
        with self._naming_keywords():
            if isinstance(self.env, (str, EnvSpec)):
                made = gymnasium.make(self.env, **kwargs)
            else:
                made = self.env(**kwargs)
        _check_made(str(self), made)
        for wrapper in self.wrappers:
            made = _resolved(wrapper)(made)
            _check_made(f"the wrapper {_name_of(wrapper)}", made)
        return made

    def vectorized(self, n_envs: int, mode: str) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        """Make a vector of environments as Gymnasium does; it has no wrappers."""
        with self._naming_keywords():
            return gymnasium.make_vec(self.env, n_envs, vectorization_mode=mode, **self.kwargs)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def _naming_keywords(self) -> Iterator[None]:
        """Raise a ValueError for a TypeError that is about one of its keyword arguments."""
        try:
            yield
        except TypeError as error:
            if not any(f"'{name}'" in str(error) for name in self.kwargs):
                raise
            raise ValueError(f"{self} can't be made with env_kwargs {dict(self.kwargs)}: {error}") from error

    def like(self, other: EnvMaker | None) -> bool:
        """Return whether the other makes the same environments, by whichever module its id is found."""
        return other is not None and self._key() == other._key()

    def _key(self) -> tuple[Any, ...]:
        env = self.env.rpartition(":")[2] if isinstance(self.env, str) else self.env
        return env, json.dumps(dict(self.kwargs), sort_keys=True, default=repr), self.wrapper_names

    def by_name(self) -> Self | None:
        """Return it with its wrappers by name, or None if it isn't made by its id, and can't be kept."""
        try:
            json.dumps(dict(self.kwargs))
        except (TypeError, ValueError):
            return None
        return None if self.id is None else replace(self, wrappers=self.wrapper_names)

    def trusted(
        self,
        env: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[Wrapper] | None = None,
        way_out: str | None = None,
    ) -> EnvMaker:
        """Return it with what someone names, who is trusted where a file isn't.

        Parameters
        ----------
        env, kwargs, wrappers
            In place of its own; with another id, none of its own are kept.
        way_out : str, optional
            What to do, for the error's message, if what the file names is trusted.

        Raises
        ------
        ValueError
            If a file alone names a module that isn't imported, or a wrapper: none is imported or called
            because a file says so.
        """
        if env is not None and env != self.env:
            return EnvMaker(env, dict(kwargs or {}), tuple(wrappers or ()))
        flags = self.flags()
        if self.from_file and env is None:
            checked_env_id(str(self.env), way_out or f"name it yourself, with {flags[0]}")
        if self.from_file and kwargs is None:
            for text in texts(self.kwargs):  # some environments make others, of a given id
                checked_env_id(text, way_out or f"name it yourself, with {flags[1]}")
        if self.from_file and wrappers is None and self.wrappers:
            raise ValueError(
                f"the file names the wrapper {self.wrapper_names[0]!r}, and no module is imported because a "
                f"file names it: if you trust it, {way_out or f'name it yourself, with {flags[2]}'}"
            )
        return EnvMaker(
            self.env,
            self.kwargs if kwargs is None else dict(kwargs),
            self.wrappers if wrappers is None else tuple(wrappers),
        )

    def flags(self) -> tuple[str, str, str]:
        """Return the flags of a command that name its id, its keyword arguments and its wrappers."""
        return (
            shlex.join(["--env", str(self.env)]),
            shlex.join(["--env-kwargs", json.dumps(dict(self.kwargs))]),
            shlex.join(word for name in self.wrapper_names for word in ("--wrapper", name)),
        )


def maker_from_file(env: Any, kwargs: Any, wrappers: Any) -> EnvMaker:
    """Return the maker that a file describes, which :meth:`EnvMaker.trusted` makes one that may be called.

    Raises
    ------
    ValueError
        If it isn't an id, keyword arguments by name, and a list of names.
    """
    environment_id("env_id", env)
    if not isinstance(kwargs, dict):
        raise ValueError(f"env_kwargs must be keyword arguments by name, not {kwargs!r}")
    if not isinstance(wrappers, list):
        raise ValueError(f"wrappers must be a list of names, not {wrappers!r}")
    return EnvMaker(
        env, kwargs, tuple(environment_id("a wrapper", each, "the name of one") for each in wrappers), True
    )


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


def env_spec(env: str) -> EnvSpec:
    """Return the specification of an environment's id, after its module, if it names one, is imported."""
    module, _, name = env.rpartition(":")
    near = difflib.get_close_matches(name, gymnasium.registry, n=3)
    matches = f"; near matches are {', '.join(near)}" if near else ""
    if module:
        _import(module, f"there is no environment {env!r}", matches)
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        way_out = "" if module else "; one that a package registers when it is imported is named as module:id"
        raise ValueError(f"there is no environment {env!r}{matches or f': {error}'}{way_out}") from error


def register_again(maker: EnvMaker, spec: EnvSpec | None) -> None:
    """Have an id in the registry of this process as it is in that of another, where the spec was found."""
    if spec is None:
        return
    modules = [str(maker).rpartition(":")[0]]
    if isinstance(spec.entry_point, str):
        modules.append(spec.entry_point.partition(":")[0])
    for module in modules:
        if module and spec.id not in gymnasium.registry:  # where the module may put it by itself
            importlib.import_module(module)
    gymnasium.registry.setdefault(spec.id, spec)


def _import(module: str, otherwise: str, hint: str = "") -> Any:
    """Import a module that someone named; a ValueError begins as given if it isn't there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and needs another
        raise ValueError(f"{otherwise}: {error}{hint}") from error


def _resolved(wrapper: Wrapper) -> Callable[[Any], Any]:
    """Return the callable that a wrapper is or names."""
    if not isinstance(wrapper, str):
        return wrapper
    module, _, name = wrapper.partition(":")
    if not module or not name:
        raise ValueError(f"a wrapper is named as module:callable, not {wrapper!r}")
    found = _import(module, f"there is no wrapper {wrapper!r}")
    try:
        found = reduce(getattr, name.split("."), found)
    except AttributeError as error:
        raise ValueError(f"there is no wrapper {wrapper!r}: {error}") from error
    if not callable(found):
        raise ValueError(f"the wrapper {wrapper!r} must be callable, but it is {found!r}")
    return found  # type: ignore[no-any-return]


def _check_made(what: str, made: Any) -> None:
    if not isinstance(made, gymnasium.Env):
        raise TypeError(f"{what} must return a gymnasium.Env, but it returned {type(made).__name__}")


def _name_of(function: Any) -> str:
    """Return the name of a callable as "module:callable", as far as it has one."""
    if isinstance(function, str):
        return function
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from texts(part)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
