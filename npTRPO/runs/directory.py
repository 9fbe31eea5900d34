"""Run directories: a training run on disk, that can be watched, killed, and picked up again.

::

    config.json          what was asked for, and with which versions, seed, commit and machine
    progress.csv         a row per update
    evaluations.csv      a row per evaluation
    checkpoints/         the agent at the last two checkpoint boundaries
    best.npz             the agent with the best evaluation
    agent.npz            the agent at the end
    events.*             for TensorBoard, where tensorboardX is installed
    .lock                keeps a second process out

At a checkpoint boundary the environments start afresh and all random numbers follow from the seed and
the number of updates. So a run that is killed and resumed ends in the same bits as one that wasn't.
Files appear whole or not at all, and rows too: what a killed process leaves can always be gone on with.
A disk that is full doesn't end a run either: what can't be written is said, kept, and tried again.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npTRPO.agent.checkpoint import versions
from npTRPO.agent.config import TRPOConfig
from npTRPO.sampling.environments import StepTimeout
from npTRPO.files.writing import UnreadableFileError, last_update, read_text, reason, unfollowed, write_whole
from npTRPO.runs.recorder import Failures, Keeper, checkpoints
from npTRPO.agent.record import Callback
from npTRPO.runs.validation import (
    FORMAT,
    FORMAT_VERSION,
    Description,
    check_beginning,
    check_links,
    check_tables,
    read_description,
)
from npTRPO.agent.trpo import TRPO

__all__ = ["RunDirectory", "RunSettings"]


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
    """

    env: str
    total_timesteps: int
    eval_episodes: int = 10
    env_timeout: float | None = None

    def __post_init__(self) -> None:
        """Python's numbers in place of NumPy's, which JSON doesn't know."""
        for name in ("total_timesteps", "eval_episodes"):
            object.__setattr__(self, name, operator.index(getattr(self, name)))
        if self.env_timeout is not None:
            object.__setattr__(self, "env_timeout", float(self.env_timeout))


class RunDirectory:
    """A run on disk. Make one with :meth:`create` or :meth:`resume`, then call :meth:`train`.

    Attributes
    ----------
    path : pathlib.Path
        The directory.
    settings : RunSettings
        What the run does.
    agent : TRPO
        The agent, as far as it has learned.
    """

    def __init__(
        self, path: Path, settings: RunSettings, agent: TRPO, seen: dict[str, int] | None = None
    ) -> None:
        self._seen = _kept(path) if seen is None else seen
        self.path = path
        self.settings = settings
        self.agent = agent
        if settings.env_timeout is not None and agent.env is not None:
            agent.env = StepTimeout(agent.env, settings.env_timeout)

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], settings: RunSettings, config: TRPOConfig, overwrite: bool = False
    ) -> RunDirectory:
        """Begin a run in a new directory.

        Parameters
        ----------
        path : path
            The directory, which is made if need be.
        settings : RunSettings
            What the run does.
        config : TRPOConfig
            The algorithm's options.
        overwrite : bool
            Remove a run that is there: its own files, and nothing else.

        Raises
        ------
        FileExistsError
            If the directory holds a run, unless ``overwrite``, or anything else.
        RuntimeError
            If another process is training in it.
        """
        directory = Path(path)
        if _is_taken(directory) and not (overwrite and _holds_run(directory)):
            way_out = (
                f"go on with --resume {directory}, begin again with --overwrite, or choose another --out"
                if _holds_run(directory)
                else "it is no run directory, so choose another --out"
            )
            raise FileExistsError(f"{directory} exists already: {way_out}")
        agent = TRPO("MlpPolicy", settings.env, config)
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            for old in [*_own_files(directory), *_parts(directory)]:
                old.unlink()
            _write_text(directory / "config.json", _description(settings, config, agent))
        return cls(directory, settings, agent)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        total_timesteps: int | None = None,
        env_timeout: float | None = None,
        env: str | None = None,
    ) -> RunDirectory:
        """Go on with a run from its last checkpoint; ``total_timesteps`` and ``env_timeout`` may be new ones.

        An environment whose id names a module, as "my_envs:Env-v0", must be given as ``env`` once more,
        unless the module is imported already: none is on a file's word.

        Warns
        -----
        RuntimeWarning
            If the last checkpoint is damaged, and the one before must do; the message says what is lost.

        Raises
        ------
        UnreadableFileError
            If the directory isn't a run's, or is damaged beyond use.
        """
        directory = Path(path)
        check_links(directory)
        seen = _kept(directory)  # before any of it is read
        described = read_description(directory, env)
        settings = RunSettings(
            env=described.env,
            total_timesteps=total_timesteps or described.total_timesteps,
            eval_episodes=described.eval_episodes,
            env_timeout=env_timeout or described.env_timeout,
        )
        agent = _last_agent(directory, described)
        check_tables(directory, agent.n_updates if agent else 0)
        try:
            if agent is None:
                check_beginning(directory, settings.env, described.config)
                agent = TRPO("MlpPolicy", settings.env, described.config, entropy=described.entropy)
            else:
                agent.set_env(settings.env)
        except UnreadableFileError:
            raise
        except Exception as error:  # of the environment's own too
            raise UnreadableFileError(f"{directory} can't go on in {settings.env}: {reason(error)}") from error
        return cls(directory, settings, agent, seen)

    @property
    def finished(self) -> bool:
        """Whether agent.npz holds an agent that has taken all the steps, and progress.csv how."""
        try:
            agent = TRPO.load(self.path / "agent.npz")
        except UnreadableFileError:
            return False
        rows = last_update(self.path / "progress.csv")
        return agent.num_timesteps >= self.settings.total_timesteps and rows in (None, agent.n_updates)

    def train(self, callbacks: Sequence[Callback] = (), failures: Failures | None = None) -> TRPO:
        """Train to the end, writing everything down; returns the agent.

        What can't be written at its time doesn't end training: it is said, at once and again at the end,
        and tried again.

        Parameters
        ----------
        callbacks : sequence of callables
            As in :meth:`TRPO.learn`.
        failures : Failures, optional
            Told what can't be written; unless given, these are warnings.

        Raises
        ------
        RuntimeError
            If another process is training in this directory, or has done so since the run was read.
        OSError
            If the directory can't be written from the outset.
        """
        failures = failures or Failures(_warn)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_locked(self.path))
            if _kept(self.path) != self._seen:
                raise RuntimeError(f"another process has trained in {self.path} meanwhile: resume it again")
            stack.callback(lambda: setattr(self, "_seen", _kept(self.path)))
            for left in [*_parts(self.path), *self._ahead()]:
                left.unlink()
            (self.path / "checkpoints").mkdir(exist_ok=True)
            self._write_settings()
            settings, agent = self.settings, self.agent
            keeper = stack.enter_context(
                Keeper(self.path, agent, settings.env, settings.eval_episodes, settings.env_timeout, failures)
            )
            remaining = settings.total_timesteps - agent.num_timesteps
            if remaining > 0:
                agent.learn(remaining, callback=[keeper, *callbacks], reset_num_timesteps=False)
            keeper.finish()
        failures.sum_up()
        return self.agent

    def _ahead(self) -> list[Path]:
        """Checkpoints that could not be read, whose rows are about to be written once more."""
        found = [path for path in checkpoints(self.path) if int(path.stem) > self.agent.n_updates]
        return [path for path in found if path.is_symlink() or not path.is_dir()]

    def _write_settings(self) -> None:
        """Write down what is asked for now, so that the next to resume need not say it."""
        file = self.path / "config.json"
        described = json.loads(file.read_text())
        now = described | _variable(self.settings)
        if now != described:
            _write_text(file, _as_json(now))


