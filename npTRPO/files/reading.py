"""Read files from untrusted places: no pipe or device is waited for, and no more than a limit is read."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe or a device is refused instead of waited for.

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
    """Read a file of UTF-8 text that has at most ``limit`` bytes.

    Raises
    ------
    OSError
        If it can't be opened.
    ValueError
        If it has more bytes, or isn't UTF-8.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return content.decode()
