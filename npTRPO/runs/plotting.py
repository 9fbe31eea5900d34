"""Pictures of training runs (needs the ``plot`` extra)."""

from __future__ import annotations

import itertools
import json
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.files.writing import UnreadableFileError, read_rows, read_text, reason, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Run", "bootstrap_interval", "interquartile_mean", "plot_runs", "read_run"]

# Colours that readers with any colour vision can tell apart: Okabe and Ito 2008, darkest first.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


_DRAWN = (
    *("num_timesteps", "time_elapsed", "episode_return", "kl", "target_kl"),
    *("improvement", "predicted_improvement", "cg_residual", "explained_variance"),
)

# Bytes of options that can make a label, and the largest number that can be drawn.
_LONGEST_CONFIG, _LARGEST = 10_000, 1e30

# What varies from update to update is drawn by the medians of so many stretches of a run.
_STRETCHES = 50


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
    UnreadableFileError
        If it isn't one, or holds no progress yet.
    """
    directory = Path(path)
    try:
        described = json.loads(read_text(directory / "config.json"))
        config = {"env": described["env"], **described["config"]}
        if not isinstance(config["env"], str) or len(json.dumps(config)) > _LONGEST_CONFIG:
            raise ValueError("its config.json isn't that of a run")
        columns = _columns(directory / "progress.csv")
    except Exception as error:  # whatever a foreign or damaged file leads to, of which there is no list
        raise UnreadableFileError(
            f"{directory} isn't a run directory that can be read: {reason(error)}"
        ) from error
    missing = set(_DRAWN) - set(columns)
    if missing:
        raise UnreadableFileError(
            f"{directory} has no progress to draw yet (columns {sorted(missing)} are missing)"
        )
    for name in ("num_timesteps", "time_elapsed", "target_kl"):
        if not np.all((columns[name] >= 0) & (columns[name] <= _LARGEST)):
            raise UnreadableFileError(
                f"{directory} isn't a run directory that can be read: {name} goes astray"
            )
    for option in ("seed", "checkpoint_interval"):
        config.pop(option, None)
    return Run(directory, config, columns)


def _columns(path: Path) -> dict[str, Array]:
    """The numeric columns of a table."""
    columns: dict[str, array[float]] = {}
    for row in read_rows(path):
        for name, text in row.items():
            if name != "outcome":
                columns.setdefault(name, array("d")).append(float(text))
    return {name: np.array(numbers) for name, numbers in columns.items()}


def interquartile_mean(x: Array) -> Array:
    """Mean of the middle half, over axis 0; with fewer than four runs, of all that trimming leaves.

    References
    ----------
    Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
    """
    import scipy.stats

    if not x.size:  # for which the first versions of SciPy that will do have another shape
        return np.zeros(x.shape[1:])
    return np.asarray(scipy.stats.trim_mean(x, 0.25, axis=0))


def bootstrap_interval(x: Array, rng: np.random.Generator, resamples: int = 1000) -> tuple[Array, Array]:
    """95 % percentile interval of the interquartile mean over axis 0, by resampling runs."""
    chosen = rng.integers(len(x), size=(resamples, len(x)))
    means = interquartile_mean(x[chosen.T])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


def plot_runs(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Draw runs: returns over steps and time, and what the trust region did.

    Runs that differ only in their seed are drawn together: each as a thin line, their interquartile mean
    as a thick one, with a 95 % bootstrap interval from three runs on. What varies from update to update is
    drawn by the medians of fifty stretches of a run, over the figures themselves as thin lines.

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
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('drawing needs matplotlib: pip install "npTRPO[plot]"') from error
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    _draw(figure, groups)
    ending = target.suffix[1:]
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # the same runs give the same file
    # Text in an SVG stays text, which can be searched and read aloud.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "npTRPO"}):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            target, lambda file: figure.savefig(file, format=ending, dpi=120, metadata=dated.get(ending))
        )
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
    from matplotlib.ticker import EngFormatter

    (over_steps, over_time, kl), (improvement, residual, explained) = figure.subplots(2, 3)
    colours = dict(zip(groups, itertools.cycle(_COLOURS), strict=False))
    for label, runs in groups.items():
        colour, count = colours[label], f" ({len(runs)} runs)" if len(runs) > 1 else ""
        _curves(over_steps, runs, "num_timesteps", "episode_return", colour, _shown(label) + count)
        _curves(over_time, runs, "time_elapsed", "episode_return", colour)
        for axes, name, style in (
            (kl, "kl", "-"),
            (improvement, "improvement", "-"),
            (improvement, "predicted_improvement", ":"),
            (residual, "cg_residual", "-"),
            (explained, "explained_variance", "-"),
        ):
            _curves(axes, runs, "num_timesteps", name, colour, style=style, noisy=True)
    for delta, owners in _trust_regions(groups).items():
        colour = colours[owners[0]] if len(owners) == 1 else "0.3"
        kl.axhline(delta, color=colour, linewidth=1, linestyle="--")
    gains, cut = _gains_drawn([run for runs in groups.values() for run in runs])
    titles = {
        over_steps: ("Return over steps", "environment steps", "mean return of the last 100 episodes"),
        over_time: ("Return over time", "seconds", "mean return of the last 100 episodes"),
        kl: ("KL divergence (dashed: δ)", "environment steps", "mean KL(old ‖ new) in nats"),
        improvement: ("Improvement (dotted: predicted)", "environment steps", f"surrogate, new − old{cut}"),
        residual: ("Conjugate gradients", "environment steps", "relative residual"),
        explained: ("Value function (cut off below −1)", "environment steps", "explained variance"),
    }
    for axes, (title, x, y) in titles.items():
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if x == "environment steps":
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    kl.set_ylim(bottom=0)
    residual.set_yscale("log")
    explained.set_ylim(-1, 1.05)
    if cut:
        improvement.set_ylim(gains)
    # Long labels get lines of their own.
    columns = 1 if max(map(len, groups)) > 60 else min(len(groups), 3)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False)


def _gains_drawn(runs: Sequence[Run]) -> tuple[tuple[float, float], str]:
    """From where to where gains of the surrogate are drawn, and the words for it if any lie beyond.

    One state in which an action's probability has multiplied can gain more than all the others.
    """
    names = ("improvement", "predicted_improvement")
    gains = np.concatenate([run.columns[name] for run in runs for name in names])
    gains = gains[np.abs(gains) <= _LARGEST]  # which no NaN is
    if not gains.size:
        return (0.0, 0.0), ""
    lowest, highest = min(0.0, float(np.min(gains))), 2 * float(np.quantile(gains, 0.95))
    cut = f" (cut off above {highest:.1g})" if np.max(gains) > highest > 0 else ""
    return (lowest, highest), cut


def _shown(label: str) -> str:
    """A label as it is written: no formula begins with a $, and no end is beyond the picture's."""
    text = "".join(c if c.isprintable() else "�" for c in label[:300])
    return text.replace("$", r"\$")


