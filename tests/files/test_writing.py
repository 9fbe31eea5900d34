import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from npTRPO.files.tables import Table
from npTRPO.files.writing import append_whole, write_whole


class Tired:
    """An unbuffered file that takes at most so many bytes at once, and fails after so many in all."""

    def __init__(self, path, at_once, in_all):
        self.file, self.at_once, self.left, self.name = (
            path.open("ab", buffering=0),
            at_once,
            in_all,
            str(path),
        )

    def write(self, content):
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(self.at_once, self.left, len(content))
        self.left -= taken
        return self.file.write(content[:taken])

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_what_is_written_in_pieces_arrives_whole(at_once, tmp_path):
    file = Tired(tmp_path / "file", at_once, 1000)
    append_whole(file, b"first\n")
    append_whole(file, b"second\n")
    file.close()
    assert (tmp_path / "file").read_bytes() == b"first\nsecond\n"


@pytest.mark.parametrize("room", range(7))
def test_what_does_not_fit_leaves_the_file_as_it_was_and_names_it(room, tmp_path):
    (tmp_path / "file").write_bytes(b"first\n")
    file = Tired(tmp_path / "file", 2, room)
    with pytest.raises(OSError, match=r"No space left on device: '.*/file'"):
        append_whole(file, b"second\n")
    file.close()
    assert (tmp_path / "file").read_bytes() == b"first\n"


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), ValueError("no"), KeyboardInterrupt()]
)
def test_a_whole_file_that_fails_is_the_old_one_or_none(error, there, tmp_path):
    target = tmp_path / "file"
    if there:
        target.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error), match="file'$" if isinstance(error, OSError) else None):
        write_whole(target, write)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"] * there
    write_whole(target, lambda file: file.write(b"new"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


# --- what outlives the machine, and what is in the way ------------------------------------------------------


def test_a_whole_file_is_on_disk_before_its_name_and_its_name_before_anything_else(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def sync(descriptor):
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("rename"), replace(*paths)))
    write_whole(tmp_path / "file", lambda file: file.write(b"new"))
    assert done == ["file", "rename", "directory"]
    done.clear()
    with Table(tmp_path / "table.csv") as table:
        assert done == ["directory"]
        table.write({"n_updates": 1})
        table.sync()
    assert done == ["directory", "file"]


def test_a_directory_that_cannot_be_flushed_is_said(tmp_path, monkeypatch):
    fsync = os.fsync

    def fail(descriptor, error=errno.EIO):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"Input/output error: '.*/file'"):
        write_whole(tmp_path / "file", lambda file: file.write(b"new"))
    # Some file systems can't.
    monkeypatch.setattr(os, "fsync", lambda descriptor: fail(descriptor, errno.EINVAL))
    write_whole(tmp_path / "file", lambda file: file.write(b"newer"))
    assert (tmp_path / "file").read_bytes() == b"newer"


@pytest.mark.parametrize("planted", ["link", "dangling link", "file", "pipe"])
def test_what_lies_where_a_file_is_written_first_is_not_written_to(planted, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    part = tmp_path / f"file.{os.getpid()}-{threading.get_ident()}.part"
    if "link" in planted:
        part.symlink_to(victim if planted == "link" else tmp_path / "nothing")
    elif planted == "pipe":
        os.mkfifo(part)
    else:
        part.write_text("of one that was killed")
    write_whole(tmp_path / "file", lambda file: file.write(b"new"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "new", "victim": "mine"}


def test_a_link_is_planted_while_a_file_is_begun_and_still_not_followed(tmp_path, monkeypatch):
    """Between removing what is in the way and opening."""
    victim, unlink = tmp_path / "victim", Path.unlink
    victim.write_text("mine")

    def plant(path, missing_ok=False):
        unlink(path, missing_ok=missing_ok)
        path.symlink_to(victim)

    monkeypatch.setattr(Path, "unlink", plant)
    with pytest.raises(FileExistsError, match=r"file'$"):
        write_whole(tmp_path / "file", lambda file: file.write(b"new"))
    assert victim.read_text() == "mine"
    assert not (tmp_path / "file").exists()


def test_threads_that_write_one_file_leave_it_whole(tmp_path):
    contents = [bytes([i]) * 200_000 for i in range(8)]

    def write(content):
        for _ in range(20):
            write_whole(tmp_path / "file", lambda file: [file.write(content[:100_000]) for _ in range(2)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert (tmp_path / "file").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
