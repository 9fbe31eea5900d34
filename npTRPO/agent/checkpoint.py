"""Agents in files: arrays in an ``.npz``, everything else as JSON beside them. Nothing is unpickled."""

import io
import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import gymnasium
import numpy as np
import numpy.typing as npt
import scipy

from npTRPO._checks import whole_number
from npTRPO._typing import Array
from npTRPO._version import __version__
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.learner import Learner, map_leaves
from npTRPO.agent.model import Model
from npTRPO.agent.spaces_json import json_space_size, space_from_json, space_to_json
from npTRPO.files.errors import UnreadableFileError as CheckpointError
from npTRPO.files.errors import reason
from npTRPO.files.npz import NpzReader
from npTRPO.files.reading import open_regular
from npTRPO.files.writing import write_whole
from npTRPO.policies.spaces import Space
from npTRPO.sampling.makers import EnvMaker, maker_from_file
from npTRPO.sampling.normalization import Moments, RewardScale
from npTRPO.trust_region.value_fit import AdamState

FORMAT = "npTRPO agent"
FORMAT_VERSION = 1

# What a file may have: bytes of JSON; and numbers in an observation or an action, if its arrays hold fewer.
LONGEST_HEADER, LEAST_ROOM = 2**20, 2**20


@dataclass(frozen=True)
class Checkpoint:
    """The content of an agent's file.

    Attributes
    ----------
    model, learner
        What the agent is, and what it has learned. Running returns aren't kept, as learning goes on from a
        reset.
    maker : EnvMaker or None
        Makes the environment that it learned in. In a file it is an id, keyword arguments that JSON has, and
        names of wrappers; other environments aren't kept.
    recent_returns, recent_lengths : tuple of float
        Of its latest episodes, at most 100.
    """

    model: Model
    learner: Learner
    maker: EnvMaker | None = None
    recent_returns: tuple[float, ...] = ()
    recent_lengths: tuple[float, ...] = ()


def write_checkpoint(path: str | os.PathLike[str] | IO[bytes], checkpoint: Checkpoint) -> None:
    """Write an agent to a file, in a directory that is made if need be.

    The file appears whole or not at all. A file that is open for writing, such as a BytesIO, is written to.

    Raises
    ------
    ValueError
        If the path names no file, or options and spaces are too long for one.
    OSError
        If it can't be written.
    """
    target = _as_path(path)
    if isinstance(target, Path):
        if not target.name:
            raise ValueError(f"{str(path)!r} is no name of a file")
        target = _with_suffix(target)
    model = checkpoint.model
    kept = {_file_name(name): leaf for name, leaf in checkpoint.learner.leaves().items()}
    kept.pop("reward_running")
    kept["entropy"] = str(kept["entropy"])
    arrays = {name: leaf for name, leaf in kept.items() if isinstance(leaf, np.ndarray)}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": versions(),
        "config": model.config.to_dict(),
        **_environment(checkpoint.maker),
        "own_code": sorted(model.own),
        "observation_space": space_to_json(model.policy.observation_space),
        "action_space": space_to_json(model.policy.action_space),
        "observation_count": None,
        **{name: leaf for name, leaf in kept.items() if name not in arrays},
    }
    text = json.dumps(header).encode()
    if len(text) > LONGEST_HEADER:
        raise ValueError(f"options and spaces take {len(text):,} bytes, more than a file may have")
    arrays |= {name: np.array(getattr(checkpoint, name), dtype=np.float64) for name in _RECENT}
    content = io.BytesIO()  # the first versions of NumPy 2 leave a file half-open that they can't write
    np.savez(content, header=np.frombuffer(text, dtype=np.uint8), **arrays)  # type: ignore[arg-type]
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, lambda file: file.write(content.getbuffer()))
    else:
        target.write(content.getbuffer())


def read_checkpoint(path: str | os.PathLike[str] | IO[bytes], own: Mapping[str, Any]) -> Checkpoint:
    """Read what :func:`write_checkpoint` wrote.

    Parameters
    ----------
    path : path
        With or without ``.npz``; or a file that is open for reading, from its position.
    own : dict
        ``network`` and ``distribution``, if the agent was made with one's own: no file has code.

    Raises
    ------
    CheckpointError
        If it isn't such a file, or is damaged.
    """
    file, given = checkpoint_file(path), _as_path(path)
    try:
        opened = open_regular(file) if isinstance(given, Path) else io.BytesIO(given.read())
        with opened as stream:
            return _parsed(NpzReader(stream), own)
    except OSError as error:
        inside = file / "agent.npz"
        hint = f"; the agent of this run is {inside}" if inside.is_file() else ""
        raise CheckpointError(f"{file} can't be read: {error.strerror or error}{hint}") from error
    except Exception as error:  # whatever a foreign or damaged file leads to, of which there is no list
        raise CheckpointError(f"{file} is no agent that can be loaded: {reason(error)}") from error


def checkpoint_file(path: str | os.PathLike[str] | IO[bytes]) -> Path:
    """Return the file that a path means: the one that has ``.npz`` behind, unless only the other exists.

    A file that is open is only given a name for messages.
    """
    given = _as_path(path)
    if not isinstance(given, Path):
        return Path("the open file")
    file = _with_suffix(given)
    return given if given.exists() and not file.exists() else file


def versions() -> dict[str, str]:
    """Return the versions of everything that results depend on."""
    return {
        "npTRPO": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "gymnasium": gymnasium.__version__,
        "python": platform.python_version(),
    }


def _as_path(path: str | os.PathLike[str] | IO[bytes]) -> Path | IO[bytes]:
    """Return a path as one, and an open file as it is."""
    return Path(path) if isinstance(path, (str, os.PathLike)) else path


