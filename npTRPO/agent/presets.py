"""Settings that were measured to work, by environment, from ``presets.toml``."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

from npTRPO.agent.config import TRPOConfig

__all__ = ["preset", "presets"]


def presets() -> dict[str, dict[str, Any]]:
    """All presets: for each environment's id, ``total_timesteps`` and options of :class:`TRPOConfig`.

    Raises
    ------
    ValueError
        If the file names an option that doesn't exist, or a value out of range.
    """
    table = tomllib.loads(resources.files("npTRPO").joinpath("presets.toml").read_text(encoding="utf-8"))
    for env_id, settings in table.items():
        options = {key: value for key, value in settings.items() if key != "total_timesteps"}
        try:
            TRPOConfig.from_dict(options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the preset of {env_id}: {error}") from error
    return table


def preset(env_id: str) -> dict[str, Any]:
    """The preset of an environment; empty if it has none.

    Examples
    --------
    >>> preset("NoSuchEnvironment-v0")
    {}
    """
    return presets().get(env_id, {})
