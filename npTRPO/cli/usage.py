"""Types of arguments that several commands have, and lines to stderr."""

import argparse
import contextlib
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from npTRPO.sampling.makers import EnvMaker

_MOST_SEEDS = 10_000


class UsageError(ValueError):
    """The command was used wrongly."""


def say(line: str) -> None:
    """Write a line to stderr, unless it can't be written to."""
    with contextlib.suppress(OSError):
        print(f"nptrpo: {' '.join(line.split())}", file=sys.stderr, flush=True)


def at_least(least: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number of at least ``least``."""

    def integer(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {number}")
        return number

    return integer


def seconds(text: str) -> float:
    """Parse a positive number of seconds."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {number}")
    return number


def workers(text: str) -> int | str:
    """Parse a number of worker processes, or what stands for one."""
    return at_least(1)(text) if text.lstrip("-").isdigit() else text


def seeds(text: str) -> list[int]:
    """Parse numbers and ranges that include both ends, as "0,2,5-7"."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part, re.ASCII)
        if match is None:
            raise argparse.ArgumentTypeError(f"must be seeds and ranges of them, as 0,2,5-7, not {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise argparse.ArgumentTypeError(f"the range {part.strip()} ends before it begins")
        if len(found) + last - first >= _MOST_SEEDS:
            raise argparse.ArgumentTypeError(f"names more than {_MOST_SEEDS:,} seeds")
        found += range(first, last + 1)
    twice = [seed for seed, count in Counter(found).items() if count > 1]
    if twice:
        raise argparse.ArgumentTypeError(f"names seed {twice[0]} more than once")
    return found


def keyword_arguments(text: str) -> dict[str, Any]:
    """Parse keyword arguments as a JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(
            f"""must be JSON, such as '{{"a": 1}}', not {text!r}: {error}"""
        ) from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"""must be an object of JSON, such as '{{"a": 1}}', not {text!r}""")
    return found


def add_environment_flags(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how an environment is made."""
    parser.add_argument(
        "--env-kwargs",
        type=keyword_arguments,
        metavar="JSON",
        help="keyword arguments for the environment, as a JSON object",
    )
    parser.add_argument(
        "--wrapper",
        dest="wrappers",
        action="append",
        metavar="MODULE:CALLABLE",
        help="put around each environment; may be repeated, the outermost last",
    )


def ending_in(*endings: str) -> Callable[[str], Path]:
    """Return the type of an argument that names a file of one of some kinds."""

    def file(text: str) -> Path:
        if Path(text).suffix not in endings:
            raise argparse.ArgumentTypeError(f"must end in {' or '.join(endings)}, but it is {text!r}")
        return Path(text)

    return file


def add_playing_flags(
    parser: argparse.ArgumentParser, env_help: str, episodes: int, seed: int | None = None
) -> None:
    """Add the arguments of commands in which a saved agent plays episodes."""
    parser.add_argument("file", type=Path, help="an agent that train saved")
    parser.add_argument("--env", default=None, help=env_help)
    add_environment_flags(parser)
    parser.add_argument(
        "--episodes", type=at_least(1), default=episodes, help=f"number of episodes (default: {episodes})"
    )
    parser.add_argument("--stochastic", action="store_true", help="draw actions instead of the likeliest")
    text = "seed of the environment and of the actions drawn"
    parser.add_argument("--seed", type=at_least(0), default=seed, help=f"{text} (default: {seed or 'any'})")


def played(maker: EnvMaker | None, options: argparse.Namespace) -> EnvMaker:
    """Return what makes the environment that a saved agent plays in: its own, or as the arguments name it."""
    named = options.env, options.env_kwargs, options.wrappers
    if maker is not None:
        return maker.trusted(*named)
    if options.env is None:
        raise UsageError("the agent wasn't trained on an environment with an id: name one with --env")
    return EnvMaker(options.env).trusted(*named)
