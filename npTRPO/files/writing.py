"""Files that are never half-written, whole ones and tables row by row; and files that nobody vouches for."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "Table",
    "UnreadableFileError",
    "append_whole",
    "figures_until",
    "kept_rows",
    "last_update",
    "open_regular",
    "read_rows",
    "read_text",
    "reason",
    "unfollowed",
    "write_whole",
]

LONGEST_LINE, MOST_COLUMNS = 2**16, 1000


class UnreadableFileError(ValueError):
    """A file that can't be read as what it should be: the message says why."""


def reason(error: Exception) -> str:
    """What an error about a file says: one line of 500 characters at most, all of them printable."""
    if isinstance(error, KeyError):
        return f"it lacks {_printable(error)}"
    return _printable(error) or type(error).__name__


def _printable(error: Exception) -> str:
    line = " ".join(str(error).split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[:500])
    return shown + "…" * (len(line) > 500)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read; what isn't a regular file, as a pipe or a device, is refused and not waited for.

    Raises
    ------
    OSError
        If it can't be opened.
    """
    nonblocking = getattr(os, "O_NONBLOCK", 0)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblocking))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return file


def read_text(path: Path, limit: int = 2**20) -> str:
    """Text of a file that has at most so many bytes.

    Raises
    ------
    OSError
        If it can't be opened.
    ValueError
        If it has more, or isn't UTF-8.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return content.decode()


def unfollowed(name: str, flags: int) -> int:
    """Opener of files to write to in place: a link that someone left there is refused."""
    no_links = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(name, flags | no_links, 0o666)


def write_whole(target: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file beside its target, flush it to disk, rename it over the target, and flush the directory.

    The target holds its old content or the new one, whatever happens. A symbolic link is replaced, and what
    it leads to stays as it is.

    Raises
    ------
    OSError
        Naming the target.
    """
    beside = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        beside.unlink(missing_ok=True)
        with beside.open("xb") as file:  # never through a link that someone left there
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
        sync_directory(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            raise _naming(target, error) from error
        raise


def sync_directory(directory: Path) -> None:
    """See to it that the names in a directory outlive the machine, where the system can do that."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:  # Windows opens no directories, and some may not be read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems can't
            raise
    finally:
        os.close(descriptor)


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
        self._file = open(self.path, "ab", buffering=0, opener=unfollowed)
        sync_directory(self.path.parent)
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


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table, one per line; what follows the last end of a line is still being written.

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
    """Whole lines that aren't blank."""
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


def figures_until(path: Path, n_updates: int, figure: str) -> list[float]:
    """A figure from each row of a run's table, up to an update.

    Raises
    ------
    UnreadableFileError
        If the file isn't a table with these columns, in the order of updates.
    """
    figures: list[float] = []
    last = 0
    try:
        for row in read_rows(path):
            number, found = int(row["n_updates"]), float(row[figure])
            if number <= last:
                raise ValueError(f"update {number} comes after update {last}")
            last = number
            if number <= n_updates:
                figures.append(found)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableFileError(
            f"{path} isn't what a run writes (remove it to go on without the rows in it): {reason(error)}"
        ) from error
    return figures


def last_update(path: Path) -> int | None:
    """The update of a table's last row, 0 if it has none; None if there is no table."""
    last = 0
    try:
        for row in read_rows(path):
            last = int(row["n_updates"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError):
        return 0
    return last


def kept_rows(path: Path, n_updates: int, figure: str) -> list[float]:
    """What :func:`figures_until` gives; the file is cut down to these rows, as the others come once more.

    Raises
    ------
    UnreadableFileError
        If the file isn't a table with these columns, in the order of updates.
    """
    figures = figures_until(path, n_updates, figure)

    def copy(file: BinaryIO) -> None:
        for line in itertools.islice(_lines(path), len(figures) + 1 if figures else 0):
            file.write(line.rstrip("\r\n").encode() + b"\n")

    if path.exists():
        write_whole(path, copy)
    return figures


def _csv(columns: Sequence[str], rows: Sequence[dict[str, Any]], header: bool) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
