"""The command in processes that can be killed or given a full disk, forked from one that knows it all."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Done", "Nursery"]

_SERVER = """
import contextlib, json, os, resource, signal, sys, tempfile, time
from npTRPO import cli

WRITING = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}


def become(order):
    os.chdir(order["cwd"])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(order["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if order["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, 2 * (order["file_size"],))
    moments = 0

    def count(event, details):
        nonlocal moments
        if event not in WRITING or not str(details[0]).startswith(order["cwd"]):
            return
        if event == "open" and not (details[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        if moments == order["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        moments += 1

    sys.addaudithook(count)
    status = 70
    try:
        status = cli.main(order["arguments"])
    finally:
        with open(order["err"] + ".moments", "w") as file:
            file.write(str(moments)) if order["file_size"] is None else None
        sys.stderr.flush()
        os._exit(status)


with tempfile.TemporaryDirectory() as scratch:  # what is imported late
    quick = "--no-preset --n-envs 2 --n-steps 8 --total-timesteps 16 --checkpoint-interval 1"
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        cli.main(["train", "CartPole-v1", "--out", scratch + "/run", *quick.split()])
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        become(order)
    ended = (0, 0)
    while not ended[0]:
        if order["kill_after"] is not None and time.monotonic() - began >= order["kill_after"]:
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
        else:
            ended = os.waitpid(child, os.WNOHANG)
            time.sleep(0.001)
    print(json.dumps([os.waitstatus_to_exitcode(ended[1]), time.monotonic() - began]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """How a child ended: its status (−9 if it was killed), what it said on stderr, and how long it lived.

    ``moments`` counts what it did to the files under its directory; None if it was killed.
    """

    status: int
    err: str
    seconds: float
    moments: int | None


class Nursery:
    """A context manager for a process that makes children."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch

    def __enter__(self) -> "Nursery":
        root = Path(__file__).parents[1]
        self.server = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root), "SDL_VIDEODRIVER": "dummy"},
        )
        assert self._answer() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stdin.close()
        self.server.stdout.close()
        assert self.server.wait(timeout=60) == 0

    def _answer(self) -> str:
        return self.server.stdout.readline()

    def run(
        self,
        *arguments: Any,
        cwd: Path,
        kill_after: float | None = None,
        kill_at: int | None = None,
        file_size: int | None = None,
    ) -> Done:
        """Run the command in a child.

        Parameters
        ----------
        cwd
            Its working directory.
        kill_after
            Seconds after which SIGKILL comes.
        kill_at
            It comes when so many files have been opened for writing, renamed, removed or made, just before
            the next.
        file_size
            Bytes that a file may have: the disk is full then.
        """
        err, moments = self.scratch / "err", self.scratch / "err.moments"
        moments.unlink(missing_ok=True)
        order = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "err": str(err),
            "kill_after": kill_after,
            "kill_at": kill_at,
            "file_size": file_size,
        }
        print(json.dumps(order), file=self.server.stdin, flush=True)
        status, seconds = json.loads(self._answer())
        counted = moments.read_text() if moments.exists() else ""
        return Done(status, err.read_text(), seconds, int(counted) if counted else None)
