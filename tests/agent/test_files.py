import errno
import os

import pytest

from npTRPO.agent.files import Table, append_whole, kept_rows, write_whole


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
