"""The settings of a run, and the ``config.json`` that holds them."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npTRPO._checks import environment_id, whole_number
from npTRPO._machine import processor
from npTRPO.agent.checkpoint import versions
from npTRPO.agent.config import TRPOConfig
from npTRPO.files.errors import UnreadableFileError, reason
from npTRPO.files.reading import read_text
from npTRPO.files.writing import write_whole
from npTRPO.sampling.makers import EnvMaker, maker_from_file, texts

FORMAT = "npTRPO run"
FORMAT_VERSION = 1
# Bytes of options that may be compared and shown.
_LONGEST_OPTIONS = 10_000


@dataclass(frozen=True)
class RunSettings:
    """What a run does, apart from the algorithm's options.

    Attributes
    ----------
    env : str
        Id of the environment.
    total_timesteps : int
        Environment steps.
    eval_episodes : int
        Episodes per evaluation, which happens at each checkpoint boundary; 0 for none.
    env_timeout : float, optional
        Seconds that the environments may take for a step; see
        :class:`npTRPO.sampling.environments.StepTimeout`.
    env_kwargs : dict
        Keyword arguments for the environment.
    wrappers : tuple of str
        Names of what each environment is wrapped in, in order, as "module:callable".

    Raises
    ------
    ValueError
        For an impossible value.
    """

    env: str
    total_timesteps: int
    eval_episodes: int = 10
    env_timeout: float | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()

    @property
    def maker(self) -> EnvMaker:
        """What makes the environment."""
        return EnvMaker(self.env, self.env_kwargs, self.wrappers)

    def __post_init__(self) -> None:
        """Check the settings, and replace NumPy's numbers, which JSON doesn't know, by Python's."""
        environment_id("env", self.env)
        for name, least in (("total_timesteps", 1), ("eval_episodes", 0)):
            number = whole_number(name, getattr(self, name), least, 2**63 - 1)
            object.__setattr__(self, name, number)
        if self.env_timeout is not None:
            if not 0 < float(self.env_timeout) <= sys.float_info.max:
                raise ValueError(
                    f"env_timeout must be a positive number of seconds, not {self.env_timeout!r}"
                )
            object.__setattr__(self, "env_timeout", float(self.env_timeout))


def write_config(directory: Path, settings: RunSettings, config: TRPOConfig, entropy: int) -> None:
    """Write a run's config.json: its settings and options, and what it was begun with."""
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "env": settings.env,
        "env_kwargs": settings.env_kwargs,
        "wrappers": list(settings.wrappers),
        "eval_episodes": settings.eval_episodes,
        **_changeable(settings),
        "config": config.to_dict(),
        "maximises": config.objective,
        "entropy": str(entropy),
        "versions": versions(),
        "commit": commit(),
        "machine": {
            "platform": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        },
    }
    _write(directory, description)


def read_config(
    directory: Path,
    env: str | None = None,
    env_kwargs: dict[str, Any] | None = None,
    wrappers: Sequence[str] | None = None,
) -> tuple[RunSettings, TRPOConfig, int]:
    """Read the settings, options and entropy of a run from its config.json.

    Parameters
    ----------
    directory : pathlib.Path
        The run's.
    env, env_kwargs, wrappers : optional
        The run's environment, its keyword arguments and its wrappers, named by someone who trusts their
        modules; see :meth:`npTRPO.sampling.makers.EnvMaker.trusted`.

    Raises
    ------
    UnreadableFileError
        If it isn't a run's, or a value in it is out of range.
    """
    file = directory / "config.json"
    try:
        found = json.loads(read_text(file))
        if found["format"] != FORMAT:
            raise ValueError("it isn't npTRPO's")
        version = found.get("format_version", 1)  # the first files had none
        if version != FORMAT_VERSION:
            raise ValueError(f"its format version is {version!r}, and this is version {FORMAT_VERSION}")
        maker = maker_from_file(found["env"], found.get("env_kwargs", {}), found.get("wrappers", []))
        settings = RunSettings(
            found["env"],
            found["total_timesteps"],
            found["eval_episodes"],
            found.get("env_timeout"),
            dict(maker.kwargs),
            maker.wrapper_names,
        )
        config, entropy = TRPOConfig.from_file(found["config"]), int(found["entropy"])
        if entropy < 0:
            raise ValueError(f"entropy is {entropy}")
        named = {"environment": env, "env_kwargs": env_kwargs, "wrappers": wrappers and tuple(wrappers)}
        own = settings.env, settings.env_kwargs, settings.wrappers
        for (what, given), ours in zip(named.items(), own, strict=True):
            if given is not None and given != ours:
                raise ValueError(
                    f"its {what} {'is' if what == 'environment' else 'are'} {ours!r}, and not {given!r}"
                )
        way_out = (
            f"say {shlex.join(['nptrpo', 'train', *named_once_more(settings), '--resume', str(directory)])}"
        )
        maker.trusted(env, env_kwargs, wrappers, way_out)
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{directory} isn't a run directory: it has no config.json") from error
    except Exception as error:  # whatever a foreign or damaged file leads to, of which there is no list
        raise UnreadableFileError(f"{file} can't be read: {reason(error)}") from error
    return settings, config, entropy


