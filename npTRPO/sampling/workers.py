"""Objects that live in processes of their own, and whose methods are called together.

A group of objects is called by :class:`Here` in this process, or by :class:`Workers` in others: in the same
order, with the same results.
"""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection, resource_tracker
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

import numpy as np

from npTRPO.sampling.environments import interrupts_blocked

Maker = Callable[[], Any]
"""Makes an object, in the process where it shall live."""

# Where the libraries of linear algebra look how many threads to start: the cores are the workers' already.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Group(Protocol):
    """Objects, wherever they live."""

    def each(self, method: str, *common: Any, own: Sequence[tuple[Any, ...]] | None = None) -> list[Any]:
        """Call a method of every object, and return the results in their order.

        Parameters
        ----------
        method : str
            Name of the method.
        *common
            Arguments that all are given.
        own : sequence of tuples, optional
            Further arguments of each.

        Raises
        ------
        Exception
            What the method of the first object that failed raised.
        """

    def close(self) -> None:
        """Let the objects go."""


class Here:
    """Objects in this process.

    Parameters
    ----------
    makers : sequence of callables
        Each makes one of the objects.
    """

    def __init__(self, makers: Sequence[Maker]) -> None:
        self._objects = [make() for make in makers]

    def each(self, method: str, *common: Any, own: Sequence[tuple[Any, ...]] | None = None) -> list[Any]:
        """Call a method of every object, and return the results in their order."""
        return called(self._objects, method, common, own)

    def close(self) -> None:
        """Close the objects."""
        for each in self._objects:
            with suppress(Exception):  # as the others are to be closed too
                each.close()


class WorkerTraceback(Exception):
    """The traceback of an error in a worker process."""


class LostWorkerError(ChildProcessError):
    """A worker process ended by itself."""


class Workers:
    """Objects in processes, which stay until they are closed or this process ends.

    The processes are started afresh (as by ``multiprocessing``'s "spawn"), so that threads and open files do
    no harm; a script that starts them must keep its own work behind ``if __name__ == "__main__":``. Each has
    one thread for linear algebra.

    Parameters
    ----------
    makers : sequence of callables
        Each makes one of the objects, and can be pickled.
    n_workers : int
        Number of processes, at most one for each object; each has some of them, next to each other.
    names : sequence of str
        What each object is called in messages.

    Raises
    ------
    TypeError
        If a maker, or later an argument, can't be sent to a process.
    RuntimeError
        In a daemonic process, which can't start others.
    LostWorkerError
        If a process ends before it has begun, or later by itself.
    Exception
        What a maker raised.
    """

    def __init__(self, makers: Sequence[Maker], n_workers: int, names: Sequence[str]) -> None:
        shares = np.array_split(np.arange(len(makers)), n_workers)
        self._shares = [slice(int(share[0]), int(share[-1]) + 1) for share in shares]
        self._names, self._begun = names, False
        self._processes: list[Any] = []
        self._pipes: list[connection.Connection[Any, Any]] = []
        if multiprocessing.current_process().daemon:
            raise RuntimeError(
                "this process is one of multiprocessing's daemons, as a Pool's are, which start no others: "
                "train without workers here, or in a process with daemon=False"
            )
        context = multiprocessing.get_context("spawn")
        if os.name == "posix":  # if it were started on the way, it would let interrupts through again
            resource_tracker.ensure_running()
        try:
            with _one_thread_each(), interrupts_blocked():
                for i, share in enumerate(self._shares):
                    ours, theirs = context.Pipe()
                    self._pipes.append(ours)
                    process = context.Process(
                        target=_serve, args=(theirs, makers[share]), name=f"npTRPO-worker-{i}", daemon=True
                    )
                    self._processes.append(process)
                    with _sending():
                        process.start()
                    theirs.close()
            self._answers()
            self._begun = True
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Ids of the processes."""
        return [process.pid for process in self._processes]

    def each(self, method: str, *common: Any, own: Sequence[tuple[Any, ...]] | None = None) -> list[Any]:
        """Call a method of every object, in all processes at once; return the results in their order."""
        with _sending():
            if own is None:  # pickled once for all
                messages = [ForkingPickler.dumps((method, common, None))] * len(self._shares)
            else:
                messages = [ForkingPickler.dumps((method, common, own[share])) for share in self._shares]
        for i, (pipe, message) in enumerate(zip(self._pipes, messages, strict=True)):
            try:
                pipe.send_bytes(message)
            except OSError as error:
                raise self._lost(i) from error
        return self._answers()

    def _answers(self) -> list[Any]:
        return list(itertools.chain.from_iterable(gathered(map(self._answer, range(len(self._pipes))))))

    def _answer(self, i: int) -> Any:
        try:
            return self._pipes[i].recv()
        except (EOFError, OSError) as error:
            raise self._lost(i) from error

    def _lost(self, i: int) -> LostWorkerError:
        process = self._processes[i]
        process.join(5)
        code = process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        of_it = " and ".join(self._names[self._shares[i]])
        hint = ""
        if code == 1 and not self._begun:
            hint = '; a script that starts workers must do so behind if __name__ == "__main__":'
        return LostWorkerError(f"worker {i} (process {process.pid}), which has {of_it}, {how}{hint}")

    def close(self) -> None:
        """End the processes, even those that hang."""
        for pipe in self._pipes:
            pipe.close()  # at which they end by themselves
        left = _still_there([process for process in self._processes if process.pid is not None], 1)
        for process in left:
            process.kill()
        _still_there(left, 60)
        self._pipes, self._processes, self._shares = [], [], []


def _still_there(processes: Sequence[Any], seconds: float) -> list[Any]:
    """Wait for processes to end, for so long all together; return those that have not."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    return [process for process in processes if process.is_alive()]


