"""Where measurements are written: CSV files, with what they were made by."""

import csv
import datetime as dt
import os
import platform
from pathlib import Path

from npTRPO._machine import processor
from npTRPO.agent.checkpoint import versions
from npTRPO.runs.settings import commit

RESULTS = Path(__file__).parent / "results"


def read_rows(name):
    """All rows of a file, none if it isn't there."""
    path = RESULTS / name
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(name, rows, command=""):
    """Write a file anew; rows that don't say with what they were measured get this machine's and today's."""
    here = {
        **{key: version for key, version in versions().items() if key != "platform"},
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "processor": processor(),
        "date": dt.date.today().isoformat(),
    }
    complete = [dict(row) if "date" in row else {**here, "command": command, **row} for row in rows]
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / name).open("w", newline="") as file:
        writer = csv.DictWriter(
            file, sorted(complete[0], key=[*here, "command"].__contains__), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(complete)