def _with_suffix(file: Path) -> Path:
    return file if file.suffix in (".npz", ".zip") else file.parent / f"{file.name}.npz"


def _file_name(name: str) -> str:
    """Return the name that a learner's array or number has in a file."""
    return name.replace("_scale", "").replace("_moments", "")


_RECENT = ("recent_returns", "recent_lengths")
_LEFT_OUT = ("reward_running", "entropy")  # learning goes on from a reset; entropy is written as text
_NONE = np.zeros(0)
_EMPTY = Learner(_NONE, _NONE, AdamState.zero(_NONE), RewardScale.empty(0), Moments.empty(0), 0, 0, 0)
_MEMBERS = {f"{name}.npy" for name in ("header", *_RECENT, *map(_file_name, _EMPTY.leaves()))}


@np.errstate(over="ignore", invalid="ignore")  # what isn't finite is refused, or replaced
def _parsed(arrays: NpzReader, own: Mapping[str, Any]) -> Checkpoint:
    header = _header(arrays)
    config = TRPOConfig.from_file(header["config"])
    spaces = _spaces(header, arrays)
    entropy = whole_number("entropy", int(header["entropy"]))
    needed, given = list(header["own_code"]), sorted(own)
    if needed != given:
        raise CheckpointError(
            f"it was made with {needed or 'nothing'} of one's own, and load needs "
            f"the same, but was given {given or 'nothing'}"
        )
    model = Model.for_spaces(*spaces, config, own)
    _check(arrays, "theta", model.policy.n_parameters, config.dtype)  # before arrays of that size are made
    _check(arrays, "value_theta", model.value_network.n_parameters, config.dtype)

    def read(name: str, leaf: Any) -> Any:
        name = _file_name(name)
        if name in _LEFT_OUT:
            return leaf
        if isinstance(leaf, np.ndarray):
            return _array_like(arrays, name, leaf)
        return whole_number(name, header[name], most=2**63 - 1)

    return Checkpoint(
        model,
        map_leaves(read, Learner.blank(model, entropy)),
        _maker(header),
        *(_recent(arrays, name) for name in _RECENT),
    )


def _header(arrays: NpzReader) -> dict[str, Any]:
    """Return the header of a file whose format is this one, and which has no other members."""
    if "header.npy" not in arrays.members:
        raise CheckpointError("it has no npTRPO header")
    shape, dtype = arrays.header("header")
    if dtype != np.uint8:
        raise CheckpointError("its header is no text")
    if math.prod(shape) > LONGEST_HEADER:
        raise CheckpointError(f"its header has more than {LONGEST_HEADER:,} bytes")
    header = json.loads(arrays.read("header").tobytes().decode())
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError("its header isn't npTRPO's")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"its format version is {version!r}, and this is version {FORMAT_VERSION}")
    foreign = sorted(set(arrays.members) - _MEMBERS)
    if foreign:
        raise CheckpointError(f"its member {foreign[0]!r} is none of an agent's")
    return header


def _environment(maker: EnvMaker | None) -> dict[str, Any]:
    """Return what a file's header has of the environment: its id, and more where there is more."""
    kept = None if maker is None else maker.by_name()
    if kept is None:
        return {"env_id": None}
    more = {"env_kwargs": dict(kept.kwargs), "wrappers": list(kept.wrappers)}
    return {"env_id": kept.id, **{name: value for name, value in more.items() if value}}


def _maker(header: dict[str, Any]) -> EnvMaker | None:
    if header["env_id"] is None:
        return None
    return maker_from_file(header["env_id"], header.get("env_kwargs", {}), header.get("wrappers", []))


def _spaces(header: dict[str, Any], arrays: NpzReader) -> tuple[Space, Space]:
    """Return the spaces of observations and actions, neither with more numbers than there is room for.

    Observations are as long as their moments, and networks have more parameters than inputs or outputs.
    """
    kept = [name.removesuffix(".npy") for name in arrays.members if name != "header.npy"]
    room = max(LEAST_ROOM, sum(math.prod(arrays.header(name)[0]) for name in kept))
    both = header["observation_space"], header["action_space"]
    for size in map(json_space_size, both):
        if size > room:
            raise CheckpointError(f"its space has {size} numbers, and its arrays have room for {room}")
    return space_from_json(both[0]), space_from_json(both[1])


def _check(arrays: NpzReader, name: str, size: int, dtype: npt.DTypeLike) -> None:
    """Raise an error unless an array of the file is a vector of this size and dtype."""
    found, kind = arrays.header(name)
    if found != (size,) or kind != dtype:
        raise CheckpointError(
            f"{name} has shape {found} and dtype {kind}, where its config asks for {(size,)} and {dtype}"
        )


def _array_like(arrays: NpzReader, name: str, expected: Array) -> Array:
    """Return an array of the file; it must be finite and have the expected size and dtype."""
    _check(arrays, name, expected.size, expected.dtype)
    array = arrays.read(name)
    if not np.all(np.isfinite(array)):
        raise CheckpointError(f"{name} is not finite")
    if name.endswith("_variance") and np.any(array < 0):
        raise CheckpointError(f"{name} is negative")
    return array


def _recent(arrays: NpzReader, name: str) -> tuple[float, ...]:
    """Return figures of the latest episodes; they must be up to 100 finite numbers."""
    shape, dtype = arrays.header(name)
    if len(shape) == 1 and shape[0] <= 100 and dtype == np.float64:
        array = arrays.read(name)
        if np.all(np.isfinite(array)):
            return tuple(array.tolist())
    raise CheckpointError(f"{name} isn't a list of up to 100 finite numbers")
