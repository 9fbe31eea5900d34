"""Measured settings for known environments, from ``presets.toml``."""

import tomllib
from importlib import resources
from typing import Any

from npTRPO._checks import whole_number
from npTRPO.agent.config import TRPOConfig
from npTRPO.files.errors import UnreadableFileError, reason

LONGEST = 2**17


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
            if not isinstance(settings, dict):
                raise TypeError(f"it is {settings!r}")
            whole_number("total_timesteps", settings.get("total_timesteps", 1), least=1)
            TRPOConfig.from_dict({key: settings[key] for key in settings if key != "total_timesteps"})
        except Exception as error:
            raise UnreadableFileError(
                f"the preset of {reason(ValueError(env_id))}: {reason(error)}"
            ) from error
    return table


def preset(env_id: str) -> dict[str, Any]:
    """Return the preset of an environment; empty if it has none.

    Examples
    --------
    >>> preset("NoSuchEnvironment-v0")
    {}
    """
    return presets().get(env_id, {})