def named_once_more(settings: RunSettings, flag: str = "") -> list[str]:
    """Return what a command is told again that goes on with a run, or plays in its environment.

    An id that names a module, with ``flag`` before it; keyword arguments that may name one; wrappers.
    """
    words = [f"{flag}{settings.env}"] if ":" in settings.env else []
    if ":" in "".join(texts(settings.env_kwargs)):
        words.append(f"--env-kwargs={json.dumps(settings.env_kwargs)}")
    return words + [f"--wrapper={name}" for name in settings.wrappers]


def read_options(directory: Path) -> dict[str, Any]:
    """Read what tells a run from others: its environment, and its options but for the seed and checkpoints.

    They are only good for being compared and shown: no value is checked.

    Raises
    ------
    Exception
        Whatever a foreign or damaged file leads to.
    """
    found = json.loads(read_text(directory / "config.json"))
    more = {name: found[name] for name in ("env_kwargs", "wrappers") if found.get(name)}
    options = {"env": found["env"], **more, **found["config"]}
    if not isinstance(options["env"], str) or len(json.dumps(options)) > _LONGEST_OPTIONS:
        raise ValueError("its config.json isn't that of a run")
    return {name: value for name, value in options.items() if name not in ("seed", "checkpoint_interval")}


def runs_in(path: Path) -> list[Path]:
    """Return the runs in a folder, or the path itself if it is a run, or holds none."""
    inside = [] if (path / "config.json").exists() else sorted(path.glob("*/config.json"))
    return [file.parent for file in inside] or [path]


def update_config(directory: Path, settings: RunSettings) -> None:
    """Write the settings given to a resumed run into its config.json, for the next time it is resumed."""
    before = json.loads((directory / "config.json").read_text())
    now = before | _changeable(settings)
    if now != before:
        _write(directory, now)


def holds_run(directory: Path) -> bool:
    """Return whether a directory has the config.json of a run."""
    try:
        return bool(json.loads(read_text(directory / "config.json"))["format"] == FORMAT)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def commit(package: Path = Path(__file__).parents[1]) -> str | None:
    """Return the commit of a package's own repository, with a + if files have changed since.

    None for a package that is installed, also below a repository that doesn't have its files.
    """
    if not _git(package, "ls-files", "--", "__init__.py"):
        return None
    return _git(package, "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*")


def _git(directory: Path, *words: str) -> str | None:
    """Return what git says in a directory, or None if it says nothing or isn't there."""
    try:
        asked = subprocess.run(
            ["git", *words], cwd=directory, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None


def _changeable(settings: RunSettings) -> dict[str, Any]:
    """Return the settings that a resumed run may be given anew."""
    return {"total_timesteps": settings.total_timesteps, "env_timeout": settings.env_timeout}


def _write(directory: Path, description: dict[str, Any]) -> None:
    write_whole(directory / "config.json", (json.dumps(description, indent=2) + "\n").encode())
