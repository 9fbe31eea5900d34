"""``nptrpo plot``: draw runs."""

import argparse
from pathlib import Path

from npTRPO.cli.usage import ending_in


def add_plot_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, such as runs/*")
    parser.add_argument(
        "--out",
        type=ending_in(".png", ".svg", ".pdf"),
        default=Path("runs.png"),
        help="PNG, SVG or PDF file (default: runs.png)",
    )


def plot(options: argparse.Namespace) -> int:
    """Draw runs to a file, and return the exit status."""
    from npTRPO.runs.plotting import plot_runs

    print(f"drew {plot_runs(options.runs, options.out)}")
    return 0
