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

At a checkpoint boundary the environments start afresh, and all random numbers follow from the seed and
the number of updates. So a run that is killed and resumed ends in the same bits as one that wasn't. While no
episode has ended since the last boundary, the next is put off, so that long episodes end too: see
:class:`npTRPO.agent.resets.Resets`.
Files appear whole or not at all, and so do rows: what a killed process leaves can always be resumed.
A full disk doesn't end a run either: what can't be written is reported, kept, and tried again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.record import Callback
from npTRPO.agent.shards import limit_steps
from npTRPO.agent.trpo import TRPO
from npTRPO.files.errors import UnreadableFileError, reason
from npTRPO.files.tables import column_until
from npTRPO.files.writing import open_without_links
from npTRPO.runs.recorder import Failures, Recorder, checkpoints
from npTRPO.runs.settings import RunSettings, holds_run, read_config, update_config, write_config
from npTRPO.runs.validation import check_links, check_size, check_tables

_LOCK = ".lock"
# What a run writes, but for config.json, which another run's replaces, and checkpoints; and what is left of
# it by a process that is killed while it writes.
_FILES = ("agent.npz", "best.npz", "progress.csv", "evaluations.csv", "events.out.tfevents.*")
_PARTS = ("*.npz.*.part", "*.csv.*.part", "config.json.*.part", "checkpoints/*.npz.*.part")


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
        self._seen = _times(path) if seen is None else seen
        self.path = path
        self.settings = settings
        self.agent = agent
        if settings.env_timeout is not None and agent.env is not None:
            agent.env = limit_steps(agent.env, settings.env_timeout)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        settings: RunSettings,
        config: TRPOConfig,
        overwrite: bool = False,
        workers: int | str | None = None,
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
        workers : int or str, optional
            As in :class:`TRPO`; no file names them.

        Raises
        ------
        FileExistsError
            If the directory holds a run, unless ``overwrite``, or anything else.
        RuntimeError
            If another process is training in it.
        """
        directory = Path(path)
        if is_taken(directory) and not (overwrite and holds_run(directory)):
            way_out = (
                f"go on with --resume {directory}, begin again with --overwrite, or choose another --out"
                if holds_run(directory)
                else "it is no run directory, so choose another --out"
            )
            raise FileExistsError(f"{directory} exists already: {way_out}")
        agent = TRPO("MlpPolicy", settings.maker, config, workers=workers)
        config = agent.config
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory):
            for old in [*_found(directory, *_FILES, *_PARTS), *checkpoints(directory)]:
                old.unlink()
            write_config(directory, settings, config, agent.entropy)
        return cls(directory, settings, agent)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        total_timesteps: int | None = None,
        env_timeout: float | None = None,
        env: str | None = None,
        workers: int | str | None = None,
        env_kwargs: dict[str, Any] | None = None,
        wrappers: Sequence[str] | None = None,
    ) -> RunDirectory:
        """Go on with a run from its last checkpoint; ``total_timesteps`` and ``env_timeout`` may be new ones.

        So may ``workers``, which don't change what is learned.

        An environment whose id names a module, as "my_envs:Env-v0", must be given as ``env`` once more,
        unless the module is imported already, and so must wrappers always: none is imported or called because
        a file says so. ``env_kwargs`` may be given once more, too.

        Warns
        -----
        RuntimeWarning
            If the last checkpoint is damaged and the run goes on from the one before; the message says what
            is lost.

        Raises
        ------
        UnreadableFileError
            If the directory isn't a run's, or is damaged beyond use.
        """
        directory = Path(path)
        check_links(directory)
        seen = _times(directory)  # before any of it is read
        settings, config, entropy = read_config(directory, env, env_kwargs, wrappers)
        settings = dataclasses.replace(
            settings,
            total_timesteps=total_timesteps or settings.total_timesteps,
            env_timeout=env_timeout or settings.env_timeout,
        )
        agent = _last_agent(directory, config, entropy, workers)
        check_tables(directory, agent.n_updates if agent else 0)
        try:
            if agent is None:
                check_size(directory, settings.maker, config)
                agent = TRPO("MlpPolicy", settings.maker, config, entropy=entropy, workers=workers)
            else:
                agent.set_env(settings.maker)
        except UnreadableFileError:
            raise
        except Exception as error:  # of the environment's own too
            raise UnreadableFileError(
                f"{directory} can't go on in {settings.env}: {reason(error)}"
            ) from error
        return cls(directory, settings, agent, seen)

    @property
    def finished(self) -> bool:
        """Whether the agent at the end is there, and has taken all the steps."""
        return has_finished(self.path, self.settings.total_timesteps)

    def steps_kept(self) -> int:
        """Return the environment steps at the last checkpoint, where the run goes on if it ended now."""
        agent = None
        with contextlib.suppress(UnreadableFileError):  # which resuming will report
            agent = _last_agent(self.path, self.agent.config, self.agent.entropy)
        return agent.num_timesteps if agent else 0

    def steps_taken(self) -> int:
        """Return the environment steps that progress.csv knows of, some of which may be taken again."""
        return int(
            max(
                column_until(self.path / "progress.csv", "num_timesteps", "n_updates", sys.maxsize), default=0
            )
        )

    def train(self, callbacks: Sequence[Callback] = (), failures: Failures | None = None) -> TRPO:
        """Train to the end, writing everything down; returns the agent.

        What can't be written at its time doesn't end training: it is reported, at once and again at the
        end, and tried again.

        Parameters
        ----------
        callbacks : sequence of callables
            As in :meth:`TRPO.learn`.
        failures : Failures, optional
            Reports what can't be written; unless given, by warnings.

        Raises
        ------
        RuntimeError
            If another process is training in this directory, or has done so since the run was read.
        OSError
            If the directory can't be written from the outset.
        """
        failures = failures or Failures(_warn)
        settings, agent = self.settings, self.agent
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self.path))
            if _times(self.path) != self._seen:
                raise RuntimeError(f"another process has trained in {self.path} meanwhile: resume it again")
            stack.callback(lambda: setattr(self, "_seen", _times(self.path)))
            for left in [*_found(self.path, *_PARTS), *self._ahead()]:
                left.unlink()
            (self.path / "checkpoints").mkdir(exist_ok=True)
            update_config(self.path, settings)
            recorder = stack.enter_context(Recorder(self.path, agent, settings, failures))
            remaining = settings.total_timesteps - agent.num_timesteps
            if remaining > 0:
                agent.learn(remaining, callback=[recorder, *callbacks], reset_num_timesteps=False)
            recorder.finish()
        failures.summarize()
        return agent

    def _ahead(self) -> list[Path]:
        """Return checkpoints newer than the agent: they could not be read, and will be made again."""
        found = [path for path in checkpoints(self.path) if int(path.stem) > self.agent.n_updates]
        return [path for path in found if path.is_symlink() or not path.is_dir()]


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of a directory; the system lifts the lock when this process ends.

    Raises
    ------
    RuntimeError
        If another process has locked it.
    UnreadableFileError
        If a symbolic link is in the place of a file that a run writes to.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows, where nothing keeps a second process out
        yield
        return
    check_links(directory)
    with open(directory / _LOCK, "ab", opener=open_without_links) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(f"another process is training in {directory}") from error
        yield


def has_finished(directory: Path, total_timesteps: int) -> bool:
    """Return whether agent.npz holds an agent that has taken all the steps, and progress.csv its updates."""
    table = directory / "progress.csv"
    try:
        agent = TRPO.load(directory / "agent.npz")
        rows = column_until(table, "n_updates", "n_updates", sys.maxsize)
    except UnreadableFileError:
        return False
    recorded = rows[-1:] == [agent.n_updates] or not table.exists()
    return recorded and agent.num_timesteps >= total_timesteps


def _found(directory: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        yield from directory.glob(pattern)


def _times(directory: Path) -> dict[str, int]:
    """Return the modification time in ns of each checkpoint of a run, by file name."""
    found = {}
    for path in checkpoints(directory):
        with contextlib.suppress(FileNotFoundError):  # another process may be training
            found[path.name] = path.lstat().st_mtime_ns
    return found


def is_taken(directory: Path) -> bool:
    """Return whether a path holds more than what a process killed before it began leaves behind."""
    if not directory.is_dir():
        return directory.exists()
    return any(path.name != _LOCK and path.suffix != ".part" for path in directory.iterdir())


def _last_agent(
    directory: Path, config: TRPOConfig, entropy: int, workers: int | str | None = None
) -> TRPO | None:
    """Return the agent of the last checkpoint that can be read; None before the first checkpoint."""
    damaged: list[UnreadableFileError] = []
    paths = checkpoints(directory)
    for path in reversed(paths):
        try:
            agent = TRPO.load(path, workers=workers)
            if (agent.config, agent.entropy) != (config, entropy):
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


def _warn(line: str) -> None:
    warnings.warn(line, RuntimeWarning, stacklevel=2)
