"""The command in processes that can be killed or given a full disk, forked from one that knows it all."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_SERVER = """
import contextlib, importlib, json, os, resource, signal, sys, tempfile, time
from npTRPO import cli

WRITING = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}


def become(order, err):
    os.chdir(order["cwd"])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(err, 2)
    os.close(err)
    for number in (signal.SIGINT, signal.SIGTERM):  # which shells have background processes ignore
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if order["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, 2 * (order["file_size"],))
    moments = 0

    def count(event, details):
        nonlocal moments
        if event not in WRITING or not str(details[0]).startswith(order["cwd"]):
            return
        if event == "open" and not (details[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        moments += 1
        for moment, number in order["signals_at"]:
            if moment == moments - 1:
                os.kill(os.getpid(), number)

    sys.addaudithook(count)
    status = 70
    try:
        status = cli.main(order["arguments"])
    finally:
        print(chr(0), moments, end="", file=sys.stderr, flush=True)
        os._exit(status)


with tempfile.TemporaryDirectory() as scratch:  # what is imported late
    quick = "--no-preset --n-envs 2 --n-steps 8 --total-timesteps 16 --checkpoint-interval 1"
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        cli.main(["train", "CartPole-v1", "--out", scratch + "/run", *quick.split()])
for name in sys.argv[1:]:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    began = time.monotonic()
    said, err = os.pipe()  # and no file, whose size may be limited
    child = os.fork()
    if child == 0:
        os.close(said)
        become(order, err)
    os.close(err)
    signals = sorted(order["signals"])
    ended = (0, 0)
    while not ended[0]:
        if signals and time.monotonic() - began >= signals[0][0]:
            os.kill(child, signals.pop(0)[1])
        ended = os.waitpid(child, os.WNOHANG)
        time.sleep(0.001)
    with open(said, errors="replace") as file:
        err, _, moments = file.read().partition(chr(0))
    answer = os.waitstatus_to_exitcode(ended[1]), err, time.monotonic() - began, int(moments or 0)
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """How a child ended: its status (−9 if it was killed), what it said on stderr, and how long it lived.

    ``moments`` counts what it did to the files under its directory; 0 if it was killed.
    """

    status: int
    err: str
    seconds: float
    moments: int


class Nursery:
    """A context manager for a process that makes children, and imports some modules for them if it can."""

    def __init__(self, imports=()):
        self.imports = imports

    def __enter__(self):
        root = Path(__file__).parents[1]
        self.server = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _SERVER, *self.imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root), "SDL_VIDEODRIVER": "dummy"},
        )
        assert self._answer() == "ready\n"
        return self

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.stdout.close()
        assert self.server.wait(timeout=60) == 0

    def _answer(self):
        return self.server.stdout.readline()

    def run(
        self,
        *arguments,
        cwd,
        signals=(),
        signals_at=(),
        file_size=None,
    ):
        """Run the command in a child.

        Parameters
        ----------
        cwd
            Its working directory.
        signals
            Seconds after which each comes, and its number.
        signals_at
            After how many changes of files (opened for writing, renamed, removed or made) each comes, just
            before the next, and its number.
        file_size
            Bytes that a file may have: the disk is full then.
        """
        order = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "signals": [(seconds, int(number)) for seconds, number in signals],
            "signals_at": [(moment, int(number)) for moment, number in signals_at],
            "file_size": file_size,
        }
        print(json.dumps(order), file=self.server.stdin, flush=True)
        return Done(*json.loads(self._answer()))
