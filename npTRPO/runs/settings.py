"""What a run does, and how ``config.json`` says it."""

from __future__ import annotations

import json
import operator
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npTRPO.agent.checkpoint import versions
from npTRPO.agent.config import TRPOConfig
from npTRPO.files.reading import read_text
from npTRPO.files.writing import write_whole

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "RunSettings",
    "commit",
    "holds_run",
    "update_config",
    "write_config",
]

FORMAT = "npTRPO run"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class RunSettings:
    """What a run does, apart from the algorithm's options.

    Attributes
    ----------
    env : str
        Id of the environment.
    total_timesteps : int
        Environment steps.
    eval_episodes : int
        Episodes per evaluation, which happens at each checkpoint boundary; 0 for none.
    env_timeout : float, optional
        Seconds that the environments may take for a step; see
        :class:`npTRPO.sampling.environments.TimeLimited`.
    """

    env: str
    total_timesteps: int
    eval_episodes: int = 10
    env_timeout: float | None = None

    def __post_init__(self) -> None:
        """Replace NumPy's numbers, which JSON doesn't know, by Python's."""
        for name in ("total_timesteps", "eval_episodes"):
            object.__setattr__(self, name, operator.index(getattr(self, name)))
        if self.env_timeout is not None:
            object.__setattr__(self, "env_timeout", float(self.env_timeout))


def write_config(directory: Path, settings: RunSettings, config: TRPOConfig, entropy: int) -> None:
    """Write a run's config.json: its settings and options, and with what it was begun."""
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "env": settings.env,
        "eval_episodes": settings.eval_episodes,
        **_changeable(settings),
        "config": config.to_dict(),
        "entropy": str(entropy),
        "versions": versions(),
        "commit": commit(),
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        },
    }
    _write(directory, description)


def update_config(directory: Path, settings: RunSettings) -> None:
    """Write the settings given to a resumed run into its config.json, for the next time it is resumed."""
    before = json.loads((directory / "config.json").read_text())
    now = before | _changeable(settings)
    if now != before:
        _write(directory, now)


def holds_run(directory: Path) -> bool:
    """Return whether a directory has the config.json of a run."""
    try:
        return bool(json.loads(read_text(directory / "config.json"))["format"] == FORMAT)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def commit() -> str | None:
    """Return the commit of the working directory's repository, with a + if files have changed since."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None


def _changeable(settings: RunSettings) -> dict[str, Any]:
    """Return the settings that a resumed run may be given anew."""
    return {"total_timesteps": settings.total_timesteps, "env_timeout": settings.env_timeout}


def _write(directory: Path, description: dict[str, Any]) -> None:
    write_whole(directory / "config.json", (json.dumps(description, indent=2) + "\n").encode())
