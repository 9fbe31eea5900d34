"""CSV tables: written row by row, read to their last whole row, and refused if they are none."""

import os

import pytest

from npTRPO import CheckpointError
from npTRPO.files.tables import Table, cut_after


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
    assert cut_after(path, "x", "n_updates", until) == figures
    assert path.read_bytes().decode() == kept


def test_a_table_that_is_not_there_has_no_rows_and_is_not_made(tmp_path):
    assert cut_after(tmp_path / "table.csv", "x", "n_updates", 3) == []
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("n_updates,x\n1,2\n1,3\n", "n_updates 1 comes after n_updates 1"),
        ("n_updates,x\n2,2\n1,3\n", "n_updates 1 comes after n_updates 2"),
        ("n_updates,x\n0,2\n", "n_updates 0 comes after n_updates 0"),
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
    with pytest.raises(CheckpointError, match=rf"table\.csv isn't a table to go on with .*: .*{complaint}"):
        cut_after(path, "x", "n_updates", 3)
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
