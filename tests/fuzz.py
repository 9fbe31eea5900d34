"""Mutated files for all that read files: ``python -m tests.fuzz --files 10000 --seed 0``.

Honest agents, run directories and presets are changed at random, and read. Each must be taken, or refused by
a CheckpointError on one printable line, within a time and 64 MB. While it is read, no file is written, no
module imported and no code run, as Python's audit events tell. Anything else is a failure, said with the
number of the file: ``--seed 0 --only 123`` makes it once more. Ends with status 1 if there is one.
"""

import argparse
import collections
import contextlib
import gc
import io
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from importlib import resources
from pathlib import Path

import numpy as np

from npTRPO import TRPO, CheckpointError
from npTRPO.runs.directory import RunDirectory
from npTRPO.runs.plotting import draw_runs, group_runs, read_run
from npTRPO.runs.presets import read_presets
from tests import mutated_files as mutations
from tests.samples import OWN

SAMPLES = Path(__file__).parent / "data" / "0.1.0"
PRESETS = resources.files("npTRPO.runs").joinpath("presets.toml").read_bytes()
LIMIT_MB, LIMIT_SECONDS, HANGS_SECONDS = 64, 5.0, 30
SHARES = {"agent": 0.6, "resume": 0.2, "plot": 0.12, "presets": 0.08}

# Audit events of what no reader does; writing is told from the flags of "open".
FORBIDDEN = {
    *("import", "exec", "marshal.loads", "pickle.find_class", "ctypes.dlopen", "subprocess.Popen"),
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill", "os.chmod"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.utime"),
    *("shutil.rmtree", "shutil.copyfile", "shutil.move", "tempfile.mkstemp", "tempfile.mkdtemp"),
    *("socket.connect", "socket.bind", "urllib.Request"),
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Failure(Exception):
    """What a reader shouldn't have done."""


class Guard:
    """Watches what is done while it is armed."""

    def __init__(self):
        self.seen: list[str] = []
        self.armed = False
        sys.addaudithook(self._hear)

    def _hear(self, event, details):
        if self.armed and (event in FORBIDDEN or (event == "open" and (details[2] or 0) & WRITING)):
            self.seen.append(f"{event} {str(details)[:200]}")

    @contextlib.contextmanager
    def watching(self):
        """Raise a failure for anything forbidden, too slow, too large or too loud."""
        self.seen.clear()
        resident = _memory("VmRSS", reset=True)
        began, self.armed = time.process_time(), True
        signal.alarm(HANGS_SECONDS)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                yield
        finally:
            signal.alarm(0)
            self.armed = False
        self.seconds, self.megabytes = time.process_time() - began, _memory("VmHWM") - resident
        if self.seen:
            raise Failure(f"it did {self.seen}")
        if self.seconds > LIMIT_SECONDS or self.megabytes > LIMIT_MB:
            raise Failure(f"it took {self.seconds:.1f} s and {self.megabytes:.0f} MB")
        known = (
            "going on from",
            "\033[33mWARN: The environment",
        )  # ours, and Gymnasium's of old environments
        unknown = [str(each.message) for each in said if not any(part in str(each.message) for part in known)]
        if unknown:
            raise Failure(f"it warned of {unknown}")


