"""``nptrpo plot``: draw runs."""

import argparse
from pathlib import Path

from npTRPO.cli.usage import ending_in, say
from npTRPO.files.errors import UnreadableFileError


def add_plot_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="run directories, or folders of them, such as runs",
    )
    parser.add_argument(
        "--out",
        type=ending_in(".png", ".svg", ".pdf"),
        default=Path("runs.png"),
        help="PNG, SVG or PDF file (default: runs.png)",
    )


def plot(options: argparse.Namespace) -> int:
    """Draw runs to a file, and return the exit status; those that can't be drawn beside others are named."""
    from npTRPO.runs.plotting import NoProgressError, plot_runs, read_run
    from npTRPO.runs.settings import runs_in

    paths = list(dict.fromkeys(run for path in options.runs for run in runs_in(path)))
    drawn = []
    for path in paths:
        try:
            read_run(path)
        except NoProgressError as error:
            if len(paths) == 1:
                raise
            say(f"warning: {error}")
        else:
            drawn.append(path)
    if not drawn:
        raise UnreadableFileError("none of these runs can be drawn")
    print(f"drew {plot_runs(drawn, options.out)}")
    return 0
