"""Plot training runs (needs the ``plot`` extra)."""

from __future__ import annotations

import itertools
import json
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from npTRPO._typing import Array
from npTRPO.files.errors import UnreadableFileError, reason
from npTRPO.files.tables import read_rows
from npTRPO.files.writing import write_whole
from npTRPO.runs.settings import read_options
from npTRPO.runs.statistics import bootstrap_interval, interquartile_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that readers with any colour vision can tell apart: Okabe and Ito 2008, darkest first."""

# Each panel's title, column and label of x, label of y, and columns of y with the style of their lines.
_STEPS, _SECONDS = ("num_timesteps", "environment steps"), ("time_elapsed", "seconds")
_RETURN = "mean return of the last 100 episodes"
_PANELS: tuple[tuple[str, tuple[str, str], str, dict[str, str]], ...] = (
    ("Return over steps", _STEPS, _RETURN, {"episode_return": "-"}),
    ("Return over time", _SECONDS, _RETURN, {"episode_return": "-"}),
    ("KL divergence (dashed: δ)", _STEPS, "mean KL(old ‖ new) in nats", {"kl": "-"}),
    (
        "Improvement (dotted: predicted)",
        _STEPS,
        "surrogate, new − old",
        {"improvement": "-", "predicted_improvement": ":"},
    ),
    ("Conjugate gradients", _STEPS, "relative residual", {"cg_residual": "-"}),
    ("Value function (cut off below −1)", _STEPS, "explained variance", {"explained_variance": "-"}),
)
_NEEDED = {"target_kl"}.union(*({x, *columns} for _, (x, _), _, columns in _PANELS))

# The largest number that can be drawn.
_LARGEST = 1e30

# What varies from update to update is drawn by the medians of so many stretches of a run.
_STRETCHES = 50


class NoProgressError(UnreadableFileError):
    """A run has no progress to draw yet."""


@dataclass(frozen=True)
class LoadedRun:
    """The progress of a run, read from its directory.

    Attributes
    ----------
    path : pathlib.Path
        The directory.
    config : dict
        Options other than the seed, with the environment, as :func:`read_options` gives them.
    columns : dict of arrays
        The numeric columns of progress.csv, each with a row per update.
    evaluations : dict of arrays
        Those of evaluations.csv, with a row per evaluation; empty if there are none.
    """

    path: Path
    config: dict[str, Any]
    columns: dict[str, Array]
    evaluations: dict[str, Array]


Groups: TypeAlias = dict[str, list[LoadedRun]]
"""Runs that differ only in their seed, by their labels."""


def read_run(path: str | os.PathLike[str]) -> LoadedRun:
    """Read a run directory.

    Raises
    ------
    NoProgressError
        If it holds no progress yet.
    UnreadableFileError
        If it isn't a run directory.
    """
    directory = Path(path)
    try:
        config = read_options(directory)
        progress = directory / "progress.csv"
        columns = _columns(progress) if progress.exists() else {}
        evaluations = directory / "evaluations.csv"
        evaluated = _columns(evaluations) if evaluations.exists() else {}
        if evaluated and not {"num_timesteps", "mean_return"} <= set(evaluated):
            raise ValueError("evaluations.csv has other columns")
    except Exception as error:  # whatever a foreign or damaged file leads to, of which there is no list
        raise UnreadableFileError(
            f"{directory} isn't a run directory that can be read: {reason(error)}"
        ) from error
    missing = _NEEDED - set(columns)
    if missing:
        raise NoProgressError(
            f"{directory} has no progress to draw yet (columns {sorted(missing)} are missing)"
        )
    for name in ("num_timesteps", "time_elapsed", "target_kl"):
        if not np.all((columns[name] >= 0) & (columns[name] <= _LARGEST)):
            raise UnreadableFileError(
                f"{directory} isn't a run directory that can be read: {name} is out of range"
            )
    return LoadedRun(directory, config, columns, evaluated)


def _columns(path: Path) -> dict[str, Array]:
    """Read the numeric columns of a table."""
    columns: dict[str, array[float]] = {}
    for row in read_rows(path):
        for name, text in row.items():
            if name != "outcome":
                columns.setdefault(name, array("d")).append(float(text))
    return {name: np.array(numbers) for name, numbers in columns.items()}


def plot_runs(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Draw runs to a file: returns over steps and time, and what the trust region did.

    Parameters
    ----------
    paths : sequence of paths
        Run directories, as for :func:`draw_runs`.
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
        For no runs, one that can't be read, or a file of another kind.
    """
    target = Path(out)
    if target.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"the picture's file must end in .png, .svg or .pdf, not {target.name!r}")
    figure = draw_runs(paths)
    from matplotlib import rc_context

    ending = target.suffix[1:]
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # the same runs give the same file
    # Text in an SVG stays text, which can be searched and read aloud.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "npTRPO"}):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            target, lambda file: figure.savefig(file, format=ending, dpi=120, metadata=dated.get(ending))
        )
    return target


