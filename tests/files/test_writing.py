import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from npTRPO import CheckpointError
from npTRPO.files.writing import Table, append_whole, kept_rows, last_update, write_whole


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


def test_a_table_has_one_header_and_a_row_for_each(tmp_path):
    path = tmp_path / "table.csv"
    for rows in (
        [{"n_updates": 1, "text": "a,b"}],
        [{"n_updates": 2, "text": 'c"'}, {"n_updates": 3, "text": ""}],
    ):
        with Table(path) as table:
            for row in rows:
                table.write(row)
            table.sync()
    assert path.read_text() == 'n_updates,text\n1,"a,b"\n2,"c"""\n3,\n'


ROWS = "n_updates,x,outcome\n1,0.1,A\n2,0.30000000000000004,B\n3,nan,C\n"


@pytest.mark.parametrize(
    ("text", "until", "kept", "figures"),
    [
        (ROWS, 3, ROWS, [0.1, 0.30000000000000004, pytest.approx(float("nan"), nan_ok=True)]),
        (ROWS, 2, "n_updates,x,outcome\n1,0.1,A\n2,0.30000000000000004,B\n", [0.1, 0.30000000000000004]),
        (ROWS, 0, "", []),
        (ROWS[:-1], 9, "n_updates,x,outcome\n1,0.1,A\n2,0.30000000000000004,B\n", [0.1, 0.30000000000000004]),
        (ROWS[:-10], 9, "n_updates,x,outcome\n1,0.1,A\n", [0.1]),
        ("n_updates,x", 9, "", []),
        ("", 9, "", []),
        (ROWS.replace("\n", "\r\n"), 1, "n_updates,x,outcome\n1,0.1,A\n", [0.1]),
    ],
    ids=["all", "two", "none", "cut by one", "cut", "header", "empty", "as older versions wrote"],
)
def test_rows_are_kept_up_to_an_update_and_only_whole_ones(text, until, kept, figures, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    assert kept_rows(path, until, "x") == figures
    assert path.read_bytes().decode() == kept


def test_a_table_that_is_not_there_has_no_rows_and_is_not_made(tmp_path):
    assert kept_rows(tmp_path / "table.csv", 3, "x") == []
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_a_table_is_appended_to_a_file_only(kind, tmp_path):
    (tmp_path / "victim").write_text("mine\n")
    path = tmp_path / "table.csv"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / ("victim" if kind == "link" else "nothing"))
    with pytest.raises(OSError, match=r"table\.csv"), Table(path):
        pass
    assert (tmp_path / "victim").read_text() == "mine\n"
    assert not (tmp_path / "nothing").exists()


def test_threads_that_write_one_file_leave_it_whole(tmp_path):
    contents = [bytes([i]) * 200_000 for i in range(8)]

    def write(content):
        for _ in range(20):
            write_whole(tmp_path / "file", lambda file: [file.write(content[:100_000]) for _ in range(2)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert (tmp_path / "file").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- tables that nobody vouches for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("n_updates,x\n1,2\n1,3\n", "update 1 comes after update 1"),
        ("n_updates,x\n2,2\n1,3\n", "update 1 comes after update 2"),
        ("n_updates,x\n0,2\n", "update 0 comes after update 0"),
        ("n_updates,x\n1\n", "a row has 1 cells under 2 columns"),
        ("n_updates,x\n1,2,3\n", "a row has 3 cells under 2 columns"),
        ("n_updates,x,x\n1,2,3\n", "names of their own"),
        (",".join(map(str, range(1001))) + "\n", "names of their own"),
        ("n_updates,y\n1,2\n", "it lacks 'x'"),
        ("n_updates,x\n1,much\n", "could not convert"),
        ("n_updates,x\n1.5,2\n", "invalid literal"),
        ("n_updates,x\n" + "9" * 5000 + ",2\n", "Exceeds the limit"),
        ('n_updates,x\n1,"2\n', "unexpected end of data"),
        ("n_updates,x\n" + "1" * 70_000 + ",2\n", "a line has more than 65,536 bytes"),
        ("n_updates,x\n" + "1" * 70_000, "a line has more than 65,536 bytes"),
        ("n_updates,x\n1,\udcff\n", "can't decode"),
    ],
    ids=lambda text: text[:40].encode("ascii", "replace").decode(),
)
def test_a_table_that_is_none_is_refused_and_left_as_it_is(text, complaint, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=rf"table\.csv isn't what a run writes .*: .*{complaint}"):
        kept_rows(path, 3, "x")
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_the_last_update_of_a_table_is_that_of_its_last_whole_row(tmp_path):
    path = tmp_path / "table.csv"
    assert last_update(path) is None
    for text, last in (("", 0), ("n_updates,x\n", 0), (ROWS, 3), (ROWS[:-1], 2), ("x\n1\n", 0)):
        path.write_text(text)
        assert last_update(path) == last
