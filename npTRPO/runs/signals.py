"""Stop at a signal, between two updates."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

from npTRPO.agent.record import Record

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Stop training at SIGINT or SIGTERM: after the update under way, at a second one at once.

    A context manager, which catches the signals, and a callback, which stops. A second signal raises
    KeyboardInterrupt, and a third ends the process. Signals that were ignored stay ignored. In a thread other
    than the main one, which gets no signals, it does nothing.

    Attributes
    ----------
    signal : signal.Signals or None
        The last one that came.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Interruption:
        """Catch the signals from now on."""
        if threading.current_thread() is threading.main_thread():
            caught = [each for each in _SIGNALS if signal.getsignal(each) not in (signal.SIG_IGN, None)]
            self._before = {number: signal.signal(number, self._catch) for number in caught}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, record: Record) -> bool:
        """Return False, which stops training, once a signal has come."""
        return self.signal is None

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that an environment has forked
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        first, self.signal = self.signal is None, signal.Signals(number)
        if first:
            # Not by print: the signal may have come in the middle of another one.
            said = f"\nnptrpo: {self.signal.name}: stopping after this update; a second one stops at once\n"
            with contextlib.suppress(OSError):
                os.write(2, said.encode())
            return
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt
