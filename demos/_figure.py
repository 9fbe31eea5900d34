"""What the demos share: their options, and one look for their figures."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npTRPO.runs.plotting import PALETTE
from npTRPO.runs.statistics import bootstrap_interval, interquartile_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, BLACK = PALETTE
GREY = "#8C8C8C"

_LOOK: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",  # text stays text, which can be searched and read aloud
    "svg.hashsalt": "npTRPO",  # the same figure is the same file
}


def options(demo: str, description: str | None) -> argparse.Namespace:
    """Read a demo's command line.

    Parameters
    ----------
    demo : str
        Its file.
    description : str
        Its docstring.

    Returns
    -------
    argparse.Namespace
        ``quick``, and ``out``: the figure's path, or None if no figure is wanted.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="run small, and draw only if --out is given")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".svg, .png or .pdf file for the figure")
    given = parser.parse_args()
    if given.out is None and not given.quick:
        given.out = Path(demo).parent / "figures" / Path(demo).with_suffix(".svg").name
    if given.out is not None and given.out.suffix not in (".svg", ".png", ".pdf"):
        parser.error(f"the figure's file must end in .svg, .png or .pdf, not {given.out.name!r}")
    if given.out is not None and not given.out.absolute().parent.is_dir():
        parser.error(f"there is no directory {given.out.absolute().parent} for the figure")
    if given.out is not None and importlib.util.find_spec("matplotlib") is None:
        parser.exit(2, 'The figure needs matplotlib: pip install "npTRPO[plot]". --quick runs without it.\n')
    return given


def new_figure(width: float = 9.0, height: float = 3.8) -> Figure:
    """Figure of so many inches; 9 are the width of a page."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update(_LOOK)
    return Figure(figsize=(width, height), layout="constrained")


def describe(axes: Axes, title: str, x: str, y: str, **settings: Any) -> None:
    """Say what a panel and its axes show; ``settings`` are those of ``Axes.set``."""
    axes.set(title=title, xlabel=x, ylabel=y, **settings)


def write(axes: Axes, x: float, y: float, text: str, colour: str = BLACK, **settings: Any) -> None:
    """Write small text at a point of a panel, in place of a legend; out of the panel it isn't seen."""
    axes.text(x, y, text, color=colour, fontsize="small", clip_on=True, **settings)


def bands(axes: Axes, title: str, unit: str, total: int, curves: dict[str, Any], **settings: Any) -> None:
    """Draw curves (runs, points) over ``total`` steps: interquartile means, and their 95 % intervals."""
    for (name, each), colour in zip(curves.items(), (BLUE, VERMILION, GREEN, PINK), strict=False):
        steps = np.linspace(0, total / 1000, np.shape(each)[1] + 1)[1:]
        low, high = bootstrap_interval(np.asarray(each), np.random.default_rng(0))
        axes.plot(steps, interquartile_mean(np.asarray(each)), color=colour, label=name)
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.legend()
    describe(axes, title, "thousand steps", unit, **settings)


def tiles(axes: Axes, title: str, images: Any, cmap: str, per_row: int = 4) -> None:
    """Show small images of one size in rows, on one scale of colours that is the same for ±."""
    framed = [np.pad(image, 1, constant_values=np.nan) for image in images]
    rows = [np.hstack(framed[i : i + per_row]) for i in range(0, len(framed), per_row)]
    limit = np.max(np.abs(images))
    axes.imshow(np.vstack(rows), cmap, vmin=-limit, vmax=limit)
    axes.set_title(title, loc="center")
    axes.axis("off")


def save(figure: Figure, path: Path) -> None:
    """Write the figure, and say where."""
    undated = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=110, metadata=undated)
    print(f"figure: {path}")
