"""Arrays in an ``.npz`` file that nobody vouches for: what NumPy's ``savez`` writes, and nothing else.

Every size is compared with the bytes that are there before anything of that size is made, and nothing is
inflated, unpickled or evaluated.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np

from npTRPO._typing import Array
from npTRPO.files.writing import UnreadableFileError

__all__ = ["NpzReader"]

MOST_MEMBERS, LONGEST_DIRECTORY = 64, 2**16

# The end of a zip archive: signature, two disk numbers, two counts of members, size and place of the
# directory, length of a comment. Before it, in archives beyond 4 GiB, is a locator of another end.
_END, _END_SIGNATURE = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
_LOCATOR_LENGTH, _LOCATOR_SIGNATURE = 20, b"PK\x06\x07"

_LONGEST_HEADER = 2**16  # as its length has 16 bits
_PREAMBLE = struct.Struct("<6sBBH")  # of an array: signature, version, length of the header
_HEADER = re.compile(
    rb"\{'descr': '([^']*)', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\), \} *\n"
)
_DTYPE = re.compile(rb"[<>|=][biufc]\d{1,2}")


class NpzReader:
    """The arrays of a file by their names.

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
        stream.seek(max(0, size - _END.size - _LOCATOR_LENGTH))
        tail = stream.read()
        end = tail[-_END.size :]
        if len(end) < _END.size or not end.startswith(_END_SIGNATURE):
            raise UnreadableFileError("it is no .npz file, and what was pickled is never read")
        *_, members, directory_size, _, comment = _END.unpack(end)
        if (
            members > MOST_MEMBERS
            or directory_size > LONGEST_DIRECTORY
            or comment
            or tail[: -_END.size].startswith(_LOCATOR_SIGNATURE)
        ):
            raise UnreadableFileError("its directory isn't that of an agent's file")
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
        """Shape and dtype of an array, of which only the beginning is read.

        Raises
        ------
        KeyError
            If it isn't there.
        UnreadableFileError
            If it isn't an array of numbers of the size that it claims.
        """
        return self._header(name)[:2]

    def read(self, name: str) -> Array:
        """An array, as long as the file says; see first that :meth:`header` is what it should be.

        Raises
        ------
        KeyError, UnreadableFileError
            As :meth:`header` does.
        zipfile.BadZipFile
            For a wrong checksum.
        """
        shape, dtype, begin = self._header(name)
        with self._zip.open(self._infos[f"{name}.npy"]) as member:
            content = member.read()  # to the end, where the checksum is compared
        return np.frombuffer(content, dtype, offset=begin).reshape(shape).copy()

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
        info = self._infos.get(f"{name}.npy")
        if info is None:
            raise KeyError(name)
        with self._zip.open(info) as member:
            shape, dtype, begin = _parsed_header(name, member.read(_PREAMBLE.size + _LONGEST_HEADER))
        if math.prod(shape) * dtype.itemsize != info.file_size - begin:
            raise UnreadableFileError(
                f"{name} has {info.file_size - begin} bytes, where its header asks for others"
            )
        return shape, dtype, begin


def _parsed_header(name: str, content: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape and dtype of an array, and where its numbers begin."""
    if len(content) < _PREAMBLE.size:
        raise UnreadableFileError(f"{name} is no array")
    signature, *version, length = _PREAMBLE.unpack_from(content)
    begin = _PREAMBLE.size + length
    header = _HEADER.fullmatch(content, _PREAMBLE.size, begin)
    if (signature, version) != (b"\x93NUMPY", [1, 0]) or header is None:
        raise UnreadableFileError(
            f"{name} is no array as NumPy writes them, and what was pickled is never read"
        )
    if not _DTYPE.fullmatch(header[1]):
        raise UnreadableFileError(
            f"{name} holds {header[1].decode()!r}, no numbers, and what was pickled is never read"
        )
    shape = tuple(int(n) for n in re.findall(rb"\d+", header[2]))
    return shape, np.dtype(header[1].decode()), begin
