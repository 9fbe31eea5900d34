"""Gymnasium's spaces as JSON, and back from JSON of any origin."""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from npTRPO._checks import whole_number
from npTRPO.files.errors import UnreadableFileError as CheckpointError

# As their text, in either order of bytes; spaces hold numbers in the machine's own.
_DTYPES = {str(np.dtype(order + code)): np.dtype(code) for order in "<>" for code in "?bhilqBHILQefdg"}
_MOST_AXES = 32
_SIZE = "a size of its space"
_ATTRIBUTES: dict[type[gymnasium.Space[Any]], tuple[str, ...]] = {
    spaces.Box: ("low", "high", "shape", "dtype"),
    spaces.Discrete: ("n", "start", "dtype"),
    spaces.MultiDiscrete: ("nvec", "start", "dtype"),
    spaces.MultiBinary: ("n",),
}


def space_to_json(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """Return a space as JSON.

    Raises
    ------
    NotImplementedError
        For a space of another kind.
    """
    for kind, names in _ATTRIBUTES.items():
        if isinstance(space, kind):
            values = {name: _plain(getattr(space, name), kind is spaces.Box) for name in names}
            return {"kind": kind.__name__, **values}
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": [[key, space_to_json(part)] for key, part in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [space_to_json(part) for part in space.spaces]}
    raise NotImplementedError(f"{space} can't be saved")


def _plain(value: Any, is_bound: bool) -> Any:
    """Return an attribute of a space as JSON; bounds that all agree as one number."""
    if isinstance(value, np.dtype):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    if is_bound and np.all(value == value.flat[:1]):
        return value.flat[0].item() if value.size else 0
    return np.asarray(value).tolist()


def json_space_size(description: dict[str, Any]) -> int:
    """Return how many numbers a network sees of an element of a space, without making the space.

    Every space counts for at least one.

    Raises
    ------
    ValueError
        If a size isn't a whole number.
    CheckpointError
        If the kind of space is unknown, or it has too many axes.
    """
    kind = description["kind"]
    if kind == "Box":
        return 1 + _product(description["shape"])
    if kind == "Discrete":
        return whole_number(_SIZE, description["n"])
    if kind == "MultiDiscrete":
        return 1 + sum(whole_number(_SIZE, n) for n in np.asarray(description["nvec"], np.int64).flat)
    if kind == "MultiBinary":
        n = description["n"]
        return 1 + _product(n if isinstance(n, list) else [n])
    if kind == "Dict":
        return 1 + sum(json_space_size(part) for _, part in description["spaces"])
    if kind == "Tuple":
        return 1 + sum(json_space_size(part) for part in description["spaces"])
    raise CheckpointError(f"its space is of kind {kind!r}")


def _product(shape: Any) -> int:
    if len(shape) > _MOST_AXES:
        raise CheckpointError(f"its space has {len(shape)} axes")
    return math.prod(max(1, whole_number(_SIZE, n)) for n in shape)


def space_from_json(description: dict[str, Any]) -> gymnasium.Space[Any]:
    """Return the space that :func:`space_to_json` wrote; check its :func:`json_space_size` first."""
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
        parts = [(key, space_from_json(part)) for key, part in description["spaces"]]
        return spaces.Dict(parts)  # in this order
    return spaces.Tuple([space_from_json(part) for part in description["spaces"]])


def _dtype(description: dict[str, Any]) -> np.dtype[Any]:
    name = description["dtype"]
    if name not in _DTYPES:
        raise CheckpointError(f"its space has dtype {name!r}")
    return _DTYPES[name]
