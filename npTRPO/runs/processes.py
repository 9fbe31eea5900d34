"""Several trainings at once, each a command in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO

from npTRPO.runs.signals import Interruption

# Seconds between two looks at the processes.
_PAUSE = 0.05
# What the command's own lines on stderr begin with.
_OWN = "nptrpo: "
_STOPPED = {128 + number for number in (signal.SIGINT, signal.SIGTERM)}
_STOPPED |= {-number for number in (signal.SIGINT, signal.SIGTERM)}  # before it caught signals


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Attributes
    ----------
    status : int
        Exit status of its process; −n if signal n killed it.
    said : str
        The last line that it wrote on stderr.
    """

    status: int
    said: str

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop by a signal, and did."""
        return self.status in _STOPPED

    @property
    def reason(self) -> str:
        """Why it failed."""
        if self.status < 0:
            return f"it was killed by signal {-self.status}"
        return self.said or f"it ended with status {self.status}"


class _Training:
    """A process that runs a command of ``nptrpo``, and what it writes.

    It is in a session of its own, so that a terminal's Ctrl-C reaches it through this process alone. Its
    output goes to a pipe: if this process is killed, it ends at the next line that it would print.
    """

    def __init__(self, words: Sequence[str], told: Callable[[str], object]) -> None:
        # It finds modules where this process does, which may not look in the current directory first.
        safe = [] if sys.path[:1] in ([""], [os.getcwd()]) else ["-P"]
        self._process = subprocess.Popen(
            [sys.executable, *safe, "-m", "npTRPO", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.line, self._last, self._told = "", "", told
        streams = (self._process.stdout, self._printed), (self._process.stderr, self._said)
        self._readers = [threading.Thread(target=_read, args=each, daemon=True) for each in streams]
        for reader in self._readers:
            reader.start()

    def _printed(self, line: str) -> None:
        if line[:1] == " " and line.lstrip()[:1].isdigit():  # the figures of an update
            self.line = line

    def _said(self, line: str) -> None:
        if line:
            self._tell()
            self._last = line

    def _tell(self) -> None:
        """Tell of the last line, if it is one of ``nptrpo``'s own; others are libraries' noise."""
        if self._last.startswith(_OWN):
            self._told(self._last.removeprefix(_OWN))

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ended(self, wait: bool = False) -> Ended | None:
        """Return how it ended, or None while it goes on."""
        if not wait and self._process.poll() is None:
            return None
        status = self._process.wait()
        for reader in self._readers:
            reader.join(1)  # the environments' own processes may have its output for longer
        if status == 0:
            self._tell()
        return Ended(status, self._last.removeprefix(_OWN))


def _read(stream: IO[str], use: Callable[[str], object]) -> None:
    with stream:
        for line in stream:
            use(line.rstrip())


def train_in_processes(
    commands: Mapping[str, Sequence[str]],
    at_once: int,
    interruption: Interruption,
    *,
    said: Callable[[str, str], object],
    ended: Callable[[str, Ended], object],
    shown: Callable[[Mapping[str, str]], object],
) -> None:
    """Run trainings, some at a time, until all have ended or a signal stops them.

    The first signal that ``interruption`` catches is passed on to those that run, and no more are begun; so
    is a second one. If anything else ends this, they are told to stop too. In each case it waits for them.

    Parameters
    ----------
    commands : dict
        The words of each command of ``nptrpo``, by the name of the training.
    at_once : int
        How many run at the same time.
    interruption : Interruption
        Catches signals.
    said : callable
        Given a training's name and a line that the command said on stderr, but for the one that says how a
        training ended that has not succeeded; called in other threads.
    ended : callable
        Given a training's name and how it ended.
    shown : callable
        Given, again and again, the last line of figures of each training that runs, by its name.
    """
    waiting, running = dict(commands), dict[str, _Training]()
    told = False
    try:
        while running or (waiting and interruption.signal is None):
            while waiting and len(running) < at_once and interruption.signal is None:
                name = next(iter(waiting))
                running[name] = _Training(waiting.pop(name), partial(said, name))
            if interruption.signal is not None and not told:
                told = True
                for training in running.values():
                    training.send(interruption.signal)
            for name, training in list(running.items()):
                outcome = training.ended()
                if outcome is not None:
                    del running[name]
                    ended(name, outcome)
            shown({name: training.line for name, training in running.items()})
            time.sleep(_PAUSE)
    except BaseException:
        for training in running.values():
            training.send(signal.SIGTERM if interruption.signal is None else interruption.signal)
        for name, training in running.items():
            outcome = training.ended(wait=True)
            if outcome is not None and interruption.signal is not None:
                ended(name, outcome)
        raise
