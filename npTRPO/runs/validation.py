"""What must hold of a run directory that nobody vouches for, before the run in it is gone on with."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npTRPO.agent.config import TRPOConfig
from npTRPO.sampling.environments import checked_env_id, make_vector_env
from npTRPO.files.writing import UnreadableFileError, figures_until, read_text, reason
from npTRPO.policies.mlp import MLP
from npTRPO.policies.policy import Policy

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "Description",
    "check_beginning",
    "check_links",
    "check_tables",
    "read_description",
]

FORMAT = "npTRPO run"
FORMAT_VERSION = 1

# Parameters of an agent that is made anew, as no checkpoint shows yet how many it has.
_MOST_PARAMETERS = 2**20
# What is written to in place, or through.
_WRITTEN = (".lock", "progress.csv", "evaluations.csv", "checkpoints")


@dataclass(frozen=True)
class Description:
    """What config.json says, apart from what is for people to read."""

    env: str
    total_timesteps: int
    eval_episodes: int
    env_timeout: float | None
    config: TRPOConfig
    entropy: int


def read_description(directory: Path, env: str | None = None) -> Description:
    """Read a run's config.json.

    Parameters
    ----------
    directory : pathlib.Path
        The run's.
    env : str, optional
        The run's environment, named by someone who trusts its module; see :func:`checked_env_id`.

    Raises
    ------
    UnreadableFileError
        If it isn't one, or says what can't be.
    """
    file = directory / "config.json"
    try:
        described = json.loads(read_text(file))
        if described["format"] != FORMAT:
            raise ValueError("it isn't npTRPO's")
        version = described.get("format_version", 1)  # the first files had none
        if version != FORMAT_VERSION:
            raise ValueError(f"its format version is {version!r}, and this is version {FORMAT_VERSION}")
        description = Description(
            env=_env_id(described["env"]),
            total_timesteps=_whole(described, "total_timesteps", 1),
            eval_episodes=_whole(described, "eval_episodes", 0),
            env_timeout=_seconds(described.get("env_timeout")),
            config=TRPOConfig.from_dict(described["config"]),
            entropy=int(described["entropy"]),
        )
        if description.entropy < 0:
            raise ValueError(f"entropy is {description.entropy}")
        if env is not None and env != description.env:
            raise ValueError(f"its environment is {description.env!r}, and not {env!r}")
        if env is None:
            words = shlex.join(["nptrpo", "train", description.env, "--resume", str(directory)])
            checked_env_id(description.env, f"say {words}")
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{directory} isn't a run directory: it has no config.json") from error
    except Exception as error:  # whatever a foreign or damaged file leads to, of which there is no list
        raise UnreadableFileError(f"{file} can't be read: {reason(error)}") from error
    return description


def _env_id(name: Any) -> str:
    if not isinstance(name, str) or not name.isprintable() or len(name) > 1000:
        raise ValueError(f"env is {name!r}")
    return name


def _whole(described: dict[str, Any], name: str, least: int) -> int:
    number = described[name]
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number < 2**63:
        raise ValueError(f"{name} is {number!r}")
    return number


def _seconds(number: Any) -> float | None:
    if number is None:
        return None
    if not isinstance(number, (int, float)) or not 0 < number <= sys.float_info.max:
        raise ValueError(f"env_timeout is {number!r}")
    return float(number)


def check_links(directory: Path) -> None:
    """Raise an error if a symbolic link leads elsewhere from where a run writes."""
    for path in (directory / name for name in _WRITTEN):
        if path.is_symlink():
            raise UnreadableFileError(f"{path} is a symbolic link, and a run is written through none")


def check_tables(directory: Path, n_updates: int) -> None:
    """Raise an error if a table isn't one that a run with so many updates goes on with."""
    for name, figure in (("progress.csv", "time_elapsed"), ("evaluations.csv", "mean_return")):
        figures_until(directory / name, n_updates, figure)


def check_beginning(directory: Path, env: str, config: TRPOConfig) -> None:
    """Raise an error if a run that broke off before its first checkpoint asks for too large an agent."""
    envs = make_vector_env(env, 1)
    try:
        policy = Policy.for_spaces(
            envs.single_observation_space, envs.single_action_space, config.policy_arch
        )
        value_network = MLP((policy.n_features, *config.value_arch, 1))
        n_parameters = policy.n_parameters + value_network.n_parameters
    finally:
        envs.close()
    if n_parameters > _MOST_PARAMETERS:
        raise UnreadableFileError(
            f"{directory} has no checkpoint, and asks for {n_parameters} parameters: "
            f"begin again with --overwrite"
        )
