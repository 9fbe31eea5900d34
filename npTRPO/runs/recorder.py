"""Record a run on disk while it trains; what can't be written is reported and tried again."""

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
from npTRPO.files.tables import Table, cut_after
from npTRPO.runs.settings import RunSettings

KEPT_CHECKPOINTS = 2
EVALUATION_STEPS = 100_000
"""Steps after which an episode of an evaluation is cut, as some never end."""

_CHECKPOINT = 9 * "[0-9]" + ".npz"


def checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of the run in a directory, oldest first."""
    return sorted((directory / "checkpoints").glob(_CHECKPOINT))


class Failures:
    """Report what could not be written: when it begins, when it ends, and all of it at the end of the run.

    Parameters
    ----------
    report : callable
        Given a line of text.

    Attributes
    ----------
    lines : list of str
        All that was reported.
    """

    def __init__(self, report: Callable[[str], object]) -> None:
        self._report = report
        self._failing: set[str] = set()
        self.lines: list[str] = []

    def attempt(self, what: str, update: int | None, write: Callable[[], object]) -> bool:
        """Call ``write``, after an update or at the end; returns whether it succeeded.

        Only a reader that has gone away ends training.
        """
        when, rest = (f"after update {update}", "; training goes on") if update else ("at the end", "")
        line = ""
        try:
            write()
        except BrokenPipeError:
            raise
        except OSError as error:
            if what not in self._failing:
                line = f"{what} can't be written {when} ({error.strerror or error})"
            self._failing.add(what)
        else:
            if what in self._failing:
                line = f"{what} is written again {when}"
            self._failing.discard(what)
        if line:
            self.lines.append(line)
            self._report(line + rest)
        return what not in self._failing

    def guarded(self, what: str, callback: Callback) -> Callback:
        """Return a callback that may fail to write."""

        def attempt(record: Record) -> None:
            self.attempt(what, record.n_updates, lambda: callback(record))

        return attempt

    @property
    def missing(self) -> list[str]:
        """What is still not written."""
        return sorted(self._failing)

    def summarize(self) -> None:
        """Report all of it once more, if there is anything."""
        if self.lines:
            now = f"still missing: {', '.join(self.missing)}" if self.missing else "nothing is missing now"
            self._report(f"not all could be written in time: {'; '.join(self.lines)}; {now}")


class _Backlog:
    """Things to write in order, until they are written."""

    def __init__(self, what: str, failures: Failures) -> None:
        self.what = what
        self.failures = failures
        self.waiting: deque[Callable[[], object]] = deque()

    def add(self, write: Callable[[], object]) -> None:
        self.waiting.append(write)

    def flush(self, update: int | None) -> bool:
        """Write what waits; returns whether all of it is written."""
        return self.failures.attempt(self.what, update, self._write)

    def _write(self) -> None:
        while self.waiting:
            self.waiting[0]()
            self.waiting.popleft()


class Recorder:
    """Record a run as it goes on: the context manager opens the files, the callback fills them.

    Parameters
    ----------
    path : pathlib.Path
        The run's directory.
    agent : TRPO
        As far as it has learned; rows that are ahead of it are removed.
    settings : RunSettings
        The environment to evaluate in, how often, and how long its steps may take.
    failures : Failures
        Reports what can't be written.
    """

    def __init__(self, path: Path, agent: TRPO, settings: RunSettings, failures: Failures) -> None:
        self.path = path
        self.agent = agent
        self.failures = failures
        self.evaluates = settings.eval_episodes > 0
        self.evaluation = EvalCallback(
            settings.maker,
            n_eval_episodes=max(1, settings.eval_episodes),
            max_episode_steps=EVALUATION_STEPS,
            env_timeout=settings.env_timeout,
        )
        times = cut_after(path / "progress.csv", "time_elapsed", "n_updates", agent.n_updates)
        means = cut_after(path / "evaluations.csv", "mean_return", "n_updates", agent.n_updates)
        self.time_before = max(times, default=0.0)
        self.evaluation.best_mean_reward = max(means, default=-math.inf)
        self._rows = _Backlog("progress.csv", failures)
        self._evaluated = _Backlog("evaluations.csv or best.npz", failures)
        self._events = _Backlog("the TensorBoard events", failures)

    def __enter__(self) -> Recorder:
        with contextlib.ExitStack() as files:
            self.progress = files.enter_context(Table(self.path / "progress.csv"))
            self.evaluations = files.enter_context(Table(self.path / "evaluations.csv"))
            self.tensorboard = None
            if importlib.util.find_spec("tensorboardX") is not None:
                purge_step = self.agent.num_timesteps + 1
                self.tensorboard = TensorBoardWriter(os.fspath(self.path), purge_step=purge_step)
                files.callback(self.tensorboard.close)
            self.files = files.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def __call__(self, record: Record) -> None:
        """Record an update, and at a checkpoint boundary evaluate and save the agent."""
        figures = metrics(record)
        figures["time_elapsed"] = record.time_elapsed + self.time_before
        self._rows.add(lambda: self.progress.write(figures))
        boundary = self.agent.resets.due(record.n_updates, self.agent.config.checkpoint_interval)
        if boundary and self.evaluates:
            self._evaluate(record)
        if self.tensorboard is not None:
            writer, events = self.tensorboard, self.tensorboard.encoded(record)
            self._events.add(lambda: writer.append(events))
        written = self.flush(record.n_updates)
        if boundary and written:  # a checkpoint never gets ahead of its rows
            self.failures.attempt("the checkpoint", record.n_updates, lambda: self._save(record))

    def flush(self, update: int | None) -> bool:
        """Write what waits, after an update or at the end; returns whether all rows are written."""
        self._events.flush(update)
        rows, evaluated = self._rows.flush(update), self._evaluated.flush(update)
        return rows and evaluated

    def _evaluate(self, record: Record) -> None:
        best = self.evaluation.best_mean_reward
        self.evaluation.evaluate(record)
        steps, mean, std = self.evaluation.evaluations[-1]
        row = {"n_updates": record.n_updates, "num_timesteps": steps, "mean_return": mean, "std_return": std}
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
