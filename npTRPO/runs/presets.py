"""Measured settings for known environments, from ``presets.toml``, and settings in files of one's own."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from npTRPO._checks import unknown_option, whole_number
from npTRPO.agent.config import TRPOConfig
from npTRPO.files.errors import UnreadableFileError, reason
from npTRPO.files.reading import read_text
from npTRPO.files.writing import write_whole

LONGEST = 2**17
STEPS = "total_timesteps"


def presets() -> dict[str, dict[str, Any]]:
    """Return ``total_timesteps`` and options of :class:`TRPOConfig` for each environment's id."""
    return read_presets(resources.files("npTRPO.runs").joinpath("presets.toml").read_bytes())


def read_presets(content: bytes) -> dict[str, dict[str, Any]]:
    """Parse the content of a TOML file of presets.

    Raises
    ------
    UnreadableFileError
        If it isn't one, or has an option that doesn't exist or a value out of range.
    """
    if len(content) > LONGEST:
        raise UnreadableFileError(f"the presets have more than {LONGEST:,} bytes")
    try:
        table = tomllib.loads(content.decode())
    except Exception as error:  # a recursion too deep, among others
        raise UnreadableFileError(f"the presets can't be read: {reason(error)}") from error
    for env_id, settings in table.items():
        try:
            _check(settings)
        except Exception as error:
            raise UnreadableFileError(
                f"the preset of {reason(ValueError(env_id))}: {reason(error)}"
            ) from error
    return table


def read_preset(path: Path) -> dict[str, Any]:
    """Read a TOML file with ``total_timesteps`` and options of :class:`TRPOConfig`, for any environment.

    Raises
    ------
    UnreadableFileError
        If it isn't one, or has an option that doesn't exist or a value out of range.
    """
    try:
        settings = tomllib.loads(read_text(path, LONGEST))
        _check(settings)
    except Exception as error:  # a recursion too deep, among others
        raise UnreadableFileError(f"the preset {path} can't be read: {reason(error)}") from error
    return settings


def write_preset(path: Path, settings: Mapping[str, Any], comment: str) -> None:
    """Write a file that :func:`read_preset` reads, below a line of comment."""
    lines = [f"# {comment}", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
    write_whole(path, ("\n".join(lines) + "\n").encode())


def _check(settings: Any) -> None:
    """Raise an error unless these are options that exist, with values in range."""
    if not isinstance(settings, dict):
        raise TypeError(f"it is {settings!r}")
    names = [STEPS, *(field.name for field in dataclasses.fields(TRPOConfig))]
    for key in settings:
        if key not in names:
            raise unknown_option(key, names)
    whole_number(STEPS, settings.get(STEPS, 1), least=1)
    TRPOConfig.from_dict({key: settings[key] for key in settings if key != STEPS})


def preset(env_id: str) -> dict[str, Any]:
    """Return the preset of an environment; empty if it has none.

    Examples
    --------
    >>> preset("NoSuchEnvironment-v0")
    {}
    """
    return presets().get(env_id, {})
