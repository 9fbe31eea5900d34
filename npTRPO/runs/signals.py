"""Stopping at a signal, between two updates."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

from npTRPO.agent.record import Record

__all__ = ["Interruption"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """SIGINT and SIGTERM stop training after the update under way; a second one stops it at once.

    A context manager, which catches the signals, and a callback, which stops. A second signal raises
    KeyboardInterrupt, and a third ends the process. Signals that were ignored stay so, and in a thread, where
    they don't come, it does nothing.

    Attributes
    ----------
    signal : signal.Signals or None
        The one that came last.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Interruption:
        """Catch the signals from now on."""
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
            self._before = {number: signal.signal(number, self._catch) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the signals to who had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, record: Record) -> bool:
        """False, to stop, once a signal has come."""
        return self.signal is None

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that an environment has forked
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        first, self.signal = self.signal is None, signal.Signals(number)
        if first:
            # Not by print, which the signal may have come in the middle of.
            said = f"\nnptrpo: {self.signal.name}: stopping after this update; a second one stops at once\n"
            with contextlib.suppress(OSError):
                os.write(2, said.encode())
            return
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt
