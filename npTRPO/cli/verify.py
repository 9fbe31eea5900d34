"""``nptrpo verify``: check every equation of the derivation on random problems."""

import argparse
from pathlib import Path

from npTRPO.cli.usage import UsageError, at_least


def add_verify_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "--instances", type=at_least(1), default=200, help="number of problems (default: 200)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the problems (default: 0)")
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print the results as JSON")
    printed.add_argument(
        "--markdown", action="store_true", help="print them as Markdown, with formulas in LaTeX"
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="also write a page with all equations and measurements"
    )


def verify(options: argparse.Namespace) -> int:
    """Check the equations, print the results, and return the exit status."""
    from npTRPO.files.writing import write_whole
    from npTRPO.theory.report import verify as verified

    html: Path | None = options.html
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise UsageError(f"--html needs a file in a directory that exists, not {html}")
    if html is not None:
        from npTRPO.theory_page.page import check_extra, page

        check_extra()
    report = verified(options.instances, options.seed)
    if html is not None:
        write_whole(html, page(report).encode())
    if options.json:
        print(report.to_json())
    else:
        print(report.to_markdown() if options.markdown else report.to_text())
    if html is not None and not options.json:
        print(f"wrote {html}")
    return 0 if report.passed else 1
