"""Files that are never half-written: whole ones, and tables row by row."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Table", "append_whole", "kept_rows", "write_whole"]


def write_whole(target: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file beside its target, flush it to disk, and rename it over the target.

    The target holds its old content or the new one, whatever happens.

    Raises
    ------
    OSError
        Naming the target.
    """
    beside = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            raise _naming(target, error) from error
        raise


def append_whole(file: io.FileIO, content: bytes) -> None:
    """Append to an unbuffered file; it ends as it did before if that fails.

    Raises
    ------
    OSError
        Naming the file.
    """
    before, left = file.seek(0, os.SEEK_END), memoryview(content)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        with contextlib.suppress(OSError):
            file.truncate(before)
        raise _naming(Path(os.fsdecode(file.name)), error) from error


def _naming(path: Path, error: OSError) -> OSError:
    return OSError(error.errno, error.strerror, os.fspath(path)) if error.errno else error


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
        self._file = self.path.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row, under a header if it is the first."""
        empty = os.fstat(self._file.fileno()).st_size == 0
        append_whole(self._file, _csv(list(row), [row], header=empty))

    def sync(self) -> None:
        """See to it that the rows outlive the machine."""
        os.fsync(self._file.fileno())


def kept_rows(path: Path, n_updates: int, figure: str) -> list[float]:
    """A figure from each row up to an update; the file is cut down to these rows.

    What follows them will be written again.

    Raises
    ------
    ValueError
        If the file isn't a table with these columns.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        reader = csv.DictReader(line for line in lines if line.endswith("\n"))  # the last may be cut off
        rows = [row for row in reader if int(row["n_updates"]) <= n_updates]
        figures = [float(row[figure]) for row in rows]
        content = _csv(list(reader.fieldnames or []), rows, header=True) if rows else b""
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise ValueError(
            f"{path} isn't what a run writes (remove it to go on without the rows in it): {error}"
        ) from error
    write_whole(path, lambda file: file.write(content))
    return figures


def _csv(columns: Sequence[str], rows: Sequence[dict[str, Any]], header: bool) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
