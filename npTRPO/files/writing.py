"""Write files so that none is ever half-written: beside the target and renamed, or appended whole."""

import contextlib
import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def open_without_links(name: str, flags: int) -> int:
    """Open a file to write to in place, as an ``opener`` of :func:`open`; symbolic links are refused."""
    no_links = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(name, flags | no_links, 0o666)


def write_whole(target: Path, write: Callable[[BinaryIO], Any] | bytes) -> None:
    """Write a file beside its target, flush it to disk, rename it over the target, and flush the directory.

    The target holds its old content or the new one, whatever happens. A symbolic link is replaced, and what
    it points to stays as it is.

    Parameters
    ----------
    target : pathlib.Path
        The file.
    write : callable or bytes
        Its content, or a function that writes it to a binary file.

    Raises
    ------
    OSError
        Naming the target.
    """
    beside = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        beside.unlink(missing_ok=True)
        with beside.open("xb") as file:  # never through a link that someone left there
            if isinstance(write, bytes):
                file.write(write)
            else:
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
    """Flush the names in a directory to disk, where the system can do that."""
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
    """Append to an unbuffered file; if that fails, the file ends as it did before.

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
