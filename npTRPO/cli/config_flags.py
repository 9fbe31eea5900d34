"""Options of :class:`TRPOConfig` as flags of the command line."""

import argparse
import dataclasses
import json
from typing import Any

from npTRPO.agent.config import TRPOConfig

OPTIONS = [field.name for field in dataclasses.fields(TRPOConfig)]


def flag(name: str) -> str:
    """Return the flag of an option, as "--net-arch"."""
    return "--" + name.replace("_", "-")


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every option of the config, with its meaning and default."""
    group = parser.add_argument_group("options of the algorithm")
    for field in dataclasses.fields(TRPOConfig):
        meaning = str(field.metadata["meaning"]).replace("%", "%%")
        details: dict[str, Any] = {}
        if isinstance(field.default, bool):
            details = {"action": argparse.BooleanOptionalAction}
        elif field.name == "net_arch":
            details = {"type": int, "nargs": "*", "metavar": "WIDTH"}
        elif field.name == "info_keys":
            details = {"nargs": "*", "metavar": "KEY"}
        elif field.metadata["choices"]:
            details = {"choices": [choice for choice in field.metadata["choices"] if choice is not None]}
        else:
            kind = float if isinstance(field.default, float) else int
            details = {"type": kind, "metavar": kind.__name__.upper()}
        text = f"{meaning} (default: {field.default})"
        group.add_argument(flag(field.name), default=argparse.SUPPRESS, help=text, **details)


def as_flags(settings: dict[str, Any]) -> str:
    """Write settings as one would on the command line."""
    parts = []
    for name, value in settings.items():
        if isinstance(value, bool):
            parts.append(flag(name) if value else flag(f"no_{name}"))
        elif isinstance(value, dict):  # for which there is no flag
            parts.append(f"{name} = {json.dumps(value)}")
        else:
            parts.append(f"{flag(name)} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return " ".join(parts)
