"""Conversions between Gymnasium's spaces and arrays: observations to rows, actions to members of a space."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from npTRPO._typing import Array

Space = gymnasium.Space[Any]

_WAYS_OUT = {
    spaces.Graph: "encode the graph as a Box of fixed size",
    spaces.Sequence: "pad the sequence to a Box of fixed shape",
    spaces.Text: "encode the text as a MultiDiscrete of fixed length",
    spaces.OneOf: "choose one of its spaces",
    spaces.Dict: "join its spaces to one Box or MultiDiscrete",
    spaces.Tuple: "join its spaces to one Box or MultiDiscrete",
}


def check_supported(space: Space, role: str) -> None:
    """Raise an error that names the space and a way out, if it can't be used as observation or action.

    Raises
    ------
    NotImplementedError
        If the space, or one inside it, isn't supported, or if it holds no numbers at all.
    """
    _check_kind(space, role)
    if not encoded_size(space):
        raise NotImplementedError(
            f"{role} spaces without a number in them aren't supported ({space}). A way out: "
            f"offer a Box of one number instead, in a gymnasium.{role.capitalize()}Wrapper"
        )


def _check_kind(space: Space, role: str) -> None:
    if role == "observation":
        if isinstance(space, spaces.Dict):
            for part in space.spaces.values():
                _check_kind(part, role)
        elif isinstance(space, spaces.Tuple):
            for part in space.spaces:
                _check_kind(part, role)
    if isinstance(space, spaces.Box) and not np.issubdtype(space.dtype, np.number):
        raise NotImplementedError(
            f"Box {role} spaces of dtype {space.dtype} aren't supported ({space}). A way out: "
            f"offer a MultiBinary space instead, in a gymnasium.{role.capitalize()}Wrapper"
        )
    known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    nested = (spaces.Dict, spaces.Tuple) if role == "observation" else ()
    if not isinstance(space, known + nested):
        names = ", ".join(kind.__name__ for kind in known + nested)
        way_out = next(
            (text for kind, text in _WAYS_OUT.items() if isinstance(space, kind)),
            "convert it to one of these",
        )
        raise NotImplementedError(
            f"{type(space).__name__} {role} spaces aren't supported ({space}); "
            f"supported are {names}. A way out: {way_out} in a gymnasium.{role.capitalize()}Wrapper"
        )


def encoded_size(space: Space) -> int:
    """Return the length of one encoded observation, the number of features a network sees."""
    if isinstance(space, spaces.Dict):
        return sum(encoded_size(part) for part in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return sum(encoded_size(part) for part in space.spaces)
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(np.sum(space.nvec))
    return math.prod(space.shape or ())


def encoded_eps(space: Space) -> Array:
    """Return the relative precision of each number of an encoded observation, float32's or float64's.

    That of float32 unless the space's own dtype has numbers that float32 rounds.
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return np.concatenate([encoded_eps(part) for part in parts])
    wide = isinstance(space, spaces.Box) and np.result_type(np.float32, space.dtype) != np.float32
    return np.full(encoded_size(space), np.finfo(np.float64 if wide else np.float32).eps)


def as_batch(space: Space, observation: Any) -> tuple[Any, bool]:
    """Return the observation as a batch, and whether it was a single one."""
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, Mapping) or set(observation) != set(space.spaces):
            raise ValueError(f"the observation must be a dict with the keys {sorted(space.spaces)}")
        pairs = {key: as_batch(part, observation[key]) for key, part in space.items()}
        singles = {single for _, single in pairs.values()}
        if len(singles) == 1:
            return {key: batch for key, (batch, _) in pairs.items()}, singles.pop()
    elif isinstance(space, spaces.Tuple):
        if not isinstance(observation, Sequence) or len(observation) != len(space.spaces):
            raise ValueError(f"the observation must be a tuple of {len(space.spaces)}, as {space} holds")
        parts = [as_batch(part, given) for part, given in zip(space.spaces, observation, strict=True)]
        singles = {single for _, single in parts}
        if len(singles) == 1:
            return tuple(batch for batch, _ in parts), singles.pop()
    else:
        array = np.asarray(observation)
        shape = space.shape or ()
        if array.shape == shape:
            return array[None], True
        if array.shape[1:] == shape and array.ndim == len(shape) + 1:
            return array, False
    raise ValueError(_wrong_shape(space, observation))


