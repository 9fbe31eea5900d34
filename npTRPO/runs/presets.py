"""Settings that were measured to work, by environment, from ``presets.toml``."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

from npTRPO.agent.config import TRPOConfig
from npTRPO.files.writing import UnreadableFileError, reason

__all__ = ["preset", "presets", "read_presets"]

LONGEST = 2**17


def presets() -> dict[str, dict[str, Any]]:
    """All presets: for each environment's id, ``total_timesteps`` and options of :class:`TRPOConfig`."""
    return read_presets(resources.files("npTRPO.runs").joinpath("presets.toml").read_bytes())


def read_presets(content: bytes) -> dict[str, dict[str, Any]]:
    """Presets from the content of a TOML file.

    Raises
    ------
    UnreadableFileError
        If it isn't one, names an option that doesn't exist, or a value out of range.
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
            steps = settings.get("total_timesteps", 1)
            if type(steps) is not int or steps < 1:
                raise ValueError(f"total_timesteps must be a whole number, at least 1, but it is {steps!r}")
            TRPOConfig.from_dict({key: settings[key] for key in settings if key != "total_timesteps"})
        except Exception as error:
            raise UnreadableFileError(
                f"the preset of {reason(ValueError(env_id))}: {reason(error)}"
            ) from error
    return table


def preset(env_id: str) -> dict[str, Any]:
    """The preset of an environment; empty if it has none.

    Examples
    --------
    >>> preset("NoSuchEnvironment-v0")
    {}
    """
    return presets().get(env_id, {})