def draw_runs(paths: Sequence[str | os.PathLike[str]]) -> Figure:
    """Draw runs: returns over steps and time, and what the trust region did.

    Runs that differ only in their seed are drawn together: each as a thin line, their interquartile mean
    as a thick one, with a 95 % bootstrap interval from three runs on. What varies from update to update is
    drawn by the medians of fifty stretches of a run, over the figures themselves as thin lines. Each
    environment has panels of its own, below its name where there are several.

    Parameters
    ----------
    paths : sequence of paths
        Run directories.

    Raises
    ------
    ModuleNotFoundError
        Without the ``plot`` extra.
    ValueError
        For no runs, or one that can't be read.
    """
    if not paths:
        raise ValueError("name at least one run directory to draw")
    environments: dict[str, list[LoadedRun]] = {}
    for run in map(read_run, paths):
        environments.setdefault(str(run.config["env"]), []).append(run)
    groups = {env: group_runs(runs) for env, runs in environments.items()}
    try:
        from matplotlib import figure as figures
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('drawing needs matplotlib: pip install "npTRPO[plot]"') from error
    # Settings have the same colour in each environment.
    settings = dict.fromkeys(label[len(env) :] for env, own in groups.items() for label in own)
    colour = dict(zip(settings, itertools.cycle(PALETTE), strict=False))
    figure = figures.Figure(figsize=(13, 7.5 * len(groups)), layout="constrained")
    several = len(groups) > 1
    parts: Any = figure.subfigures(len(groups), 1) if several else [figure]
    for part, (env, own) in zip(parts, groups.items(), strict=True):
        if several:
            part.suptitle(_shown(env), fontsize="x-large")
        _environment(part, own, {label: colour[label[len(env) :]] for label in own})
    return figure


def _environment(figure: Figure | SubFigure, groups: Groups, colours: dict[str, str]) -> None:
    """Draw the runs of one environment in six panels."""
    from matplotlib import ticker

    panels = list(figure.subplots(2, 3).flat)
    for axes, (title, (x, x_label), y_label, columns) in zip(panels, _PANELS, strict=True):
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if x == "num_timesteps":
            axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
        for label, runs in groups.items():
            count = f" ({len(runs)} runs)" if len(runs) > 1 else ""
            shown = _shown(label) + count if axes is panels[0] else None
            for y, style in columns.items():
                _curves(axes, runs, x, y, colours[label], shown, style)
            evaluated = [replace(run, columns=run.evaluations) for run in runs if run.evaluations]
            if axes is panels[0] and evaluated:
                axes.set_title(f"{title} (dashed: evaluations)")
                _curves(axes, evaluated, x, "mean_return", colours[label], None, "--")
    _, _, kl, improvement, residual, explained = panels
    owners: dict[float, set[str]] = {}
    for label, runs in groups.items():
        for run in runs:
            owners.setdefault(float(run.columns["target_kl"][-1]), set()).add(colours[label])
    for delta, colour in owners.items():
        kl.axhline(delta, color=colour.pop() if len(colour) == 1 else "0.3", linewidth=1, linestyle="--")
    kl.set_ylim(bottom=0)
    _limit_gains(improvement, [run for runs in groups.values() for run in runs])
    residual.set_yscale("log")
    explained.set_ylim(-1, 1.05)
    # Long labels get lines of their own.
    figure.legend(
        loc="outside lower center",
        ncols=1 if max(map(len, groups)) > 60 else min(len(groups), 3),
        frameon=False,
    )


