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
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npTRPO.agent.callbacks import EvalCallback
from npTRPO.agent.checkpoint import CheckpointError, versions
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.files import Table, kept_rows, write_whole
from npTRPO.agent.logging import TensorBoardWriter, metrics
from npTRPO.agent.trpo import TRPO, Callback, Record

__all__ = ["RunDirectory", "RunSettings"]

FORMAT = "npTRPO run"
KEPT_CHECKPOINTS = 2


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
    """

    env: str
    total_timesteps: int
    eval_episodes: int = 10


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

    def __init__(self, path: Path, settings: RunSettings, agent: TRPO) -> None:
        self.path = path
        self.settings = settings
        self.agent = agent

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
    def resume(cls, path: str | os.PathLike[str], total_timesteps: int | None = None) -> RunDirectory:
        """Go on with a run from its last checkpoint, to ``total_timesteps`` if that is given.

        Warns
        -----
        RuntimeWarning
            If the last checkpoint is damaged, and the one before must do; the message says what is lost.

        Raises
        ------
        CheckpointError
            If the directory isn't a run's, or is damaged beyond use.
        """
        directory = Path(path)
        try:
            described = json.loads((directory / "config.json").read_text())
            if described["format"] != FORMAT:
                raise CheckpointError(f"{directory} isn't a run directory: its config.json isn't npTRPO's")
            settings = RunSettings(
                env=str(described["env"]),
                total_timesteps=int(total_timesteps or described["total_timesteps"]),
                eval_episodes=int(described["eval_episodes"]),
            )
            config = TRPOConfig.from_dict(described["config"])
            entropy = int(described["entropy"])
        except FileNotFoundError as error:
            raise CheckpointError(f"{directory} isn't a run directory: it has no config.json") from error
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{directory / 'config.json'} can't be read: {error}") from error
        agent = _last_agent(directory)
        if agent is None:
            agent = TRPO("MlpPolicy", settings.env, config, entropy=entropy)
        else:
            agent.set_env(settings.env)
        return cls(directory, settings, agent)

    @property
    def finished(self) -> bool:
        """Whether agent.npz holds an agent that has taken all the steps."""
        try:
            return TRPO.load(self.path / "agent.npz").num_timesteps >= self.settings.total_timesteps
        except CheckpointError:
            return False

    def train(self, callbacks: Sequence[Callback] = ()) -> TRPO:
        """Train to the end, writing everything down; returns the agent.

        Raises
        ------
        RuntimeError
            If another process is training in this directory.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(_locked(self.path))
            for part in _parts(self.path):
                part.unlink()
            (self.path / "checkpoints").mkdir(exist_ok=True)
            self._write_total()
            keeper = stack.enter_context(_Keeper(self))
            remaining = self.settings.total_timesteps - self.agent.num_timesteps
            if remaining > 0:
                self.agent.learn(remaining, callback=[keeper, *callbacks], reset_num_timesteps=False)
            self.agent.save(self.path / "agent.npz")
        return self.agent

    def _write_total(self) -> None:
        """Write down how many steps are asked for now, so that the next to resume need not say it."""
        file = self.path / "config.json"
        described = json.loads(file.read_text())
        if described["total_timesteps"] != self.settings.total_timesteps:
            described["total_timesteps"] = self.settings.total_timesteps
            _write_text(file, _as_json(described))


class _Keeper:
    """Writes a run down as it goes on: the context manager opens the files, the callback fills them."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.interval = run.agent.config.checkpoint_interval
        done = run.agent.n_updates
        self.time_before = max(kept_rows(run.path / "progress.csv", done, "time_elapsed"), default=0.0)
        self.evaluation = EvalCallback(
            run.settings.env,
            n_eval_episodes=max(1, run.settings.eval_episodes),
            best_model_save_path=run.path / "best.npz",
        )
        means = kept_rows(run.path / "evaluations.csv", done, "mean_return")
        self.evaluation.best_mean_reward = max(means, default=-math.inf)

    def __enter__(self) -> _Keeper:
        self.files = contextlib.ExitStack()
        self.progress = self.files.enter_context(Table(self.run.path / "progress.csv"))
        self.evaluations = self.files.enter_context(Table(self.run.path / "evaluations.csv"))
        self.tensorboard = None
        if importlib.util.find_spec("tensorboardX") is not None:
            self.tensorboard = TensorBoardWriter(
                os.fspath(self.run.path), purge_step=self.run.agent.num_timesteps + 1
            )
            self.files.callback(self.tensorboard.close)
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def __call__(self, record: Record) -> None:
        figures = metrics(record)
        figures["time_elapsed"] = record.time_elapsed + self.time_before
        self.progress.write(figures)
        if self.tensorboard is not None:
            self.tensorboard(record)
        if self.interval is None or record.n_updates % self.interval:
            return
        if self.run.settings.eval_episodes:
            self.evaluation.evaluate(record)
            steps, mean, std = self.evaluation.evaluations[-1]
            self.evaluations.write(
                {
                    "n_updates": record.n_updates,
                    "num_timesteps": steps,
                    "mean_return": mean,
                    "std_return": std,
                }
            )
        for table in (self.progress, self.evaluations):  # a checkpoint never gets ahead of its rows
            table.sync()
        directory = self.run.path / "checkpoints"
        record.agent.save(directory / f"{record.n_updates:09d}.npz")
        for old in _checkpoints(self.run.path)[:-KEPT_CHECKPOINTS]:
            old.unlink()


def _write_text(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()))


_LOCK = ".lock"
_FIGURES = ("progress.csv", "evaluations.csv", "events.out.tfevents.*")
_CHECKPOINT = "checkpoints/" + 9 * "[0-9]" + ".npz"


def _own_files(directory: Path) -> Iterator[Path]:
    """What a run writes, and nothing else, but for config.json, which another run's takes the place of."""
    for pattern in ("agent.npz", "best.npz", _CHECKPOINT, *_FIGURES):
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
        return bool(json.loads((directory / "config.json").read_text())["format"] == FORMAT)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _checkpoints(directory: Path) -> list[Path]:
    """Oldest first."""
    return sorted(directory.glob(_CHECKPOINT))


def _last_agent(directory: Path) -> TRPO | None:
    """The agent of the last checkpoint that can be read; None if the run has not come to its first."""
    damaged: list[CheckpointError] = []
    paths = _checkpoints(directory)
    for path in reversed(paths):
        try:
            agent = TRPO.load(path)
        except CheckpointError as error:
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
        raise CheckpointError(f"{directory} has no checkpoint that can be read: {damaged[0]}")
    return None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of a directory; the system lifts the lock when this process ends."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows, where runs are on their own
        yield
        return
    with (directory / _LOCK).open("w") as file:
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
        "env": settings.env,
        "total_timesteps": settings.total_timesteps,
        "eval_episodes": settings.eval_episodes,
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
