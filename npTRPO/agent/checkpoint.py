"""Agents in files: arrays in an ``.npz``, everything else as JSON beside them. Nothing is unpickled."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import scipy
from gymnasium import spaces

from npTRPO._typing import Array
from npTRPO._version import __version__
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.files import write_whole
from npTRPO.sampling.normalization import Moments
from npTRPO.trust_region.value import AdamState

if TYPE_CHECKING:
    from npTRPO.agent.trpo import TRPO

__all__ = ["CheckpointError", "load", "save", "versions"]

FORMAT = "npTRPO agent"
FORMAT_VERSION = 1


class CheckpointError(ValueError):
    """A file that can't be loaded as an agent: the message says why."""


def save(agent: TRPO, path: str | os.PathLike[str]) -> None:
    """Write an agent; the file appears whole or not at all."""
    target = _with_suffix(path)
    moments = agent.observation_moments
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": versions(),
        "config": agent.config.to_dict(),
        "env_id": agent.env_id,
        "own_code": agent.own_code,
        "observation_space": _describe(agent.policy.observation_space),
        "action_space": _describe(agent.policy.action_space),
        "entropy": str(agent.entropy),
        "num_timesteps": agent.num_timesteps,
        "n_updates": agent.n_updates,
        "observation_count": moments.count if moments else None,
        "reward_count": agent.reward_moments.count,
        "adam_steps": agent.adam.steps,
    }
    arrays = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "theta": agent.theta,
        "value_theta": agent.value_theta,
        "adam_mean": agent.adam.mean,
        "adam_square": agent.adam.square,
        "reward_mean": agent.reward_moments.mean,
        "reward_variance": agent.reward_moments.variance,
        "recent_returns": np.array(agent.recent_returns, dtype=np.float64),
        "recent_lengths": np.array(agent.recent_lengths, dtype=np.float64),
    }
    if moments is not None:
        arrays |= {"observation_mean": moments.mean, "observation_variance": moments.variance}
    write_whole(target, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def load(
    path: str | os.PathLike[str], env: Any = None, policy_kwargs: Mapping[str, Any] | None = None
) -> TRPO:
    """Read an agent that :func:`save` wrote."""
    from npTRPO.agent.trpo import TRPO

    target = _with_suffix(path)
    if Path(path).exists() and not target.exists():
        target = Path(path)
    try:
        header, arrays = _read(target)
        config = TRPOConfig.from_dict(header["config"])
        both = (_space(header["observation_space"]), _space(header["action_space"]))
        entropy = _count(int(header["entropy"]))
        needed, given = list(header["own_code"]), sorted(policy_kwargs or {})
        if needed != given:
            raise CheckpointError(
                f"it was made with {needed or 'nothing'} of one's own in policy_kwargs, and load needs "
                f"the same, but was given {given or 'nothing'}"
            )
        agent = TRPO("MlpPolicy", None, config, policy_kwargs=policy_kwargs, spaces=both, entropy=entropy)
        counts = header["num_timesteps"], header["n_updates"], header["reward_count"], header["adam_steps"]
        agent.num_timesteps, agent.n_updates, reward_count, adam_steps = (_count(n) for n in counts)
        agent.env_id = header["env_id"] if isinstance(header["env_id"], str) else None
        agent.theta = _like(arrays, "theta", agent.theta)
        agent.value_theta = _like(arrays, "value_theta", agent.value_theta)
        agent.adam = AdamState(
            _like(arrays, "adam_mean", agent.adam.mean),
            _like(arrays, "adam_square", agent.adam.square),
            adam_steps,
        )
        agent.reward_moments = _moments(arrays, "reward", agent.reward_moments, reward_count)
        agent.recent_returns.extend(_recent(arrays, "recent_returns"))
        agent.recent_lengths.extend(_recent(arrays, "recent_lengths"))
        if agent.observation_moments is not None:
            count = _count(header["observation_count"])
            agent.observation_moments = _moments(arrays, "observation", agent.observation_moments, count)
    except OSError as error:
        raise CheckpointError(f"{target} can't be read: {error.strerror or error}") from error
    except Exception as error:  # whatever a foreign or damaged file leads to, of which there is no list
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise CheckpointError(f"{target} is no agent that can be loaded: {reason}") from error
    if env is not None:
        try:
            agent.set_env(env)
        except ValueError as error:
            raise CheckpointError(f"{target} can't go on in the environment given: {error}") from error
    return agent


def _with_suffix(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    return target if target.suffix == ".npz" else target.parent / f"{target.name}.npz"


def versions() -> dict[str, str]:
    """Versions of everything that results depend on."""
    return {
        "npTRPO": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "gymnasium": gymnasium.__version__,
        "python": platform.python_version(),
    }


def _read(target: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the arrays of a file, with the header's format checked."""
    with target.open("rb") as stream:  # np.load leaves the file open when it fails
        try:
            file = np.load(stream, allow_pickle=False)
        except (EOFError, ValueError) as error:  # NumPy's advice would be to unpickle it
            raise CheckpointError("it is no .npz file, and what was pickled is never read") from error
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise CheckpointError("it holds a single array")
        if "header" not in file.files:
            raise CheckpointError("it has no npTRPO header")
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays.pop("header").astype(np.uint8).tobytes().decode())
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError("its header isn't npTRPO's")
    if header.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"its format version is {header.get('format_version')!r}, and this is version {FORMAT_VERSION}"
        )
    return header, arrays


def _like(arrays: dict[str, Array], name: str, expected: Array) -> Array:
    """An array of the file, with the shape and dtype that the config asks for, finite."""
    array = arrays[name]
    if array.shape != expected.shape or array.dtype != expected.dtype:
        raise CheckpointError(
            f"{name} has shape {array.shape} and dtype {array.dtype}, "
            f"where its config asks for {expected.shape} and {expected.dtype}"
        )
    if not np.all(np.isfinite(array)):
        raise CheckpointError(f"{name} is not finite")
    return array


def _moments(arrays: dict[str, Array], name: str, expected: Moments, count: int) -> Moments:
    variance = _like(arrays, f"{name}_variance", expected.variance)
    if np.any(variance < 0):
        raise CheckpointError(f"{name}_variance is negative")
    return Moments(_like(arrays, f"{name}_mean", expected.mean), variance, count)


def _recent(arrays: dict[str, Array], name: str) -> list[float]:
    """Figures of the latest episodes: up to 100 finite numbers."""
    array = arrays[name]
    if array.ndim != 1 or array.size > 100 or array.dtype != np.float64 or not np.all(np.isfinite(array)):
        raise CheckpointError(f"{name} isn't a list of up to 100 finite numbers")
    return list(array.tolist())


def _count(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise CheckpointError(f"a count is {number!r}")
    return number


def _describe(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """A space as JSON."""
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
        return {"kind": "Dict", "spaces": [[key, _describe(part)] for key, part in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [_describe(part) for part in space.spaces]}
    raise NotImplementedError(f"{space} can't be saved")


def _bounds(bounds: Array) -> Any:
    """One number where all bounds agree, else the list of all."""
    first = bounds.flat[0].item() if bounds.size else 0
    return first if np.all(bounds == first) else bounds.tolist()


def _space(description: dict[str, Any]) -> gymnasium.Space[Any]:
    """The space that :func:`_describe` described."""
    kind = description["kind"]
    if kind == "Box":
        dtype, shape = np.dtype(description["dtype"]), tuple(description["shape"])
        low, high = (np.broadcast_to(np.asarray(description[k], dtype), shape) for k in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        # The first versions of Gymnasium 1 have no other dtype, and no name for it.
        other = {} if description["dtype"] == "int64" else {"dtype": np.dtype(description["dtype"]).type}
        return spaces.Discrete(description["n"], start=description["start"], **other)
    if kind == "MultiDiscrete":
        dtype = np.dtype(description["dtype"])
        return spaces.MultiDiscrete(description["nvec"], dtype.type, start=description["start"])
    if kind == "MultiBinary":
        return spaces.MultiBinary(description["n"])
    if kind == "Dict":
        return spaces.Dict([(key, _space(part)) for key, part in description["spaces"]])  # in this order
    if kind == "Tuple":
        return spaces.Tuple([_space(part) for part in description["spaces"]])
    raise CheckpointError(f"its space is of kind {kind!r}")