def batch_of_one(space: Space, observation: Any) -> Any:
    """Return an observation of the space as a batch of one."""
    if isinstance(space, spaces.Dict):
        return {key: batch_of_one(part, observation[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(map(batch_of_one, space.spaces, observation))
    return np.asarray(observation)[None]


def _wrong_shape(space: Space, observation: Any) -> str:
    shape = getattr(observation, "shape", type(observation).__name__)
    return f"the observation ({shape}) is neither an element of {space} nor a batch of them"


def encode(space: Space, observations: Any, dtype: npt.DTypeLike = np.float64) -> Array:
    """Encode a batch of observations as rows, in the order of :func:`gymnasium.spaces.flatten`.

    Parameters
    ----------
    space : gymnasium.Space
        The space of one observation.
    observations : array, dict or tuple
        A batch as Gymnasium's vector environments return it: N in front of each array's shape.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    array, shape (N, encoded_size(space))
        Box as it is, row by row; Discrete and MultiDiscrete as indicators (one-hot).
    """
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):  # first, as most have one to encode at each step
        array = np.asarray(observations, dtype=dtype)
        return array.reshape(len(array), math.prod(space.shape))
    if isinstance(space, spaces.Dict):
        parts = [encode(part, observations[key], dtype) for key, part in space.spaces.items()]
        return np.concatenate(parts, axis=1)
    if isinstance(space, spaces.Tuple):
        pairs = zip(space.spaces, observations, strict=True)
        return np.concatenate([encode(part, observation, dtype) for part, observation in pairs], axis=1)
    if isinstance(space, spaces.Discrete):
        return _one_hot(np.asarray(observations) - space.start, int(space.n), dtype)
    if isinstance(space, spaces.MultiDiscrete):
        shifted = (np.asarray(observations) - space.start).reshape(-1, space.nvec.size)
        columns = [_one_hot(shifted[:, i], int(n), dtype) for i, n in enumerate(space.nvec.ravel())]
        return np.concatenate(columns, axis=1)
    raise TypeError(f"{space} has no encoding")


def clipped(x: Array, low: Any, high: Any) -> Array:
    """Clip as np.clip does, which takes twice as long on the few rows of a step."""
    return np.minimum(np.maximum(x, low), high)  # type: ignore[no-any-return]


def _one_hot(indices: Array, n: int, dtype: npt.DTypeLike) -> Array:
    if indices.dtype.kind == "f" and not np.array_equal(indices, np.rint(indices)):
        raise ValueError(f"observations of a Discrete space must be whole numbers, not {indices.tolist()}")
    indices = indices.astype(np.int64, copy=False)
    if indices.size and not (indices.min() >= 0 and indices.max() < n):
        raise ValueError(
            f"observations lie outside their Discrete space of {n} values: as counted from its start, "
            f"from {indices.min()} to {indices.max()}"
        )
    rows = np.zeros((indices.size, n), dtype=dtype)
    rows[np.arange(indices.size), indices.ravel()] = 1
    return rows


def action_units(box: spaces.Box) -> tuple[Array, Array]:
    """Return the centre and the half-range of the bounds of a box's numbers, shaped as its members are.

    Where a bound is infinite, or so far away that the half-range exceeds 1e6, they are 0 and 1.
    """
    half = _half_ranges(box)
    known = half <= _WIDEST
    centre = np.where(known, box.low.astype(np.float64) + np.where(known, half, 0), 0.0)
    return centre, np.where(known, half, 1.0)


def interval_units(box: spaces.Box) -> tuple[Array, Array]:
    """Return the lower bounds of a box's numbers and the distances to the upper ones.

    Raises
    ------
    ValueError
        If there are infinite bounds, or some that count as infinite.
    """
    half = _half_ranges(box)
    if not np.all(half <= _WIDEST):
        raise ValueError(
            f"a beta distribution needs bounds that are finite, and at most {2 * _WIDEST:g} apart, "
            f"not {box}: leave distribution at None for a Gaussian"
        )
    return box.low.astype(np.float64), 2 * half


def warn_of_wide_bounds(box: spaces.Box) -> None:
    """Warn of bounds whose half-range exceeds 1e6, and which thus count as infinite.

    Those that are infinite, or the smallest or largest number of their dtype, are no surprise.
    """
    limits: Any = np.iinfo(box.dtype) if box.dtype.kind in "iu" else np.finfo(box.dtype)
    meant = (box.low > limits.min) & (box.high < limits.max)
    wide = meant & (_half_ranges(box) > _WIDEST)
    if wide.any():
        at = ", ".join(str(index) for index in np.flatnonzero(wide).tolist())
        warnings.warn(
            f"the bounds of the numbers {at} in the actions of {box} are more than {2 * _WIDEST:g} apart and "
            "count as infinite: the policy acts there in the environment's own units. If they are meant, "
            "rescale the actions in a gymnasium.ActionWrapper",
            stacklevel=3,
        )


_WIDEST = 1e6  # half-range


def _half_ranges(box: spaces.Box) -> Array:
    """Return half the distance between the bounds, which may be infinite."""
    half: Array = box.high.astype(np.float64) / 2 - box.low.astype(np.float64) / 2
    return half


def action_converter(space: Space, units: tuple[Array, Array] | None = None) -> Callable[[Array], Array]:
    """Return the function from a distribution's actions (N, …) to a batch of the environment's.

    Box actions are clipped to the bounds here, on their way to the environment, and nowhere else:
    log-probabilities are those of the action as it was drawn.

    Parameters
    ----------
    space : gymnasium.Space
        Of the environment's actions.
    units : pair of arrays, optional
        Of a Box's shape: the environment's action where the distribution's is 0, and what is added to it for
        each unit of the distribution's. Unless given, both act in the same units.
    """
    if isinstance(space, spaces.Box):
        same = units is None or (not np.any(units[0]) and np.all(units[1] == 1))
        return partial(_to_box, space.low, space.high, space.dtype, None if same else units)
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return partial(_counted_from, getattr(space, "start", 0), space.shape or (), space.dtype)
    raise NotImplementedError(f"{type(space).__name__} action spaces aren't supported: {space}")


def _to_box(
    low: Array, high: Array, dtype: np.dtype[Any], units: tuple[Array, Array] | None, actions: Array
) -> Array:
    """Convert to the units of a box and clip to its bounds; for integers, round to the nearest."""
    actions = actions.reshape((len(actions), *low.shape))
    if units is not None:
        origin, unit = units
        actions = origin + unit * actions
    inside = clipped(actions, low, high)
    if dtype.kind in "iu":
        inside = np.rint(inside)
    return inside.astype(dtype, copy=False)


def _counted_from(start: Any, shape: tuple[int, ...], dtype: np.dtype[Any], actions: Array) -> Array:
    """Number choices 0, 1, … from where a space begins to count."""
    counted: Array = actions.reshape((len(actions), *shape)) + start
    return counted.astype(dtype, copy=False)
