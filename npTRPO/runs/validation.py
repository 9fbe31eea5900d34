"""Validate an untrusted run directory before resuming it."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from npTRPO.agent.config import TRPOConfig
from npTRPO.files.errors import UnreadableFileError, reason
from npTRPO.files.reading import read_text
from npTRPO.files.tables import column_until
from npTRPO.policies.mlp import MLP
from npTRPO.policies.policy import Policy
from npTRPO.runs.settings import FORMAT, FORMAT_VERSION, RunSettings
from npTRPO.sampling.environments import id_from_file, make_vector_env

__all__ = ["check_links", "check_size", "check_tables", "read_config"]

# Parameters of an agent that is made anew, as no checkpoint shows yet how many it has.
_MOST_PARAMETERS = 2**20
# What is written to in place, or through.
_WRITTEN = (".lock", "progress.csv", "evaluations.csv", "checkpoints")


def read_config(directory: Path, env: str | None = None) -> tuple[RunSettings, TRPOConfig, int]:
    """Read the settings, options and entropy of a run from its config.json.

    Parameters
    ----------
    directory : pathlib.Path
        The run's.
    env : str, optional
        The run's environment, named by someone who trusts its module; see :func:`id_from_file`.

    Raises
    ------
    UnreadableFileError
        If it isn't a run's, or a value in it is out of range.
    """
    file = directory / "config.json"
    try:
        found = json.loads(read_text(file))
        if found["format"] != FORMAT:
            raise ValueError("it isn't npTRPO's")
        version = found.get("format_version", 1)  # the first files had none
        if version != FORMAT_VERSION:
            raise ValueError(f"its format version is {version!r}, and this is version {FORMAT_VERSION}")
        settings = RunSettings(
            _env_id(found["env"]),
            _whole(found, "total_timesteps", 1),
            _whole(found, "eval_episodes", 0),
            _seconds(found.get("env_timeout")),
        )
        config, entropy = TRPOConfig.from_dict(found["config"]), int(found["entropy"])
        if entropy < 0:
            raise ValueError(f"entropy is {entropy}")
        if env is not None and env != settings.env:
            raise ValueError(f"its environment is {settings.env!r}, and not {env!r}")
        if env is None:
            words = shlex.join(["nptrpo", "train", settings.env, "--resume", str(directory)])
            id_from_file(settings.env, f"say {words}")
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{directory} isn't a run directory: it has no config.json") from error
    except Exception as error:  # whatever a foreign or damaged file leads to, of which there is no list
        raise UnreadableFileError(f"{file} can't be read: {reason(error)}") from error
    return settings, config, entropy


def _env_id(name: Any) -> str:
    if not isinstance(name, str) or not name.isprintable() or len(name) > 1000:
        raise ValueError(f"env is {name!r}")
    return name


def _whole(found: dict[str, Any], name: str, least: int) -> int:
    number = found[name]
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
    """Raise an error for a symbolic link in the place of a file or folder that a run writes to."""
    for path in (directory / name for name in _WRITTEN):
        if path.is_symlink():
            raise UnreadableFileError(f"{path} is a symbolic link, and a run is written through none")


def check_tables(directory: Path, n_updates: int) -> None:
    """Raise an error unless the tables can be continued by a run that has made so many updates."""
    for name, column in (("progress.csv", "time_elapsed"), ("evaluations.csv", "mean_return")):
        column_until(directory / name, column, "n_updates", n_updates)


def check_size(directory: Path, env: str, config: TRPOConfig) -> None:
    """Raise an error if a run that broke off before its first checkpoint asks for too large an agent."""
    envs = make_vector_env(env, 1)
    try:
        policy = Policy.for_spaces(
            envs.single_observation_space, envs.single_action_space, config.policy_arch
        )
    finally:
        envs.close()
    n_parameters = policy.n_parameters + MLP((policy.n_features, *config.value_arch, 1)).n_parameters
    if n_parameters > _MOST_PARAMETERS:
        raise UnreadableFileError(
            f"{directory} has no checkpoint, and asks for {n_parameters} parameters: "
            f"begin again with --overwrite"
        )
