"""Pictures of training runs (needs the ``plot`` extra)."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npTRPO._typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Run", "bootstrap_interval", "interquartile_mean", "plot_runs", "read_run"]

# Colours that readers with any colour vision can tell apart: Okabe and Ito 2008, darkest first.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True)
class Run:
    """A run directory's progress.

    Attributes
    ----------
    path : pathlib.Path
        The directory.
    config : dict
        Options other than the seed, with the environment.
    columns : dict of arrays
        The numeric columns of progress.csv, each with a row per update.
    """

    path: Path
    config: dict[str, Any]
    columns: dict[str, Array]


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run directory.

    Raises
    ------
    ValueError
        If it isn't one, or holds no progress yet.
    """
    directory = Path(path)
    try:
        described = json.loads((directory / "config.json").read_text())
        config = {"env": described["env"], **described["config"]}
        with (directory / "progress.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values() and None not in row]
        names = [name for name in (rows[0] if rows else {}) if name != "outcome"]
        columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
    except (OSError, ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
        raise ValueError(f"{directory} isn't a run directory that can be read: {error}") from error
    missing = {"num_timesteps", "time_elapsed", "episode_return", "kl"} - set(columns)
    if missing:
        raise ValueError(f"{directory} has no progress to draw yet (columns {sorted(missing)} are missing)")
    for option in ("seed", "checkpoint_interval"):
        config.pop(option, None)
    return Run(directory, config, columns)


def interquartile_mean(x: Array) -> Array:
    """Mean of the middle half, over axis 0; with fewer than four runs, of all that trimming leaves.

    References
    ----------
    Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
    """
    import scipy.stats

    return np.asarray(scipy.stats.trim_mean(x, 0.25, axis=0))


def bootstrap_interval(x: Array, rng: np.random.Generator, resamples: int = 1000) -> tuple[Array, Array]:
    """95 % percentile interval of the interquartile mean over axis 0, by resampling runs."""
    chosen = rng.integers(len(x), size=(resamples, len(x)))
    means = np.stack([interquartile_mean(x[rows]) for rows in chosen])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


def plot_runs(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Draw runs: returns over steps and time, and what the trust region did.

    Runs that differ only in their seed are drawn together: each as a thin line, their interquartile mean
    as a thick one, with a 95 % bootstrap interval from three runs on.

    Parameters
    ----------
    paths : sequence of paths
        Run directories.
    out : path
        PNG, SVG or PDF file, by its ending.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    ModuleNotFoundError
        Without the ``plot`` extra.
    ValueError
        For no runs, or one that can't be read.
    """
    target = Path(out)
    if target.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"the picture's file must end in .png, .svg or .pdf, not {target.name!r}")
    if not paths:
        raise ValueError("name at least one run directory to draw")
    groups = _grouped([read_run(path) for path in paths])
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('drawing needs matplotlib: pip install "npTRPO[plot]"') from error
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    _draw(figure, groups)
    figure.savefig(target, dpi=120)
    return target


def _grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of the same settings together, under a label that says where settings differ."""
    keys = sorted({key for run in runs for key in run.config})
    texts = [{key: json.dumps(run.config.get(key), sort_keys=True) for key in keys} for run in runs]
    varying = [key for key in keys if key != "env" and len({text[key] for text in texts}) > 1]
    groups: dict[str, list[Run]] = {}
    for run, text in zip(runs, texts, strict=True):
        label = ", ".join([str(run.config["env"]), *(f"{key}={text[key]}" for key in varying)])
        groups.setdefault(label, []).append(run)
    return groups


def _draw(figure: Figure, groups: dict[str, list[Run]]) -> None:
    (over_steps, over_time, kl), (improvement, residual, explained) = figure.subplots(2, 3)
    for colour, (label, runs) in zip(_cycle(len(groups)), groups.items(), strict=True):
        seeds = f" ({len(runs)} runs)" if len(runs) > 1 else ""
        _curves(over_steps, runs, "num_timesteps", "episode_return", colour, label + seeds)
        _curves(over_time, runs, "time_elapsed", "episode_return", colour)
        _curves(kl, runs, "num_timesteps", "kl", colour)
        _curves(improvement, runs, "num_timesteps", "improvement", colour)
        _curves(improvement, runs, "num_timesteps", "predicted_improvement", colour, style=":")
        _curves(residual, runs, "num_timesteps", "cg_residual", colour)
        _curves(explained, runs, "num_timesteps", "explained_variance", colour)
        for delta in sorted({float(run.columns["target_kl"][-1]) for run in runs}):
            kl.axhline(delta, color=colour, linewidth=1, linestyle="--")
    titles = {
        over_steps: ("Return over steps", "environment steps", "mean return of the last 100 episodes"),
        over_time: ("Return over time", "seconds", "mean return of the last 100 episodes"),
        kl: ("KL divergence (dashed: δ)", "environment steps", "mean KL(old ‖ new) in nats"),
        improvement: ("Improvement (dotted: predicted)", "environment steps", "surrogate, new − old"),
        residual: ("Conjugate gradients", "environment steps", "relative residual"),
        explained: ("Value function", "environment steps", "explained variance"),
    }
    for axes, (title, x, y) in titles.items():
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    kl.set_ylim(bottom=0)
    residual.set_yscale("log")
    explained.set_ylim(-1, 1.02)
    over_steps.legend(loc="best", fontsize="small", frameon=False)


def _curves(
    axes: Axes, runs: Sequence[Run], x: str, y: str, colour: str, label: str | None = None, style: str = "-"
) -> None:
    """Thin lines for single runs; their interquartile mean and interval over the range they share."""
    for run in runs:
        single = len(runs) == 1
        axes.plot(
            run.columns[x],
            run.columns[y],
            style,
            color=colour,
            linewidth=1.5 if single else 0.6,
            alpha=1.0 if single else 0.35,
            label=label if single else None,
        )
    if len(runs) == 1:
        return
    begin, end = max(run.columns[x][0] for run in runs), min(run.columns[x][-1] for run in runs)
    grid = np.linspace(begin, end, 200)
    values = np.stack([np.interp(grid, run.columns[x], run.columns[y]) for run in runs])
    axes.plot(grid, interquartile_mean(values), style, color=colour, linewidth=2, label=label)
    if len(runs) >= 3:
        low, high = bootstrap_interval(values, np.random.default_rng(0))
        axes.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
