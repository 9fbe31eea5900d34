"""CSV tables that are written row by row, and read as far as their rows are whole."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from npTRPO.files.errors import UnreadableFileError, reason
from npTRPO.files.reading import open_regular
from npTRPO.files.writing import append_whole, open_without_links, sync_directory, write_whole

LONGEST_LINE, MOST_COLUMNS = 2**16, 1000


class Table:
    """A CSV file that rows are appended to; a context manager.

    Parameters
    ----------
    path : pathlib.Path
        The file, which may hold rows already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Table:
        self._file = open(self.path, "ab", buffering=0, opener=open_without_links)
        sync_directory(self.path.parent)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row, under a header if it is the first."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        if os.fstat(self._file.fileno()).st_size == 0:
            writer.writeheader()
        writer.writerow(row)
        append_whole(self._file, text.getvalue().encode())

    def sync(self) -> None:
        """Flush the rows to disk, so that they outlive the machine."""
        os.fsync(self._file.fileno())


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a table, one per line; a line without its end is still being written.

    Raises
    ------
    OSError
        If it can't be opened.
    ValueError
        If it is no table.
    """
    lines = _lines(path)
    columns = _cells(next(lines, "\n"))
    if len(set(columns)) != len(columns) or len(columns) > MOST_COLUMNS:
        raise ValueError("its columns don't have names of their own")
    for line in lines:
        cells = _cells(line)
        if len(cells) != len(columns):
            raise ValueError(f"a row has {len(cells)} cells under {len(columns)} columns")
        yield dict(zip(columns, cells, strict=True))


def _lines(path: Path) -> Iterator[str]:
    """Yield the whole lines that aren't blank."""
    with open_regular(path) as file:
        while line := file.readline(LONGEST_LINE):
            if line.endswith(b"\n"):
                if line.strip():
                    yield line.decode()
            elif len(line) == LONGEST_LINE:
                raise ValueError(f"a line has more than {LONGEST_LINE:,} bytes")


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def column_until(path: Path, column: str, key: str, last: int) -> list[float]:
    """Return a column's numbers in the rows whose ``key`` is at most ``last``; none without a file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    column : str
        Name of the column that is read.
    key : str
        Name of a column of whole numbers, positive and increasing from row to row.
    last : int
        Largest key of the rows that are read.

    Raises
    ------
    UnreadableFileError
        If the file isn't a table with these columns, in the order of its keys.
    """
    numbers: list[float] = []
    previous = 0
    try:
        for row in read_rows(path):
            current, number = int(row[key]), float(row[column])
            if current <= previous:
                raise ValueError(f"{key} {current} comes after {key} {previous}")
            previous = current
            if current <= last:
                numbers.append(number)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableFileError(
            f"{path} isn't a table to go on with (remove it to go on without its rows): {reason(error)}"
        ) from error
    return numbers


def cut_after(path: Path, column: str, key: str, last: int) -> list[float]:
    """Return what :func:`column_until` does, and remove all other rows from the file.

    Raises
    ------
    UnreadableFileError
        As :func:`column_until` does; the file stays as it is.
    """
    numbers = column_until(path, column, key, last)

    def copy(file: BinaryIO) -> None:
        for line in itertools.islice(_lines(path), len(numbers) + 1 if numbers else 0):
            file.write(line.rstrip("\r\n").encode() + b"\n")

    if path.exists():
        write_whole(path, copy)
    return numbers
