"""Compare groups of runs by their last evaluations."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.files.errors import UnreadableFileError, printable, reason
from npTRPO.files.tables import column_until
from npTRPO.runs.settings import read_options, runs_in
from npTRPO.runs.statistics import bootstrap_interval, interquartile_mean, probability_of_improvement

_RESAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class Group:
    """Runs in one environment, and their returns at the end.

    Attributes
    ----------
    path : pathlib.Path
        The run, or the folder that has the runs.
    env : str
        Id of their environment.
    returns : array, shape (n,)
        Mean return in the last row of each run's evaluations.csv.
    steps : array of int, shape (n,)
        Environment steps that had been taken there.
    without : tuple of pathlib.Path
        Runs that have no such row, or one whose return isn't finite; they are counted nowhere.
    alike : bool
        Whether all runs have the same options but for their seeds.
    """

    path: Path
    env: str
    returns: Array
    steps: Array
    without: tuple[Path, ...]
    alike: bool

    @property
    def mean(self) -> float:
        """The interquartile mean of the returns."""
        return float(interquartile_mean(self.returns))

    @property
    def interval(self) -> tuple[float, float] | None:
        """A 95 % bootstrap interval of that mean, the same each time; None for a single run."""
        if len(self.returns) == 1:
            return None
        low, high = bootstrap_interval(self.returns, np.random.default_rng(0), _RESAMPLES)
        return float(low), float(high)


def read_groups(path: Path) -> list[Group]:
    """Read a run, or a folder of runs, as a group for each environment, in the order of their names.

    Raises
    ------
    UnreadableFileError
        If it is neither, or a run in it is damaged.
    """
    found: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for run in runs_in(path):
        try:
            options = read_options(run)
        except Exception as error:  # whatever a foreign or damaged file leads to, of which there is no list
            raise UnreadableFileError(
                f"{run} isn't a run directory that can be read, nor a folder of them: {reason(error)}"
            ) from error
        found.setdefault(options["env"], []).append((run, options))
    return [_group(path, env, runs) for env, runs in sorted(found.items())]


def _group(path: Path, env: str, runs: Sequence[tuple[Path, dict[str, Any]]]) -> Group:
    last = {run: _last_evaluation(run) for run, _ in runs}
    figures = np.array([found for found in last.values() if found is not None]).reshape(-1, 2)
    return Group(
        path,
        env,
        returns=figures[:, 1],
        steps=figures[:, 0].astype(np.int64),
        without=tuple(run for run, found in last.items() if found is None),
        alike=all(options == runs[0][1] for _, options in runs),
    )


def _last_evaluation(run: Path) -> tuple[float, float] | None:
    """Return steps and mean return of the last evaluation; None without one whose figures are finite."""
    steps, returns = (
        column_until(run / "evaluations.csv", name, "n_updates", sys.maxsize)[-1:]
        for name in ("num_timesteps", "mean_return")
    )
    return (steps[0], returns[0]) if steps and np.isfinite(steps + returns).all() else None


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, which are compared where their environments are the same.

    Attributes
    ----------
    groups : tuple of Group
        Each with a run that has been evaluated.
    """

    groups: tuple[Group, ...]

    @property
    def probabilities(self) -> list[tuple[Group, Group, float]]:
        """P(X > Y), with ties as ½, of every two groups of the same environment."""
        return [
            (x, y, probability_of_improvement(x.returns, y.returns))
            for x, y in itertools.combinations(self.groups, 2)
            if x.env == y.env
        ]

    def to_json(self) -> str:
        """Return all figures as JSON."""
        groups = [
            {
                "path": str(group.path),
                "env": group.env,
                "seeds": len(group.returns),
                "steps": group.steps.tolist(),
                "returns": group.returns.tolist(),
                "interquartile_mean": group.mean,
                "interval": group.interval,
            }
            for group in self.groups
        ]
        probabilities = [
            {"env": x.env, "x": str(x.path), "y": str(y.path), "x_is_better": p}
            for x, y, p in self.probabilities
        ]
        return json.dumps({"groups": groups, "probabilities": probabilities}, indent=2)

    def to_text(self) -> str:
        """Return a table for the terminal, and below it which group is the better, by pairs."""
        rows = [("environment", "runs", "seeds", "steps", "interquartile mean", "95 % interval")]
        for group in sorted(self.groups, key=lambda group: group.env):
            least, most = int(group.steps.min()), int(group.steps.max())
            interval = "–" if group.interval is None else "{:.2f} … {:.2f}".format(*group.interval)
            steps = f"{most:,}" if least == most else f"{least:,} … {most:,}"
            named = printable(group.env), printable(str(group.path))
            rows.append((*named, str(len(group.returns)), steps, f"{group.mean:.2f}", interval))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        pairs = [
            f"P({printable(str(x.path))} > {printable(str(y.path))}) = {p:.2f} on {printable(x.env)}"
            for x, y, p in self.probabilities
        ]
        return "\n".join([*lines, *([""] if pairs else []), *pairs])
