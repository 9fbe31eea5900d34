"""Agents in files: arrays in an ``.npz``, everything else as JSON beside them. Nothing is unpickled."""

from __future__ import annotations

import io
import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt
import scipy

from npTRPO._typing import Array
from npTRPO._version import __version__
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.sb3 import changed
from npTRPO.agent.spaces_json import describe, described_size, described_space
from npTRPO.files.errors import UnreadableFileError as CheckpointError
from npTRPO.files.errors import reason
from npTRPO.files.npz import NpzReader
from npTRPO.files.reading import open_regular
from npTRPO.files.writing import write_whole
from npTRPO.policies.mlp import MLP
from npTRPO.policies.policy import Policy
from npTRPO.policies.spaces import Space
from npTRPO.sampling.normalization import Moments
from npTRPO.trust_region.value_fit import AdamState

if TYPE_CHECKING:
    from npTRPO.agent.trpo import TRPO

__all__ = ["CheckpointError", "load", "save", "versions"]

FORMAT = "npTRPO agent"
FORMAT_VERSION = 1
ARRAYS = (
    *("theta", "value_theta", "adam_mean", "adam_square", "reward_mean", "reward_variance"),
    *("observation_mean", "observation_variance", "recent_returns", "recent_lengths"),
)

# What a file may have: bytes of JSON; and numbers in an observation or an action, if its arrays hold fewer.
LONGEST_HEADER, LEAST_ROOM = 2**20, 2**20


