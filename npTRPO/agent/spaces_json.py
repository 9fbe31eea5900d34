"""Gymnasium's spaces as JSON, and back from JSON that nobody vouches for."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from npTRPO._typing import Array
from npTRPO.files.errors import UnreadableFileError as CheckpointError

__all__ = ["describe", "described_size", "described_space"]

# As their text, in either order of bytes; spaces hold numbers in the machine's own.
_DTYPES = {str(np.dtype(order + code)): np.dtype(code) for order in "<>" for code in "?bhilqBHILQefdg"}
_MOST_AXES = 32


def describe(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """A space as JSON.

    Raises
    ------
    NotImplementedError
        For a space of another kind.
    """
    if isinstance(space, spaces.Box):
        return {
            "kind": "Box",
            "low": _bounds(space.low),
            "high": _bounds(space.high),
            "shape": list(space.shape),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "kind": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": space.start.tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": list(space.n) if isinstance(space.n, tuple) else int(space.n)}
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": [[key, describe(part)] for key, part in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [describe(part) for part in space.spaces]}
    raise NotImplementedError(f"{space} can't be saved")


def _bounds(bounds: Array) -> Any:
    """One number where all bounds agree, else the list of all."""
    first = bounds.flat[0].item() if bounds.size else 0
    return first if np.all(bounds == first) else bounds.tolist()


def described_size(description: dict[str, Any]) -> int:
    """How many numbers a network sees of an element, found before a space of that size is made.

    Every space counts for one at least.

    Raises
    ------
    CheckpointError
        If it is no size.
    """
    kind = description["kind"]
    if kind == "Box":
        return 1 + _product(description["shape"])
    if kind == "Discrete":
        return _natural(description["n"])
    if kind == "MultiDiscrete":
        return 1 + sum(map(_natural, np.asarray(description["nvec"], np.int64).ravel().tolist()))
    if kind == "MultiBinary":
        n = description["n"]
        return 1 + _product(n if isinstance(n, list) else [n])
    if kind == "Dict":
        return 1 + sum(described_size(part) for _, part in description["spaces"])
    if kind == "Tuple":
        return 1 + sum(described_size(part) for part in description["spaces"])
    raise CheckpointError(f"its space is of kind {kind!r}")


def _product(shape: Any) -> int:
    if len(shape) > _MOST_AXES:
        raise CheckpointError(f"its space has {len(shape)} axes")
    return math.prod(max(1, _natural(n)) for n in shape)


def _natural(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise CheckpointError(f"its space has a size of {number!r}")
    return number


def described_space(description: dict[str, Any]) -> gymnasium.Space[Any]:
    """The space that :func:`describe` described; see first that :func:`described_size` is a size to make."""
    kind = description["kind"]
    if kind == "Box":
        dtype, shape = _dtype(description), tuple(description["shape"])
        low, high = (np.broadcast_to(np.asarray(description[k], dtype), shape) for k in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        # The first versions of Gymnasium 1 have no other dtype, and no name for it.
        other: dict[str, Any] = {}
        if description["dtype"] != "int64":
            other["dtype"] = _dtype(description).type
        return spaces.Discrete(description["n"], start=description["start"], **other)
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(description["nvec"], _dtype(description).type, start=description["start"])
    if kind == "MultiBinary":
        return spaces.MultiBinary(description["n"])
    if kind == "Dict":
        return spaces.Dict(
            [(key, described_space(part)) for key, part in description["spaces"]]
        )  # in this order
    return spaces.Tuple([described_space(part) for part in description["spaces"]])


def _dtype(description: dict[str, Any]) -> np.dtype[Any]:
    name = description["dtype"]
    if name not in _DTYPES:
        raise CheckpointError(f"its space has dtype {name!r}")
    return _DTYPES[name]
