"""Run directories: a training run on disk, that can be watched, killed, and picked up again.

::

    config.json          what was asked for, and with which versions, seed, commit and machine
    progress.csv         a row per update
    evaluations.csv      a row per evaluation
    checkpoints/         the agent at the last two checkpoint boundaries
    best.npz             the agent with the best evaluation
    agent.npz            the agent at the end
    events.*             for TensorBoard, where tensorboardX is installed

At a checkpoint boundary the environments start afresh and all random numbers follow from the seed and
the number of updates. So a run that is killed and resumed ends in the same bits as one that wasn't.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npTRPO.agent.callbacks import EvalCallback
from npTRPO.agent.checkpoint import CheckpointError, versions, write_whole
from npTRPO.agent.config import TRPOConfig
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

        Raises
        ------
        FileExistsError
            If the directory holds files, unless ``overwrite``.
        """
        directory = Path(path)
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())) and not overwrite:
            raise FileExistsError(
                f"{directory} exists already: go on with --resume {directory}, begin again with --overwrite, "
                f"or choose another --out"
            )
        agent = TRPO("MlpPolicy", settings.env, config)
        (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
        if overwrite:
            for old in _own_files(directory):
                old.unlink()
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
        _write_text(directory / "config.json", json.dumps(description, indent=2) + "\n")
        return cls(directory, settings, agent)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], total_timesteps: int | None = None) -> RunDirectory:
        """Go on with a run from its last checkpoint, to ``total_timesteps`` if that is given.

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
        newest = max(directory.glob("checkpoints/*.npz"), default=None)
        if newest is None:
            agent = TRPO("MlpPolicy", settings.env, config, entropy=entropy)
        else:
            agent = TRPO.load(newest, env=settings.env)
        return cls(directory, settings, agent)

    @property
    def finished(self) -> bool:
        """Whether the agent has taken all its steps."""
        return self.agent.num_timesteps >= self.settings.total_timesteps

    def train(self, callbacks: Sequence[Callback] = ()) -> TRPO:
        """Train to the end, writing everything down; returns the agent.

        Raises
        ------
        RuntimeError
            If another process is training in this directory.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(_locked(self.path))
            (self.path / "checkpoints").mkdir(exist_ok=True)
            keeper = stack.enter_context(_Keeper(self))
            remaining = self.settings.total_timesteps - self.agent.num_timesteps
            if remaining > 0:
                self.agent.learn(remaining, callback=[keeper, *callbacks], reset_num_timesteps=False)
            self.agent.save(self.path / "agent.npz")
        return self.agent


class _Keeper:
    """Writes a run down as it goes on: the context manager opens the files, the callback fills them."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.interval = run.agent.config.checkpoint_interval
        done = run.agent.n_updates
        rows = _kept_rows(run.path / "progress.csv", done)
        self.time_before = max((float(row["time_elapsed"]) for row in rows), default=0.0)
        self.evaluation = EvalCallback(
            run.settings.env,
            n_eval_episodes=max(1, run.settings.eval_episodes),
            best_model_save_path=run.path / "best.npz",
        )
        means = [float(row["mean_return"]) for row in _kept_rows(run.path / "evaluations.csv", done)]
        self.evaluation.best_mean_reward = max(means, default=-math.inf)

    def __enter__(self) -> _Keeper:
        self.files = contextlib.ExitStack()
        self.progress = self.files.enter_context(_Table(self.run.path / "progress.csv"))
        self.evaluations = self.files.enter_context(_Table(self.run.path / "evaluations.csv"))
        self.tensorboard = None
        if importlib.util.find_spec("tensorboardX") is not None:
            self.tensorboard = TensorBoardWriter(os.fspath(self.run.path))
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
        directory = self.run.path / "checkpoints"
        record.agent.save(directory / f"{record.n_updates:09d}.npz")
        for old in sorted(directory.glob("*.npz"))[:-KEPT_CHECKPOINTS]:
            old.unlink()


class _Table:
    """A CSV file that is appended to, row by row."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> _Table:
        self._empty = not self.path.exists() or self.path.stat().st_size == 0
        self._file = self.path.open("a", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        writer = csv.DictWriter(self._file, list(row))
        if self._empty:
            writer.writeheader()
            self._empty = False
        writer.writerow(row)
        self._file.flush()


def _kept_rows(path: Path, n_updates: int) -> list[dict[str, str]]:
    """Rows up to an update; the file is cut down to them, for what follows will be written again."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        rows = [row for row in reader if _is_whole(row) and int(row["n_updates"]) <= n_updates]
    text = io.StringIO()
    if columns and rows:
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
    _write_text(path, text.getvalue())
    return rows


def _is_whole(row: dict[str, Any]) -> bool:
    """Whether a row was written to its end."""
    return None not in row.values() and None not in row and str(row.get("n_updates", "")).isdigit()


def _write_text(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()))


def _own_files(directory: Path) -> Iterator[Path]:
    """What a run writes, and nothing else."""
    for pattern in ("*.csv", "config.json", "*.npz", "checkpoints/*.npz", "events.out.tfevents.*"):
        yield from directory.glob(pattern)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of a directory; the system lifts the lock when this process ends."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows, where runs are on their own
        yield
        return
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(f"another process is training in {directory}") from error
        yield


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