def save(agent: TRPO, path: str | os.PathLike[str]) -> None:
    """Write an agent, in a directory that is made if need be; the file appears whole or not at all."""
    if not Path(path).name:
        raise ValueError(f"{os.fspath(path)!r} is no name of a file")
    target = _with_suffix(path)
    moments = agent.observation_moments
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": versions(),
        "config": agent.config.to_dict(),
        "env_id": agent.env_id,
        "own_code": agent.own_code,
        "observation_space": describe(agent.policy.observation_space),
        "action_space": describe(agent.policy.action_space),
        "entropy": str(agent.entropy),
        "num_timesteps": agent.num_timesteps,
        "n_updates": agent.n_updates,
        "observation_count": moments.count if moments else None,
        "reward_count": agent.reward_moments.count,
        "adam_steps": agent.adam.steps,
    }
    text = json.dumps(header).encode()
    if len(text) > LONGEST_HEADER:
        raise ValueError(
            f"the agent's options and spaces take {len(text):,} bytes, more than a file may have"
        )
    arrays = {
        "header": np.frombuffer(text, dtype=np.uint8),
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
    content = io.BytesIO()  # the first versions of NumPy 2 leave a file half-open that they can't write
    np.savez(content, **arrays)  # type: ignore[arg-type]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, lambda file: file.write(content.getbuffer()))


def load(
    path: str | os.PathLike[str],
    env: Any = None,
    policy_kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> TRPO:
    """Read an agent that :func:`save` wrote, to go on with other ``options`` where they are given."""
    target = _with_suffix(path)
    if Path(path).exists() and not target.exists():
        target = Path(path)
    try:
        with open_regular(target) as stream:
            reader = NpzReader(stream)
            agent = _restored(_header(reader), reader, policy_kwargs or {})
    except OSError as error:
        inside = target / "agent.npz"
        hint = f"; the agent of this run is {inside}" if inside.is_file() else ""
        raise CheckpointError(f"{target} can't be read: {error.strerror or error}{hint}") from error
    except Exception as error:  # whatever a foreign or damaged file leads to, of which there is no list
        raise CheckpointError(f"{target} is no agent that can be loaded: {reason(error)}") from error
    agent.config = changed(agent.config, options or {})
    if env is not None:
        try:
            agent.set_env(env)
        except (ValueError, ImportError, gymnasium.error.Error) as error:
            raise CheckpointError(
                f"{target} can't go on in the environment given: {reason(error)}"
            ) from error
    return agent


@np.errstate(over="ignore", invalid="ignore")  # what isn't finite is refused, or replaced
def _restored(header: dict[str, Any], arrays: NpzReader, policy_kwargs: Mapping[str, Any]) -> TRPO:
    """The agent that a file holds."""
    from npTRPO.agent.trpo import TRPO

    config = TRPOConfig.from_dict(header["config"])
    # Observations are as long as their moments, and networks have more parameters than inputs or outputs.
    kept = [name for name in ARRAYS if _member(name) in arrays.members]
    both = _spaces(header, max(LEAST_ROOM, sum(math.prod(arrays.header(name)[0]) for name in kept)))
    entropy = int(header["entropy"])
    if entropy < 0:
        raise CheckpointError(f"its entropy is {entropy}")
    needed, given = list(header["own_code"]), sorted(policy_kwargs)
    if needed != given:
        raise CheckpointError(
            f"it was made with {needed or 'nothing'} of one's own in policy_kwargs, and load needs "
            f"the same, but was given {given or 'nothing'}"
        )
    _check_sizes(config, both, policy_kwargs, arrays)
    agent = TRPO("MlpPolicy", None, config, policy_kwargs=policy_kwargs, spaces=both, entropy=entropy)
    counts = header["num_timesteps"], header["n_updates"], header["reward_count"], header["adam_steps"]
    agent.num_timesteps, agent.n_updates, reward_count, adam_steps = (_count(n) for n in counts)
    agent.env_id = _env_id(header["env_id"])
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
    return agent


def _with_suffix(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    return target if target.suffix in (".npz", ".zip") else target.parent / f"{target.name}.npz"


def versions() -> dict[str, str]:
    """Versions of everything that results depend on."""
    return {
        "npTRPO": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "gymnasium": gymnasium.__version__,
        "python": platform.python_version(),
    }


def _header(reader: NpzReader) -> dict[str, Any]:
    """The header of a file, with its format checked."""
    if _member("header") not in reader.members:
        raise CheckpointError("it has no npTRPO header")
    shape, dtype = reader.header("header")
    if dtype != np.uint8:
        raise CheckpointError("its header is no text")
    if math.prod(shape) > LONGEST_HEADER:
        raise CheckpointError(f"its header has more than {LONGEST_HEADER:,} bytes")
    header = json.loads(reader.read("header").tobytes().decode())
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError("its header isn't npTRPO's")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"its format version is {version!r}, and this is version {FORMAT_VERSION}")
    foreign = sorted(set(reader.members) - {_member(name) for name in ("header", *ARRAYS)})
    if foreign:
        raise CheckpointError(f"its member {foreign[0]!r} is none of an agent's")
    return header


def _member(name: str) -> str:
    return f"{name}.npy"


def _check_sizes(
    config: TRPOConfig, both: tuple[Space, Space], own: Mapping[str, Any], arrays: NpzReader
) -> None:
    """Raise an error unless the networks have as many parameters as the file, before they are made."""
    policy = Policy.for_spaces(*both, config.policy_arch, config.activation_fn, **own)
    value_network = MLP((policy.n_features, *config.value_arch, 1))
    if "network" not in own:
        _check(arrays, "theta", (policy.n_parameters,), config.dtype)
        _check(arrays, "value_theta", (value_network.n_parameters,), config.dtype)


def _check(arrays: NpzReader, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Raise an error unless an array of the file has the shape and dtype that the config asks for."""
    found, kind = arrays.header(name)
    if found != shape or kind != dtype:
        raise CheckpointError(
            f"{name} has shape {found} and dtype {kind}, where its config asks for {shape} and {dtype}"
        )


def _like(arrays: NpzReader, name: str, expected: Array) -> Array:
    """An array of the file, like the one that is there, finite."""
    _check(arrays, name, expected.shape, expected.dtype)
    array = arrays.read(name)
    if not np.all(np.isfinite(array)):
        raise CheckpointError(f"{name} is not finite")
    return array


def _moments(arrays: NpzReader, name: str, expected: Moments, count: int) -> Moments:
    variance = _like(arrays, f"{name}_variance", expected.variance)
    if np.any(variance < 0):
        raise CheckpointError(f"{name}_variance is negative")
    return Moments(_like(arrays, f"{name}_mean", expected.mean), variance, count)


def _recent(arrays: NpzReader, name: str) -> list[float]:
    """Figures of the latest episodes: up to 100 finite numbers."""
    shape, dtype = arrays.header(name)
    if len(shape) == 1 and shape[0] <= 100 and dtype == np.float64:
        array = arrays.read(name)
        if np.all(np.isfinite(array)):
            return list(array.tolist())
    raise CheckpointError(f"{name} isn't a list of up to 100 finite numbers")


def _count(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
        raise CheckpointError(f"a count is {number!r}")
    return number


def _env_id(name: Any) -> str | None:
    if name is not None and not (isinstance(name, str) and name.isprintable() and len(name) <= 1000):
        raise CheckpointError(f"the id of its environment is {name!r}")
    return name


def _spaces(header: dict[str, Any], room: int) -> tuple[Space, Space]:
    """The spaces of observations and actions, neither with more numbers than there is room for."""
    both = header["observation_space"], header["action_space"]
    for description in both:
        size = described_size(description)
        if size > room:
            raise CheckpointError(f"its space has {size} numbers, and its arrays have room for {room}")
    return described_space(both[0]), described_space(both[1])