def _memory(name, reset=False):
    """A figure of this process in MB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    [kilobytes] = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def _hang(*_):
    raise Failure(f"it hung for {HANGS_SECONDS} s")


# --- what reads ------------------------------------------------------------------------------------------


def read_agent(path):
    """Read an agent."""
    TRPO.load(path)


def resume(path):
    """Get ready to go on with a run."""
    run = RunDirectory.resume(path)
    assert run.agent.env is not None
    run.agent.env.close()
    assert run.finished in (True, False)


def plot(path):
    """Read what is drawn of a run."""
    group_runs([read_run(path)])


def draw(path):
    """Draw a run that was read."""
    draw_runs([path]).savefig(io.BytesIO(), format="png", dpi=30)


def presets(path):
    """Read presets."""
    read_presets(path.read_bytes())


READERS = {"agent": read_agent, "resume": resume, "plot": plot, "presets": presets}


def outcome(kind, path, guard):
    """What comes of reading a file: taken or refused."""
    before = _listing(path.parent)
    refusal = None
    with guard.watching():
        try:
            READERS[kind](path)
        except CheckpointError as error:
            refusal = error
        except Failure:
            raise
        except Exception as error:
            raise Failure(f"{type(error).__name__}: {error}") from error
    if _listing(path.parent) != before:
        raise Failure("it changed files")
    if refusal is None:
        return "taken"
    said = str(refusal)
    if not said.isprintable() or len(said) > 2000:
        raise Failure(f"it said {said[:300]!r}")
    if isinstance(refusal.__cause__, (MemoryError, Failure)):
        raise Failure(f"it was refused by {refusal.__cause__!r}")
    return "refused"


def _listing(directory):
    found = []
    for path in sorted(directory.rglob("*")):
        state = path.lstat()
        found.append((str(path), state.st_mode, state.st_size, state.st_mtime_ns, state.st_ino))
    return found


# --- what is read ----------------------------------------------------------------------------------------


def made(kind, directory, rng):
    """A mutated file or directory, and how it was changed."""
    if kind in ("resume", "plot"):
        path = shutil.copytree(SAMPLES / "run", directory / "run")
        return path, mutations.run_directory(path, rng)
    path = directory / ("agent.npz" if kind == "agent" else "presets.toml")
    if kind == "agent":
        names = sorted(file.stem for file in SAMPLES.glob("*.npz") if file.stem not in OWN)
        content, how = mutations.agent((SAMPLES / f"{rng.choice(names)}.npz").read_bytes(), rng)
    else:
        content, how = mutations.presets(PRESETS, rng)
    path.write_bytes(content)
    return path, how


def one(seed, number, guard, keep=None):
    """Make and read a file: its kind, how it was changed, and what came of it."""
    rng = np.random.default_rng([seed, number])
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    with tempfile.TemporaryDirectory() as scratch:
        path, how = made(kind, keep or Path(scratch), rng)
        gc.collect()  # now, and not in the depth of a recursion
        try:
            came = outcome(kind, path, guard)
            if kind == "plot" and came == "taken" and number % 10 == 0 and plotting_is_possible():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    draw(path)
        except Exception as error:  # drawing too
            raise Failure(f"file {number}, {kind}, {how}: {error}") from error
    return kind, how, came


def plotting_is_possible():
    """Whether the extra is there."""
    import importlib.util

    return importlib.util.find_spec("matplotlib") is not None


def ready():
    """A guard, once all is imported that is imported late, in a process with bounded memory."""
    signal.signal(signal.SIGALRM, _hang)
    for kind, sample in (("agent", "categorical.npz"), ("resume", "run"), ("plot", "run")):
        READERS[kind](SAMPLES / sample)
    read_presets(PRESETS)
    if plotting_is_possible():
        draw(SAMPLES / "run")
    gc.collect()
    gc.freeze()  # so that collecting between files is quick
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (int((_memory("VmSize") + 1000) * 2**20), most))
    return Guard()


def main():
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, default=None, metavar="NUMBER", help="make this file only")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="an empty directory for it")
    options = parser.parse_args()
    guard, began = ready(), time.process_time()
    counts, failures = collections.Counter[tuple[str, str]](), []
    hows, most, slowest = collections.Counter[str](), 0.0, 0.0
    for number in range(options.files) if options.only is None else [options.only]:
        try:
            kind, how, came = one(options.seed, number, guard, options.keep)
        except Failure as failure:
            failures.append(failure)
            print(failure, file=sys.stderr)
            continue
        counts[kind, came] += 1
        hows[how] += 1
        most, slowest = max(most, guard.megabytes), max(slowest, guard.seconds)
    for kind in SHARES:
        print(f"{kind:8} {counts[kind, 'taken']:6} taken {counts[kind, 'refused']:6} refused")
    print("changes: " + ", ".join(f"{how} {n}" for how, n in sorted(hows.items())))
    print(
        f"{sum(counts.values()) + len(failures)} files in {time.process_time() - began:.0f} s of processor, "
        f"at most {most:.1f} MB and {slowest:.2f} s each: {len(failures)} failures (seed {options.seed})"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