@contextmanager
def _sending() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # pickle's own, and whatever the pickling of somebody's objects raises
        raise TypeError(
            f"what worker processes are to have can't be sent there ({error}): environments, networks and "
            "distributions of one's own must be classes and functions of a module, and none that are made "
            "in a function"
        ) from error


def called(
    objects: Sequence[Any], method: str, common: Sequence[Any], own: Sequence[tuple[Any, ...]] | None
) -> list[Any]:
    """Call a method of each object with the common arguments and its own."""
    own = [()] * len(objects) if own is None else own
    return [getattr(each, method)(*common, *more) for each, more in zip(objects, own, strict=True)]


@contextmanager
def _one_thread_each() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


# --- in a worker -----------------------------------------------------------------------------------------


def _serve(pipe: connection.Connection[Any, Any], makers: Sequence[Maker]) -> None:
    """Make the objects, and answer calls until the other end of the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the process that started this one decides when it ends
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    objects: list[Any] = []

    def begin() -> list[Any]:
        objects.extend(make() for make in makers)
        return []

    call: Callable[[], Any] = begin
    with suppress(EOFError, OSError):
        while True:
            pipe.send(answered(call))
            call = partial(called, objects, *pipe.recv())
    for each in objects:
        with suppress(Exception):
            each.close()


def _end_with_parent() -> None:
    """End this process when the one that started it does, whatever it is busy with."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def answered(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """Return what a call returns, and None; or an error that can be sent, and the traceback of it."""
    try:
        return call(), None
    except Exception as error:  # which is raised again in the process that asked
        return _sendable(error), "".join(traceback.format_exception(error))


def gathered(answers: Iterable[tuple[Any, str | None]]) -> list[Any]:
    """Return what all calls returned, in the form of :func:`answered`, when the last answer has come.

    Raises
    ------
    Exception
        The first that was sent, with its traceback as its cause.
    """
    pairs = list(answers)
    for answer, trace in pairs:
        if trace is not None:
            raise answer from WorkerTraceback(f"\n{trace}")
    return [answer for answer, _ in pairs]


def _sendable(error: Exception) -> Exception:
    """Return an error as it is, or one that describes it if it wouldn't come out of a pipe as it is."""
    with suppress(Exception):  # whatever an error of somebody's own does when it is made again
        ForkingPickler.dumps(error)
        again = copy.copy(error)
        if type(again) is type(error) and str(again) == str(error):
            return error
    described = RuntimeError(f"{type(error).__name__}: {error}")
    for note in getattr(error, "__notes__", ()):
        described.add_note(note)
    return described