def _kept(directory: Path) -> dict[str, int]:
    """The checkpoints of a run, and when they were written."""
    found = {}
    for path in checkpoints(directory):
        with contextlib.suppress(FileNotFoundError):  # another process may be training
            found[path.name] = path.lstat().st_mtime_ns
    return found


def _variable(settings: RunSettings) -> dict[str, Any]:
    """What a run that is resumed may be given anew."""
    return {"total_timesteps": settings.total_timesteps, "env_timeout": settings.env_timeout}


def _warn(line: str) -> None:
    warnings.warn(line, RuntimeWarning, stacklevel=2)


def _write_text(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()))


_LOCK = ".lock"
_FIGURES = ("progress.csv", "evaluations.csv", "events.out.tfevents.*")


def _own_files(directory: Path) -> Iterator[Path]:
    """What a run writes, and nothing else, but for config.json, which another run's takes the place of."""
    yield from directory.glob("agent.npz")
    yield from directory.glob("best.npz")
    yield from checkpoints(directory)
    for pattern in _FIGURES:
        yield from directory.glob(pattern)


def _parts(directory: Path) -> Iterator[Path]:
    """What processes leave that are killed while they write."""
    for pattern in ("*.npz", "*.csv", "config.json", "checkpoints/*.npz"):
        yield from directory.glob(f"{pattern}.*.part")


def _is_taken(directory: Path) -> bool:
    """Whether there is anything but what a process leaves that was killed before it began."""
    if not directory.is_dir():
        return directory.exists()
    return any(path.name != _LOCK and path.suffix != ".part" for path in directory.iterdir())


def _holds_run(directory: Path) -> bool:
    try:
        return bool(json.loads(read_text(directory / "config.json"))["format"] == FORMAT)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _last_agent(directory: Path, described: Description) -> TRPO | None:
    """The agent of the last checkpoint that can be read; None if the run has not come to its first."""
    damaged: list[UnreadableFileError] = []
    paths = checkpoints(directory)
    for path in reversed(paths):
        try:
            agent = TRPO.load(path)
            if (agent.config, agent.entropy) != (described.config, described.entropy):
                raise UnreadableFileError(f"{path} is of another run than config.json")
        except UnreadableFileError as error:
            damaged.append(error)
            continue
        if damaged:
            lost = int(paths[-1].stem) - agent.n_updates
            warnings.warn(
                f"{damaged[0]}; going on from {path.name}, the one before: the {lost} updates between "
                f"them, and any after them, are lost and will be made again",
                RuntimeWarning,
                stacklevel=3,
            )
        return agent
    if damaged:
        raise UnreadableFileError(f"{directory} has no checkpoint that can be read: {damaged[0]}")
    return None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of a directory; the system lifts the lock when this process ends."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows, where runs are on their own
        yield
        return
    check_links(directory)
    with open(directory / _LOCK, "ab", opener=unfollowed) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(f"another process is training in {directory}") from error
        yield


def _as_json(description: dict[str, Any]) -> str:
    return json.dumps(description, indent=2) + "\n"


def _description(settings: RunSettings, config: TRPOConfig, agent: TRPO) -> str:
    """What config.json holds."""
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "env": settings.env,
        "eval_episodes": settings.eval_episodes,
        **_variable(settings),
        "config": config.to_dict(),
        "entropy": str(agent.entropy),
        "versions": versions(),
        "commit": _commit(),
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        },
    }
    return _as_json(description)


def _commit() -> str | None:
    """The commit of the working directory's repository, with a + if files have changed since."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None