def group_runs(runs: Sequence[LoadedRun]) -> Groups:
    """Group runs of the same settings, under a label that says where settings differ."""
    keys = sorted({key for run in runs for key in run.config})
    texts = [{key: json.dumps(run.config.get(key), sort_keys=True) for key in keys} for run in runs]
    varying = [key for key in keys if key != "env" and len({text[key] for text in texts}) > 1]
    groups: Groups = {}
    for run, text in zip(runs, texts, strict=True):
        label = ", ".join([str(run.config["env"]), *(f"{key}={text[key]}" for key in varying)])
        groups.setdefault(label, []).append(run)
    return groups


def _limit_gains(axes: Axes, runs: Sequence[LoadedRun]) -> None:
    """Cut off gains of the surrogate that dwarf the others, and say so.

    One state in which an action's probability has multiplied can gain more than all the others.
    """
    gains = np.concatenate([run.columns[name] for run in runs for name in _PANELS[3][3]])
    gains = gains[np.abs(gains) <= _LARGEST]  # which no NaN is
    if not gains.size:
        return
    lowest, highest = min(0.0, float(np.min(gains))), 2 * float(np.quantile(gains, 0.95))
    if np.max(gains) > highest > 0:
        axes.set(ylim=(lowest, highest), ylabel=f"{axes.get_ylabel()} (cut off above {highest:.1g})")


def _shown(label: str) -> str:
    """Return a label as it is drawn: no formula begins with a $, and it ends within the picture."""
    text = "".join(c if c.isprintable() else "�" for c in label[:300])
    return text.replace("$", r"\$")


def _curves(
    axes: Axes, runs: Sequence[LoadedRun], x: str, y: str, colour: str, label: str | None, style: str
) -> None:
    """Draw thin lines for single runs, and over them what they have in common."""
    lines = [line for line in (_known(run.columns[x], run.columns[y]) for run in runs) if line[0].size]
    # The return is a mean over episodes already.
    calm = lines if y in ("episode_return", "mean_return") else [_medians(*line) for line in lines]
    for line, smooth in zip(lines, calm, strict=True):
        if len(runs) > 1 or len(smooth[0]) < len(line[0]):
            axes.plot(*line, style, color=colour, linewidth=0.6, alpha=0.35)
    if len(runs) == 1 or not lines:
        together = calm[0] if lines else (np.zeros(0), np.zeros(0))
    else:
        grid, values = _common(calm)
        together = grid, interquartile_mean(values)
        if len(values) >= 3:
            low, high = bootstrap_interval(values, np.random.default_rng(0))
            axes.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
    width = 2 if len(runs) > 1 else 1.5
    axes.plot(*together, style, color=colour, linewidth=width, label=label)


def _known(x: Array, y: Array) -> tuple[Array, Array]:
    """Return the points that have a figure: there is no return before the first episode ends."""
    known = np.abs(y) <= _LARGEST  # which no NaN is
    return x[known], y[known]


def _medians(x: Array, y: Array) -> tuple[Array, Array]:
    """Return the median of each of fifty stretches, at its mean x; few points are left as they are."""
    if len(x) <= _STRETCHES:
        return x, y
    xs, ys = np.array_split(x, _STRETCHES), np.array_split(y, _STRETCHES)
    return np.array([np.mean(part) for part in xs]), np.array([np.median(part) for part in ys])


def _common(lines: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return points (200,) in the range that all lines share, and the lines' values there, (lines, 200)."""
    begin, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    grid = np.linspace(begin, end, 200 if begin <= end else 0)
    return grid, np.stack([np.interp(grid, x, y) for x, y in lines])
