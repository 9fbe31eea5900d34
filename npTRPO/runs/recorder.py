"""Writing a run down as it goes on. What can't be written doesn't end it: it is said, and tried again."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from npTRPO.agent.callbacks import EvalCallback
from npTRPO.agent.checkpoint import write_checkpoint
from npTRPO.agent.logging import TensorBoardWriter, metrics
from npTRPO.agent.record import Callback, Record
from npTRPO.agent.trpo import TRPO
from npTRPO.files.writing import Table, kept_rows

__all__ = ["Failures", "Keeper", "checkpoints"]

KEPT_CHECKPOINTS = 2
EVALUATION_STEPS = 100_000
"""Steps after which an episode of an evaluation is cut, as some never end."""

_CHECKPOINT = 9 * "[0-9]" + ".npz"


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of the run in a directory, oldest first."""
    return sorted((directory / "checkpoints").glob(_CHECKPOINT))


class Failures:
    """What could not be written: said when it begins and when it ends, and remembered.

    Parameters
    ----------
    say : callable
        Given a line of text.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._failing: set[str] = set()
        self.lines: list[str] = []
        """All that was said."""

    def attempt(self, what: str, update: int | None, write: Callable[[], object]) -> bool:
        """Call ``write``, after an update or at the end; whether it succeeded.

        Only a reader that has gone away ends training.
        """
        when, rest = (f"after update {update}", "; training goes on") if update else ("at the end", "")
        try:
            write()
        except BrokenPipeError:
            raise
        except OSError as error:
            if what not in self._failing:
                self._failing.add(what)
                self._tell(f"{what} can't be written {when} ({error.strerror or error})", rest)
            return False
        if what in self._failing:
            self._failing.remove(what)
            self._tell(f"{what} is written again {when}", rest)
        return True

    def guarded(self, what: str, callback: Callback) -> Callback:
        """A callback that may fail to write."""

        def attempt(record: Record) -> None:
            self.attempt(what, record.n_updates, lambda: callback(record))

        return attempt

    @property
    def missing(self) -> list[str]:
        """What is still not written."""
        return sorted(self._failing)

    def _tell(self, line: str, rest: str) -> None:
        self.lines.append(line)
        self._say(line + rest)

    def sum_up(self) -> None:
        """Say all of it once more, if there is anything."""
        if self.lines:
            now = f"still missing: {', '.join(self.missing)}" if self.missing else "nothing is missing now"
            self._say(f"not all could be written in time: {'; '.join(self.lines)}; {now}")


class _Backlog:
    """Things to write in order, and what of them could not be written yet."""

    def __init__(self, what: str, failures: Failures) -> None:
        self.what = what
        self.failures = failures
        self.waiting: deque[Callable[[], object]] = deque()

    def add(self, write: Callable[[], object]) -> None:
        self.waiting.append(write)

    def flush(self, update: int | None) -> bool:
        """Write what waits; whether all of it is written."""
        return self.failures.attempt(self.what, update, self._write)

    def _write(self) -> None:
        while self.waiting:
            self.waiting[0]()
            self.waiting.popleft()


class Keeper:
    """Writes a run down as it goes on: the context manager opens the files, the callback fills them.

    Parameters
    ----------
    path : pathlib.Path
        The run's directory.
    agent : TRPO
        As far as it has learned; rows that are ahead of it are removed.
    env : str
        Id of the environment to evaluate in.
    eval_episodes : int
        Episodes per evaluation; 0 for none.
    env_timeout : float or None
        Seconds that the environments of an evaluation may take for a step.
    failures : Failures
        Told what can't be written.
    """

    def __init__(
        self,
        path: Path,
        agent: TRPO,
        env: str,
        eval_episodes: int,
        env_timeout: float | None,
        failures: Failures,
    ) -> None:
        self.path = path
        self.agent = agent
        self.eval_episodes = eval_episodes
        self.failures = failures
        self.interval = agent.config.checkpoint_interval
        self.time_before = max(kept_rows(path / "progress.csv", agent.n_updates, "time_elapsed"), default=0.0)
        self.evaluation = EvalCallback(
            env,
            n_eval_episodes=max(1, eval_episodes),
            max_episode_steps=EVALUATION_STEPS,
            env_timeout=env_timeout,
        )
        means = kept_rows(path / "evaluations.csv", agent.n_updates, "mean_return")
        self.evaluation.best_mean_reward = max(means, default=-math.inf)

    def __enter__(self) -> Keeper:
        with contextlib.ExitStack() as files:
            self._open(files)
            self.files = files.pop_all()
        self._rows = _Backlog("progress.csv", self.failures)
        self._evaluated = _Backlog("evaluations.csv or best.npz", self.failures)
        self._events = _Backlog("the TensorBoard events", self.failures)
        return self

    def _open(self, files: contextlib.ExitStack) -> None:
        self.progress = files.enter_context(Table(self.path / "progress.csv"))
        self.evaluations = files.enter_context(Table(self.path / "evaluations.csv"))
        self.tensorboard = None
        if importlib.util.find_spec("tensorboardX") is not None:
            self.tensorboard = TensorBoardWriter(
                os.fspath(self.path), purge_step=self.agent.num_timesteps + 1
            )
            files.callback(self.tensorboard.close)

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def __call__(self, record: Record) -> None:
        """Write an update down, and at a checkpoint boundary evaluate and save the agent."""
        figures = metrics(record)
        figures["time_elapsed"] = record.time_elapsed + self.time_before
        self._rows.add(lambda: self.progress.write(figures))
        if self.tensorboard is not None:
            writer, events = self.tensorboard, self.tensorboard.encoded(record)
            self._events.add(lambda: writer.append(events))
        boundary = self.interval is not None and record.n_updates % self.interval == 0
        if boundary and self.eval_episodes:
            self._evaluate(record)
        written = self.flush(record.n_updates)
        if boundary and written:  # a checkpoint never gets ahead of its rows
            self.failures.attempt("the checkpoint", record.n_updates, lambda: self._save(record))

    def flush(self, update: int | None) -> bool:
        """Write what waits, after an update or at the end; whether all rows are written."""
        self._events.flush(update)
        rows, evaluated = self._rows.flush(update), self._evaluated.flush(update)
        return rows and evaluated

    def _evaluate(self, record: Record) -> None:
        best = self.evaluation.best_mean_reward
        self.evaluation.evaluate(record)
        steps, mean, std = self.evaluation.evaluations[-1]
        row = {
            "n_updates": record.n_updates,
            "num_timesteps": steps,
            "mean_return": mean,
            "std_return": std,
        }
        if self.evaluation.best_mean_reward > best:
            best_agent = record.agent.checkpoint()
            self._evaluated.add(lambda: write_checkpoint(self.path / "best.npz", best_agent))
        self._evaluated.add(lambda: self.evaluations.write(row))

    def _save(self, record: Record) -> None:
        for table in (self.progress, self.evaluations):
            table.sync()
        record.agent.save(self.path / "checkpoints" / f"{record.n_updates:09d}.npz")
        self._remove_old()

    def finish(self) -> None:
        """Write what still waits, and the agent at the end."""
        self.flush(None)
        self.failures.attempt("agent.npz", None, lambda: self.agent.save(self.path / "agent.npz"))
        with contextlib.suppress(OSError):  # a process may have been killed before it did
            self._remove_old()

    def _remove_old(self) -> None:
        for old in checkpoints(self.path)[:-KEPT_CHECKPOINTS]:
            old.unlink()
