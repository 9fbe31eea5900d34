"""Logs of training: figures by name, lines of them, a progress bar, TensorBoard events."""

import contextlib
import glob
import math
import os
import platform
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from npTRPO.agent.record import Agent, Callback, Record, checked_callback
from npTRPO.files.writing import append_whole


def metrics(record: Record) -> dict[str, int | float | str]:
    """Return the figures of a record by name, as ``progress.csv`` holds them.

    Examples
    --------
    >>> from npTRPO import TRPO
    >>> [record] = TRPO("MlpPolicy", "CartPole-v1", seed=0).updates(2048)
    >>> figures = metrics(record)
    >>> figures["num_timesteps"], figures["outcome"], figures["kl"] <= figures["target_kl"]
    (2048, 'IMPROVED', True)
    """
    update = record.update
    cg, search = update.cg, update.line_search
    of_record = ("n_updates", "num_timesteps", "time_elapsed", "steps_per_second")
    return {
        **{name: getattr(record, name) for name in (*of_record, "episode_return", "episode_length")},
        "kl": update.kl,
        "target_kl": record.agent.config.target_kl,
        "predicted_improvement": update.predicted_improvement,
        "improvement": update.improvement,
        "entropy": update.entropy,
        "explained_variance": update.explained_variance,
        "cg_iterations": cg.iterations if cg else 0,
        "cg_residual": cg.residual_norm / update.gradient_norm if cg else float("nan"),
        "line_search_tries": search.tries if search else 0,
        "step_fraction": search.fraction if search else 0.0,
        "gradient_norm": update.gradient_norm,
        "step_norm": update.step_norm,
        "outcome": update.outcome.name,
    }


# Name and width of each column, and its figure with the format.
_COLUMNS = (
    ("steps", 11, "num_timesteps", ","),
    ("return", 9, "episode_return", ".1f"),
    ("length", 7, "episode_length", ".0f"),
    ("KL", 9, "kl", ".5f"),
    ("predicted", 10, "predicted_improvement", ".5f"),
    ("improved", 9, "improvement", ".5f"),
    ("CG resid.", 10, "cg_residual", ".1e"),
    ("tries", 6, "line_search_tries", ""),
    ("expl.var.", 10, "explained_variance", ".3f"),
    ("entropy", 8, "entropy", ".3f"),
    ("steps/s", 9, "steps_per_second", ",.0f"),
)


def header() -> str:
    """Return the line of the columns' names."""
    return "".join(f" {name:>{width - 1}}" for name, width, *_ in _COLUMNS)


def format_metrics(figures: dict[str, Any]) -> str:
    """Return the figures of an update as a line under :func:`header`."""
    return "".join(f" {figures[key]:{form}}".rjust(width) for _, width, key, form in _COLUMNS)


def evaluated(record: Record) -> list[str]:
    """Return mean ± standard deviation of the returns in each evaluation after an update."""
    return [f"{mean:.1f} ± {std:.1f}" for mean, std in record.evaluations]


def printer(log_interval: int = 1) -> Callback:
    """Return a callback that prints the header, and then a line every ``log_interval`` updates.

    Evaluations have lines of their own.
    """
    if log_interval < 1:
        raise ValueError(f"log_interval must be at least 1, not {log_interval}")
    started = False

    def show(record: Record) -> None:
        nonlocal started
        if not started:
            print(header(), flush=True)
            started = True
        if record.n_updates % log_interval == 0:
            print(format_metrics(metrics(record)), flush=True)
        for evaluation in evaluated(record):
            print(f"{'eval':>11} {evaluation}", flush=True)

    return show


