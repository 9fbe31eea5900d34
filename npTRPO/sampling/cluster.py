"""Objects on the machines of a Ray cluster, whose methods are called together."""

from __future__ import annotations

import importlib
import os
import socket
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from npTRPO.sampling.workers import (
    THREADS,
    LostWorkerError,
    Maker,
    answered,
    called,
    gathered,
)

# A cluster without a free core for an actor leaves it waiting for ever.
_SECONDS_TO_BEGIN = 120.0


class Actors:
    """Objects on the machines of a Ray cluster, each in an actor of its own; Ray chooses where.

    Parameters
    ----------
    makers : sequence of callables
        Each makes one of the objects, and can be pickled.
    address : str or None
        What ``ray.init`` takes; None for the cluster that is connected already, or one on this machine.
    about : callable
        Returns what must be the same on all machines, by name: an error if the value of "needed" differs, and
        a warning if others do.
    names : sequence of str
        What each object is called in messages.

    Raises
    ------
    ModuleNotFoundError
        Without Ray.
    ConnectionError
        If there is no cluster at the address.
    RuntimeError
        If the cluster has no room for the objects, or what is needed differs.
    """

    def __init__(
        self, makers: Sequence[Maker], address: str | None, about: Maker, names: Sequence[str]
    ) -> None:
        self._ray = _connected(address)
        self._names = names
        remote = self._ray.remote(_Host).options(
            num_cpus=1, runtime_env={"env_vars": dict.fromkeys(THREADS, "1")}
        )
        self._actors = [remote.remote() for _ in makers]
        try:
            begun = [
                actor.begin.remote(maker, about) for actor, maker in zip(self._actors, makers, strict=True)
            ]
            cores = self._ray.cluster_resources().get("CPU", 0)
            patience = _SECONDS_TO_BEGIN if cores >= len(begun) else 0
            _, waiting = self._ray.wait(begun, num_returns=len(begun), timeout=patience)
            if waiting:
                raise RuntimeError(
                    f"{len(begun)} shards need as many cores of the Ray cluster, which has {cores:g}"
                    + (f", and not as many free in {patience:g} s" if patience else "")
                )
            found = self._results(begun)
            self.pids = [there["pid"] for there, _ in found]
            for (_, there), name in zip(found, names, strict=True):
                _compare(about(), there, name)
        except BaseException:
            self.close()
            raise

    def each(self, method: str, *common: Any, own: Sequence[tuple[Any, ...]] | None = None) -> list[Any]:
        """Call a method of every object, on all machines at once; return the results in their order."""
        given = self._ray.put(common)  # sent to each machine once
        more = [()] * len(self._actors) if own is None else own
        return self._results(
            [actor.call.remote(method, given, own) for actor, own in zip(self._actors, more, strict=True)]
        )

    def _results(self, asked: Sequence[Any]) -> list[Any]:
        return gathered(map(self._result, self._names, asked))

    def _result(self, name: str, asked: Any) -> Any:
        try:
            return self._ray.get(asked)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise LostWorkerError(f"the Ray actor that has {name} was lost ({reason})") from error

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            with suppress(Exception):  # those that are dead, or of a cluster that is
                self._ray.kill(actor)
        self._actors = []


class _Host:
    """What an actor runs."""

    def begin(self, maker: Maker, about: Maker) -> tuple[Any, str | None]:
        def begin() -> Any:
            self._object = maker()
            return {"pid": os.getpid()}, about()

        return answered(begin)

    def call(self, method: str, common: Sequence[Any], own: Sequence[Any]) -> tuple[Any, str | None]:
        return answered(lambda: called([self._object], method, common, [tuple(own)])[0])


def _connected(address: str | None) -> Any:
    """Return the module of Ray, connected to a cluster."""
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.exceptions")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('workers on a cluster need Ray: pip install "npTRPO[ray]"') from error
    if address is not None:
        _check_reachable(address)
    if not ray.is_initialized():
        connect = partial(ray.init, log_to_driver=False, logging_level="error")
        try:
            connect(include_dashboard=False) if address is None else connect(address=address)
        except Exception as error:  # Ray's, gRPC's and the system's, according to the kind of address
            lines = str(error).strip().splitlines()
            where = f"at {address}" if address else "on this machine"
            raise ConnectionError(
                f"no Ray cluster can be reached {where}: {lines[0] if lines else error!r}"
            ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Raise a ConnectionError if nobody listens at an address, for which Ray waits for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no Ray cluster can be reached at {address}: {error}") from error


def _compare(here: Mapping[str, str], there: Mapping[str, str], name: str) -> None:
    """Raise an error or warn if two machines differ."""
    if here["needed"] != there["needed"]:
        raise RuntimeError(
            f"the machine that has {name} runs {there['needed']}, and this one {here['needed']}: "
            "install the same version on all of them"
        )
    others = [key for key in here if here[key] != there.get(key)]
    if others:
        told = ", ".join(f"{key} {there.get(key)} there and {here[key]} here" for key in others)
        warnings.warn(
            f"the machine that has {name} differs, and so may the last bits: {told}",
            RuntimeWarning,
            stacklevel=2,
        )
