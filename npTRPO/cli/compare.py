"""``nptrpo compare``: compare groups of runs by their last evaluations."""

import argparse
from pathlib import Path

from npTRPO.cli.usage import UsageError, say
from npTRPO.files.errors import printable


def add_compare_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "groups",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="a run directory, or a folder of them, which are a group for each environment",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def compare(options: argparse.Namespace) -> int:
    """Print how groups of runs compare, and return the exit status; what isn't counted is named."""
    from npTRPO.runs.comparison import Comparison, read_groups

    groups = [group for path in dict.fromkeys(options.groups) for group in read_groups(path)]
    for group in groups:
        named = printable(f"{group.path} ({group.env})")
        if not group.returns.size:
            say(f"warning: {named} has no evaluation, and is left out")
        elif group.without:
            missing = ", ".join(run.name for run in group.without)
            say(f"warning: {named} is compared without {missing}, of which there is no evaluation")
        if not group.alike:
            say(f"warning: {named} has runs of different settings, which are taken together")
    evaluated = tuple(group for group in groups if group.returns.size)
    if not evaluated:
        raise UsageError("none of these runs has an evaluation by which it could be compared")
    comparison = Comparison(evaluated)
    print(comparison.to_json() if options.json else comparison.to_text())
    return 0
