"""Arrays in untrusted ``.npz`` files: those that NumPy's ``savez`` writes, and nothing else.

Every size is compared with the bytes that are there before anything of that size is made, and nothing is
inflated, unpickled or evaluated.
"""

import io
import math
import os
import re
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from npTRPO._typing import Array
from npTRPO.files.errors import UnreadableFileError, reason

# Bytes of the directory, of which each array takes some sixty, and of an array's header.
LONGEST_DIRECTORY, LONGEST_HEADER = 2**13, 1000

# The end of a zip archive: signature, two disk numbers, two counts of members, size and place of the
# directory, length of a comment. Before it, in archives beyond 4 GiB, is a locator of another end.
_END, _END_SIGNATURE = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
_LOCATOR_LENGTH, _LOCATOR_SIGNATURE = 20, b"PK\x06\x07"


class NpzReader:
    """Read the arrays of a file by their names.

    Parameters
    ----------
    stream : binary file
        The file, which stays open as long as arrays are read.

    Attributes
    ----------
    members : list of str
        Names in its directory: those of the arrays, with ``.npy`` behind.

    Raises
    ------
    UnreadableFileError
        If it is no such file, or its directory is one that ``savez`` doesn't write.
    """

    def __init__(self, stream: BinaryIO) -> None:
        size = stream.seek(0, os.SEEK_END)
        _check_end(stream, size)
        self._zip = zipfile.ZipFile(stream)
        self._infos = {info.filename: info for info in self._zip.infolist()}
        if len(self._infos) != len(self._zip.infolist()):
            raise UnreadableFileError("two of its members have the same name")
        for name, info in self._infos.items():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise UnreadableFileError(f"its member {name!r} is compressed")
        if sum(info.file_size for info in self._infos.values()) > size:
            raise UnreadableFileError("its members have more bytes than it has")
        self.members = list(self._infos)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return the shape and dtype of an array, of which only the beginning is read.

        Raises
        ------
        KeyError
            If it isn't there.
        UnreadableFileError
            If it isn't an array of numbers of the size that it claims.
        """
        return self._parsed(name, self._content(name, LONGEST_HEADER))[:2]

    def read(self, name: str) -> Array:
        """Read an array, as large as the file says: compare its :meth:`header` with what it should be first.

        Raises
        ------
        KeyError, UnreadableFileError
            As :meth:`header` does.
        zipfile.BadZipFile
            For a wrong checksum.
        """
        content = self._content(name)  # to the end, where the checksum is compared
        shape, dtype, begin = self._parsed(name, content)
        return np.frombuffer(content, dtype, offset=begin).reshape(shape).copy()

    def _content(self, name: str, length: int = -1) -> bytes:
        if f"{name}.npy" not in self._infos:
            raise KeyError(name)
        with self._zip.open(self._infos[f"{name}.npy"]) as member:
            return member.read(length)

    def _parsed(self, name: str, content: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
        """Return shape and dtype of an array, and where its numbers begin."""
        stream = io.BytesIO(content[:LONGEST_HEADER])
        # Refuse what NumPy and Python would take with a warning: literals of Python 2 and odd escapes.
        length = int.from_bytes(content[8:10], "little")
        strange = re.search(rb"\\|\d\s*[A-Za-z]", content[10 : 10 + length])
        try:
            if npy.read_magic(stream) != (1, 0) or strange:
                raise ValueError("its header is of another version")
            shape, fortran, dtype = npy.read_array_header_1_0(stream, max_header_size=LONGEST_HEADER)
        except Exception as error:  # whatever the literals in a header lead to, of which there is no list
            raise UnreadableFileError(
                f"{name} is no array of NumPy's, and what was pickled is never read: {reason(error)}"
            ) from error
        if dtype.kind not in "biufc" or fortran or any(type(n) is not int or n < 0 for n in shape):
            raise UnreadableFileError(
                f"{name} holds {dtype} of shape {shape}, no numbers in C order, "
                f"and what was pickled is never read"
            )
        begin, size = stream.tell(), self._infos[f"{name}.npy"].file_size
        if math.prod(shape) * dtype.itemsize != size - begin:
            raise UnreadableFileError(f"{name} has {size - begin} bytes, where its header asks for others")
        return shape, dtype, begin


def _check_end(stream: BinaryIO, size: int) -> None:
    """Raise an error unless the end of a zip archive promises a small directory, before zipfile reads it."""
    stream.seek(max(0, size - _END.size - _LOCATOR_LENGTH))
    tail = stream.read()
    before, end = tail[: -_END.size], tail[-_END.size :]
    if len(end) < _END.size or not end.startswith(_END_SIGNATURE):
        raise UnreadableFileError("it is no .npz file, and what was pickled is never read")
    *_, directory_size, _, comment = _END.unpack(end)
    if directory_size > LONGEST_DIRECTORY or comment or before.startswith(_LOCATOR_SIGNATURE):
        raise UnreadableFileError("its directory isn't one that NumPy writes")