def _trust_regions(groups: dict[str, list[Run]]) -> dict[float, list[str]]:
    """For each δ, the labels of the runs that have it."""
    owners: dict[float, list[str]] = {}
    for label, runs in groups.items():
        for delta in {float(run.columns["target_kl"][-1]) for run in runs}:
            owners.setdefault(delta, []).append(label)
    return owners


def _curves(
    axes: Axes,
    runs: Sequence[Run],
    x: str,
    y: str,
    colour: str,
    label: str | None = None,
    style: str = "-",
    noisy: bool = False,
) -> None:
    """Thin lines for single runs; over them what they have in common."""
    lines = [line for line in (_known(run.columns[x], run.columns[y]) for run in runs) if line[0].size]
    calm = [_medians(*line) if noisy else line for line in lines]
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
    """Points that have a figure: there is no return before the first episode ends."""
    known = np.abs(y) <= _LARGEST  # which no NaN is
    return x[known], y[known]


def _medians(x: Array, y: Array) -> tuple[Array, Array]:
    """Median of each of fifty stretches, over its mean place; few points are left as they are."""
    if len(x) <= _STRETCHES:
        return x, y
    xs, ys = np.array_split(x, _STRETCHES), np.array_split(y, _STRETCHES)
    return np.array([np.mean(part) for part in xs]), np.array([np.median(part) for part in ys])


def _common(lines: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Places (200,) in the range that all lines share, and the lines' figures there, (lines, 200)."""
    begin, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    grid = np.linspace(begin, end, 200 if begin <= end else 0)
    return grid, np.stack([np.interp(grid, x, y) for x, y in lines])