class ProgressBar:
    """Show a bar with return, last evaluation, KL against δ, speed and time left; or plain lines without one.

    The lines are those of :func:`printer`, where output is no terminal.

    Use as a context manager and as a callback.

    Parameters
    ----------
    total_timesteps : int
        Steps at which the bar is full.
    done : int
        Steps taken before.
    log_interval : int
        Updates between two plain lines.

    Raises
    ------
    ModuleNotFoundError
        On a terminal without the ``progress`` extra.
    """

    def __init__(self, total_timesteps: int, done: int = 0, log_interval: int = 1) -> None:
        self._line: Callback | None = None
        if not sys.stdout.isatty():
            self._line = printer(log_interval)
            return
        try:
            from rich import progress
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'the progress bar needs rich: pip install "npTRPO[progress]"'
            ) from error
        self._bar = progress.Progress(
            progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            progress.BarColumn(),
            progress.TextColumn(
                "return {task.fields[reward]}  {task.fields[evaluation]}KL {task.fields[kl]}"
            ),
            progress.TextColumn("{task.fields[speed]} steps/s"),
            progress.TimeRemainingColumn(),
        )
        none_yet: dict[str, Any] = dict.fromkeys(("reward", "kl", "speed"), "–")
        none_yet["evaluation"] = ""
        self._task = self._bar.add_task("", total=total_timesteps, completed=done, **none_yet)

    @property
    def plain(self) -> bool:
        """Whether lines are printed, as there is no terminal."""
        return self._line is not None

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._line is None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it is and give the terminal back."""
        if self._line is None:
            self._bar.stop()

    def __call__(self, record: Record) -> None:
        """Move the bar."""
        if self._line is not None:
            self._line(record)
            return
        figures = metrics(record)
        for evaluation in evaluated(record):
            self._bar.update(self._task, evaluation=f"eval {evaluation}  ")
        self._bar.update(
            self._task,
            completed=record.num_timesteps,
            reward="–" if math.isnan(record.episode_return) else f"{record.episode_return:.1f}",
            kl=f"{figures['kl']:.4f}/{figures['target_kl']:g}",
            speed=f"{figures['steps_per_second']:,.0f}",
        )


_TENSORBOARD_NAMES = {
    "rollout/ep_rew_mean": "episode_return",
    "rollout/ep_len_mean": "episode_length",
    "time/fps": "steps_per_second",
    "train/kl_divergence_loss": "kl",
    "train/policy_objective": "improvement",
    "train/predicted_improvement": "predicted_improvement",
    "train/explained_variance": "explained_variance",
    "train/entropy": "entropy",
    "train/cg_residual": "cg_residual",
    "train/line_search_tries": "line_search_tries",
}


def _numbered(directory: str | os.PathLike[str], name: str, *, new: bool) -> Path:
    """Return the last of ``directory/name_1``, ``name_2``, … that is there, or the next one if ``new``."""
    if not isinstance(name, str):
        raise TypeError(f"tb_log_name must be a string, not {name!r}")
    base = Path(directory) / name
    others = base.parent.glob(f"{glob.escape(base.name)}_*")
    ends = [path.name.removeprefix(f"{base.name}_") for path in others]
    last = max((int(end) for end in ends if end.isdecimal()), default=0)
    return base.with_name(f"{base.name}_{max(last + new, 1)}")


class TensorBoardWriter:
    """Write events for TensorBoard, as a callback, under the names that Stable-Baselines3 uses.

    Events are written at once, and not by tensorboardX's own writer, whose thread waits for ever once a disk
    is full, and loses what it holds when the process is killed.

    Parameters
    ----------
    directory : path
        Directory for a new file of events.
    purge_step : int, optional
        Hide what earlier files hold from this step on, as it will be written again.

    Raises
    ------
    ModuleNotFoundError
        Without the ``tensorboard`` extra.
    """

    def __init__(self, directory: str | os.PathLike[str], purge_step: int | None = None) -> None:
        try:
            from tensorboardX import summary
            from tensorboardX.proto import event_pb2
            from tensorboardX.record_writer import masked_crc32c
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'TensorBoard needs tensorboardX: pip install "npTRPO[tensorboard]"'
            ) from error
        self._checksum, self._event, self._scalar = masked_crc32c, event_pb2.Event, summary.scalar
        Path(directory).mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names, and one may follow another within a second.
        name = f"events.out.tfevents.{time.time():.6f}.{platform.node()}.{os.getpid()}"
        self._file = (Path(directory) / name).open("ab", buffering=0)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        purge = [] if purge_step is None else [{"step": purge_step, "session_log": start}]
        try:
            self.append(self._records({"file_version": "brain.Event:2"}, *purge))
        except OSError:
            self._file.close()
            raise

    def __call__(self, record: Record) -> None:
        """Write the figures of an update."""
        self.append(self.encoded(record))

    def encoded(self, record: Record) -> bytes:
        """Return the figures of an update as they are written to the file."""
        figures, step = metrics(record), record.num_timesteps
        named = {name: figures[key] for name, key in _TENSORBOARD_NAMES.items()}
        there = [self._scalar(name, x) for name, x in named.items() if x == x]  # NaN stands for "none yet"
        there += [self._scalar(f"rollout/{name}", x) for name, x in record.metrics.items()]
        there += [self._scalar("eval/mean_reward", mean) for mean, _ in record.evaluations]
        return self._records(*({"step": step, "summary": scalar} for scalar in there))

    def append(self, records: bytes) -> None:
        """Append bytes that :meth:`encoded` returned."""
        append_whole(self._file, records)

    def _records(self, *events: dict[str, Any]) -> bytes:
        """Return events as TFRecords: length, its checksum, content, its checksum."""
        records = bytearray()
        for content in events:
            event = self._event(wall_time=time.time(), **content).SerializeToString()
            for part in (struct.pack("<Q", len(event)), event):
                records += part + struct.pack("<I", self._checksum(part))
        return bytes(records)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextlib.contextmanager
def listeners(
    agent: Agent,
    callback: Callback | Sequence[Callback] | None,
    total_timesteps: int,
    log_interval: int,
    tb_log_name: str,
    reset_num_timesteps: bool,
    progress_bar: bool,
) -> Iterator[list[Callback]]:
    """Yield the callbacks that the arguments of :meth:`TRPO.learn` ask for, the user's own first.

    Their files and the bar are closed at the end.

    Raises
    ------
    TypeError
        If a callback isn't callable.
    """
    callbacks: list[Any] = []
    if callable(callback) or not isinstance(callback, Iterable):
        callbacks += [] if callback is None else [callback]
    else:
        callbacks += callback
    callbacks = [checked_callback(each) for each in callbacks]
    printing, done = bool(agent.verbose), 0 if reset_num_timesteps else agent.num_timesteps
    with contextlib.ExitStack() as stack:
        if progress_bar:
            bar = stack.enter_context(ProgressBar(done + total_timesteps, done, log_interval))
            callbacks.append(bar)
            printing = printing and not bar.plain
        if printing:
            callbacks.append(printer(log_interval))
        if agent.tensorboard_log is not None:
            directory = _numbered(agent.tensorboard_log, tb_log_name, new=reset_num_timesteps)
            writer = TensorBoardWriter(directory)
            stack.callback(writer.close)
            callbacks.append(writer)
        yield callbacks
