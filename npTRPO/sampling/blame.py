"""Which of the environments of a vector an error came from."""

from __future__ import annotations

import itertools
import traceback
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

__all__ = ["explained"]


def explained(env: VectorEnv[Any, Any, Any], error: Exception | SystemExit, when: str) -> Exception:
    """The error, with a note of when it came and from whom; or one that says that a process ended, or would.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        What raised it.
    error : Exception or SystemExit
        While it is handled. An environment that calls ``sys.exit`` is no reason to end without a word.
    when : str
        For the note: "step 3", for instance.
    """
    whose = _whose(env, error)
    vector: Any = env.unwrapped
    pipes = getattr(vector, "parent_pipes", ())
    for i in whose if isinstance(error, (EOFError, ConnectionError)) else ():
        if i < len(pipes) and pipes[i] is not None:
            process = vector.processes[i]
            process.join(1)
            return ChildProcessError(f"the process of environment {i} {_end(process.exitcode)}, in {when}")
    who = " and ".join(f"environment {i}" for i in whose) or "the environments"
    if isinstance(error, SystemExit):
        return RuntimeError(f"{who} would have ended the process with status {error.code}, in {when}")
    error.add_note(f"in {when} of {who}")
    return error


def _end(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"ended with status {exitcode}"
    return f"was killed by signal {-exitcode}"


def _whose(env: VectorEnv[Any, Any, Any], error: BaseException) -> list[int]:
    """Indices of the environments that the error came from, as far as that can be told.

    The error passed through a method of the environment or, if that is in another process, of the pipe to it,
    unless it came through the pipe: then the vector has let go of it. Or it came when the vector took over
    what the environments had returned: rewards one by one, and observations together.
    """
    vector: Any = env.unwrapped
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    members, pipes = getattr(vector, "envs", ()), getattr(vector, "parent_pipes", ())
    passed = [frame.f_locals.get("self") for frame in frames]
    for i, member in itertools.chain(enumerate(members), enumerate(pipes)):
        if member is not None and any(each is member for each in passed):
            return [i]
    last = frames[-1].f_locals
    if members and last.get("self") is vector and isinstance(last.get("i"), int):
        return [last["i"]]
    for frame in frames:
        items = frame.f_locals.get("items")
        if members and isinstance(items, (list, tuple)) and len(items) == len(members):
            return [
                i for i, item in enumerate(items) if np.shape(item) != vector.single_observation_space.shape
            ]
    return [i for i, pipe in enumerate(pipes) if pipe is None]
