"""Run directories: what is in them, and that nothing that happens to a run changes its bits."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import warnings
from functools import partial

import numpy as np
import pytest

from npTRPO import TRPO, CheckpointError, TRPOConfig, cli, evaluate_policy
from npTRPO.files.tables import Table
from npTRPO.runs import directory as run_module
from npTRPO.runs.directory import RunDirectory, RunSettings, locked
from npTRPO.runs.settings import commit
from tests import faults
from tests.faults import BATCH, EVERY, OPTIONS, assert_same_run, files, flags, progress, table

UPDATES = 8  # not a boundary: the end is where no checkpoint is
CONFIG = TRPOConfig(**OPTIONS)


def settings(updates=UPDATES, eval_episodes=2):
    return RunSettings("CartPole-v1", updates * BATCH, eval_episodes)


class Stop(Exception):
    """Ends a process at a moment of one's choice."""


def stopping(at):
    def stop(record):
        if at in (record.n_updates, "once"):
            raise Stop

    return stop


def train(path, updates=UPDATES, stop_at=None, **options):
    """A run, or its beginning."""
    run = RunDirectory.create(path, settings(updates, **options), CONFIG)
    with contextlib.suppress(Stop):
        run.train([stopping(stop_at)])
    assert run.agent.n_updates == (stop_at or updates)
    return path


def resume(path, **options):
    RunDirectory.resume(path, **options).train()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    return train(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory):
    """A run that stopped after seven updates, six of which are in a checkpoint."""
    return train(tmp_path_factory.mktemp("broken") / "run", stop_at=7)


@pytest.fixture
def half(broken_off, tmp_path):
    return shutil.copytree(broken_off, tmp_path / "half")


# --- what is in it ---------------------------------------------------------------------------------------


def test_a_run_holds_what_its_documentation_says(whole):
    names = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    names = {re.sub(r"tfevents\..*", "tfevents", name) for name in names}
    expected = {"config.json", "progress.csv", "evaluations.csv", "best.npz", "agent.npz", ".lock"}
    expected |= {"checkpoints/000000003.npz", "checkpoints/000000006.npz"}
    assert names - {"events.out.tfevents"} == expected
    documented = re.findall(r"^    (\S+) ", run_module.__doc__, re.MULTILINE)
    assert {name.split("/")[0] for name in names} <= {
        name.rstrip("/").replace("events.*", "events.out.tfevents") for name in documented
    }


def test_only_the_last_two_checkpoints_are_kept_and_without_evaluations_no_best_agent(tmp_path):
    path = train(tmp_path / "run", updates=13, eval_episodes=0)
    assert not (path / "best.npz").exists()
    assert table(path / "evaluations.csv") == []
    kept = sorted((path / "checkpoints").iterdir())
    assert [file.name for file in kept] == ["000000009.npz", "000000012.npz"]
    assert [TRPO.load(file).n_updates for file in kept] == [9, 12]
    assert [TRPO.load(file).num_timesteps for file in kept] == [9 * BATCH, 12 * BATCH]


def test_the_config_says_what_was_asked_for_and_with_what(whole):
    found = json.loads((whole / "config.json").read_text())
    assert found["env"] == "CartPole-v1"
    assert found["total_timesteps"] == UPDATES * BATCH
    assert found["eval_episodes"] == 2
    assert TRPOConfig.from_dict(found["config"]) == CONFIG
    assert found["config"]["seed"] == 0
    assert found["versions"]["numpy"] == np.__version__
    assert {"npTRPO", "scipy", "gymnasium", "python"} < set(found["versions"])
    assert found["machine"]["cores"] == os.cpu_count()
    assert found["maximises"].startswith(
        "the mean advantage in the states as often as they are visited (E56)"
    )
    assert found["machine"]["processor"]
    assert "commit" in found


@pytest.mark.skipif(shutil.which("git") is None, reason="the commit is git's to say")
def test_the_config_names_the_commit_of_the_package_and_whether_files_have_changed_since(
    tmp_path, monkeypatch
):
    """Not of the current directory's repository, nor of one around an installed package."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    package = tmp_path / "package"
    package.mkdir()
    assert commit(package) is None

    def git(*words):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        done = subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    (package / "__init__.py").write_text("one")
    assert commit(package) is None  # installed, below a repository of something else
    git("add", "package")
    git("commit", "-q", "-m", "two")
    head = git("rev-parse", "HEAD")
    assert commit(package) == head
    (package / "__init__.py").write_text("two")
    assert commit(package) == head + "+"
    here = commit()
    monkeypatch.chdir(tmp_path)
    assert commit() == here
    monkeypatch.setenv("PATH", str(tmp_path))  # without git
    assert commit(package) is None


def test_each_update_has_a_row_and_each_boundary_an_evaluation(whole):
    rows = table(whole / "progress.csv")
    assert [int(row["n_updates"]) for row in rows] == list(range(1, UPDATES + 1))
    assert [int(row["num_timesteps"]) for row in rows] == [BATCH * n for n in range(1, UPDATES + 1)]
    assert all(float(row["kl"]) <= 1.001 * 0.01 for row in rows)
    evaluated = table(whole / "evaluations.csv")
    assert [(int(row["n_updates"]), int(row["num_timesteps"])) for row in evaluated] == [(3, 96), (6, 192)]


def test_the_figures_of_a_checkpoint_are_those_of_an_evaluation_of_it(whole):
    for row in table(whole / "evaluations.csv"):
        agent = TRPO.load(whole / "checkpoints" / f"{int(row['n_updates']):09d}")
        mean, std = evaluate_policy(agent, n_eval_episodes=2, seed=0)
        assert (float(row["mean_return"]), float(row["std_return"])) == (mean, std)


def test_the_best_agent_is_that_of_the_best_evaluation_also_when_the_run_is_resumed(tmp_path):
    path = train(tmp_path / "run", updates=24)
    rows = table(path / "evaluations.csv")
    means = [float(row["mean_return"]) for row in rows]
    assert len(set(means)) > 1
    assert max(means) != means[-1]
    first = rows[means.index(max(means))]
    best = TRPO.load(path / "best")
    assert best.n_updates == int(first["n_updates"])
    assert evaluate_policy(best, n_eval_episodes=2, seed=0)[0] == max(means)
    assert best.n_updates < 24  # there is a worse one to come
    broken = train(tmp_path / "broken", updates=24, stop_at=best.n_updates + 1)
    assert_same_run(resume(broken), path, 24)


def test_rows_are_on_disk_before_the_checkpoint_that_goes_on_from_them(tmp_path, monkeypatch):
    """A machine that loses its power must not keep the checkpoint and lose the rows."""
    done, sync, save = [], Table.sync, TRPO.save
    monkeypatch.setattr(Table, "sync", lambda self: (done.append(self.path.name), sync(self)))
    monkeypatch.setattr(TRPO, "save", lambda self, path: (done.append(path.name), save(self, path)))
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(file))
    train(tmp_path / "run", updates=6, eval_episodes=0)
    assert done == [
        *("progress.csv", "evaluations.csv", "000000003.npz"),
        *("progress.csv", "evaluations.csv", "000000006.npz", "agent.npz"),
    ]
    assert len(synced) == 14  # each of them once, config.json, and the directory for the six that are new


# --- going on --------------------------------------------------------------------------------------------


def test_a_run_that_broke_off_ends_as_one_that_did_not(half, whole):
    assert len(progress(half)) == 7
    assert_same_run(resume(half), whole, UPDATES)


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4])
def test_a_run_that_broke_off_at_its_beginning_ends_as_one_that_did_not(stop_at, whole, tmp_path):
    assert_same_run(resume(train(tmp_path / "run", stop_at=stop_at)), whole, UPDATES)


def test_a_seed_from_the_system_is_kept_and_gone_on_with(tmp_path):
    config = TRPOConfig(**OPTIONS | {"seed": None})
    run = RunDirectory.create(tmp_path / "run", settings(eval_episodes=0), config)
    again = RunDirectory.resume(tmp_path / "run")  # before the first checkpoint
    assert again.agent.entropy == run.agent.entropy
    assert again.agent.theta.tobytes() == run.agent.theta.tobytes()
    other = RunDirectory.create(tmp_path / "other", settings(eval_episodes=0), config)
    assert other.agent.entropy != run.agent.entropy


def test_a_finished_run_is_left_as_it_is(copy, whole, capsys):
    before = files(copy) | {"progress": (copy / "progress.csv").read_bytes()}
    assert cli.main(["train", "--resume", str(copy)]) == 0
    assert "has taken its 256 steps: give more with --total-timesteps" in capsys.readouterr().out
    assert files(copy) | {"progress": (copy / "progress.csv").read_bytes()} == before


@pytest.mark.parametrize("more", [9, 12, 14])
def test_a_run_that_is_given_more_steps_ends_as_one_that_had_them_at_once(more, copy, tmp_path):
    expected = train(tmp_path / "at-once", updates=more)
    run = RunDirectory.resume(copy, total_timesteps=more * BATCH)
    assert not run.finished
    run.train()
    assert run.finished
    assert_same_run(copy, expected, more)


def test_more_steps_are_remembered_when_the_run_breaks_off_again(copy, tmp_path):
    with pytest.raises(Stop):
        RunDirectory.resume(copy, total_timesteps=14 * BATCH).train([stopping(10)])
    assert_same_run(resume(copy), train(tmp_path / "at-once", updates=14), 14)


@pytest.mark.parametrize("left", [None, "old", "half"])
def test_an_agent_that_was_not_saved_at_the_end_is_saved_by_resuming(left, copy, tmp_path):
    """A process can be killed between the last checkpoint and the end."""
    old = (copy / "agent.npz").read_bytes()
    resume(copy, total_timesteps=12 * BATCH)
    expected = files(copy)
    if left is None:
        (copy / "agent.npz").unlink()
    else:
        (copy / "agent.npz").write_bytes(old if left == "old" else old[:100])
    assert cli.main(["train", "--resume", str(copy)]) == 0
    assert files(copy) == expected


# --- damage ----------------------------------------------------------------------------------------------


def flipped(content):
    """A file with one bit changed in what it says, and not in what ZIP files keep around that."""
    at = content.index(b'"format_version"')
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "cut off by a byte": lambda content: content[:-1],
    "foreign": lambda content: b"notes",
    "zeros": lambda content: bytes(len(content)),
    "a bit flipped": flipped,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_with_a_warning(damage, half, whole):
    newest = half / "checkpoints" / "000000006.npz"
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    with pytest.warns(RuntimeWarning) as caught:
        run = RunDirectory.resume(half)
    [warning] = caught
    said = str(warning.message)
    assert "000000006.npz is no agent that can be loaded" in said
    assert "going on from 000000003.npz, the one before: the 3 updates between them" in said
    assert "are lost and will be made again" in said
    assert warning.filename == __file__
    run.train()
    assert_same_run(half, whole, UPDATES)


def test_a_checkpoint_that_can_be_read_again_later_does_not_get_ahead_of_the_rows(half, whole, monkeypatch):
    """As one on a disk that fails for a while: its rows are cut off by the run that goes on without it."""
    load = TRPO.load

    def failing(path, **others):
        if path.stem == "000000006":
            raise CheckpointError("input/output error")
        return load(path, **others)

    monkeypatch.setattr(TRPO, "load", failing)
    with pytest.warns(RuntimeWarning, match="going on from 000000003"):
        run = RunDirectory.resume(half)
    with pytest.raises(Stop):
        run.train([stopping("once")])
    monkeypatch.undo()
    assert_same_run(resume(half), whole, UPDATES)


def test_a_run_that_another_process_went_on_with_is_not_gone_on_with_from_before(half):
    first, second = (RunDirectory.resume(half, total_timesteps=12 * BATCH) for _ in range(2))
    first.train()
    expected = files(half)
    with pytest.raises(RuntimeError, match=r"another process has trained in .* meanwhile: resume it again"):
        second.train()
    assert files(half) == expected
    first.train()  # one's own work is no surprise
    assert RunDirectory.resume(half).finished


def test_a_run_that_an_error_stopped_is_gone_on_with_by_the_same_object(half):
    run = RunDirectory.resume(half, total_timesteps=12 * BATCH)
    with pytest.raises(Stop):
        run.train([stopping(10)])
    run.train()
    assert [int(row["n_updates"]) for row in progress(half)] == list(range(1, 13))


def test_the_command_says_on_one_line_what_is_lost(half, capsys):
    (half / "checkpoints" / "000000006.npz").write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main(["train", "--resume", str(half)]) == 0
    err = capsys.readouterr().err
    assert re.fullmatch(r"nptrpo: warning: [^\n]*000000006\.npz[^\n]*3 updates[^\n]*are lost[^\n]*\n", err)


@pytest.mark.parametrize("both", [True, False])
def test_a_run_none_of_whose_checkpoints_can_be_read_is_refused(both, half):
    (half / "checkpoints" / "000000006.npz").write_bytes(b"")
    if both:
        (half / "checkpoints" / "000000003.npz").write_bytes(b"notes")
    else:
        (half / "checkpoints" / "000000003.npz").unlink()
    before = files(half)
    with pytest.raises(CheckpointError, match=r"has no checkpoint that can be read: .*000000006\.npz"):
        RunDirectory.resume(half)
    assert files(half) == before


CONFIGS = {
    "a list": lambda text: "[1, 2]",
    "too deep": lambda text: "[" * 100_000,
    "foreign": lambda text: '{"name": "something"}',
    "of another program": lambda text: text.replace("npTRPO run", "other run"),
    "without steps": lambda text: text.replace("total_timesteps", "steps"),
    "an option too many": lambda text: text.replace('"gamma"', '"gama"'),
    "an impossible value": lambda text: text.replace('"gamma": 0.99', '"gamma": 99'),
    "entropy of no kind": lambda text: text.replace('"entropy": "0"', '"entropy": "much"'),
}


@pytest.mark.parametrize("damage", CONFIGS)
def test_a_damaged_config_is_refused_by_its_name_and_nothing_is_changed(damage, half, capsys):
    file = half / "config.json"
    text = file.read_text()
    file.write_text(CONFIGS[damage](text))
    assert file.read_text() != text
    before = files(half)
    with pytest.raises(CheckpointError, match="half"):
        RunDirectory.resume(half)
    assert cli.main(["train", "--resume", str(half)]) == 1
    assert re.fullmatch(r"nptrpo: [^\n]*half[^\n]*config\.json[^\n]*\n", capsys.readouterr().err)
    assert files(half) == before


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("notes")
    for name in ("nothing", "directory", "file"):
        with pytest.raises(CheckpointError, match=rf"{name}.*config\.json"):
            RunDirectory.resume(tmp_path / name)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("cut", [1, 2, 10, 60, 150])
def test_a_row_that_is_cut_off_is_written_again(cut, half, whole):
    """Of the seventh update, which is in no checkpoint."""
    content = (half / "progress.csv").read_bytes()
    (half / "progress.csv").write_bytes(content[:-cut])
    assert content[:-cut].count(b"\n") == 7  # the header and six rows
    assert_same_run(resume(half), whole, UPDATES)


@pytest.mark.parametrize("content", ["notes\nof mine\n", "\x00\x01\n\x02\n", "n_updates,kl\n1,0.1\n"])
@pytest.mark.parametrize("name", ["progress.csv", "evaluations.csv"])
def test_a_table_that_is_no_table_of_a_run_is_refused_by_its_name(name, content, half):
    (half / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name} isn't a table to go on with \(remove it to go on"):
        resume(half)
    assert (half / name).read_text() == content
    (half / name).unlink()
    resume(half)
    assert TRPO.load(half / "agent").n_updates == UPDATES


# --- directories that are taken --------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(
    "name", ["notes.txt", "config.json", "progress.csv", "agent.npz", "checkpoints/x.npz", ""]
)
def test_anything_else_in_its_place_is_refused_even_for_overwriting(name, overwrite, tmp_path):
    file = tmp_path / "here" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")
    with pytest.raises(FileExistsError, match="here exists already: it is no run directory, so choose an"):
        RunDirectory.create(tmp_path / "here", settings(), CONFIG, overwrite=overwrite)
    assert file.read_text() == "{}"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [file.name]


def test_an_empty_directory_is_taken(tmp_path, whole):
    (tmp_path / "run").mkdir()
    assert_same_run(train(tmp_path / "run"), whole, UPDATES)


def test_overwriting_removes_the_files_of_the_run_and_no_others(copy, tmp_path):
    own = {path for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
    (copy / "agent.npz.123.part").write_text("of a process that was killed")
    mine = ["notes.txt", "notes.csv", "other.npz", "checkpoints/mine.npz", "deeper/config.json"]
    for name in mine:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("mine")
    run = RunDirectory.create(copy, settings(updates=2), CONFIG, overwrite=True)
    left = {path for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
    assert left == {copy / name for name in mine} | {copy / "config.json"}
    assert len(own) >= 7
    run.train()
    assert all((copy / name).read_text() == "mine" for name in mine)
    expected = train(tmp_path / "new", updates=2)
    assert progress(copy) == progress(expected)
    assert (copy / "agent.npz").read_bytes() == (expected / "agent.npz").read_bytes()


def test_a_checkpoint_too_many_is_removed_by_the_process_after_the_one_that_was_killed(copy, whole):
    """It was, between the last checkpoint and the removal of the oldest."""
    shutil.copy(copy / "checkpoints" / "000000003.npz", copy / "checkpoints" / "000000001.npz")
    (copy / "agent.npz").unlink()
    assert_same_run(resume(copy), whole, UPDATES)


def test_what_processes_left_that_were_killed_while_writing_is_cleared_away(half, whole):
    for name in ("agent.npz.77.part", "config.json.77.part", "checkpoints/000000006.npz.77.part"):
        (half / name).write_bytes(b"half of it")
    assert_same_run(resume(half), whole, UPDATES)


# --- processes that are killed ---------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_at_random_moments_ends_as_one_that_was_not(kills, nursery, tmp_path):
    stages = faults.kill_at_random(nursery, tmp_path, 30, kills)
    assert len(stages) == kills
    assert len(set(stages)) > kills // 8  # they came at different ones


@EVERY
def test_a_run_that_is_killed_at_any_change_of_its_files_ends_as_one_that_was_not(every, nursery, tmp_path):
    words = partial(faults.command, updates=UPDATES, eval_episodes=1)
    stages = faults.kill_at_changes(nursery, tmp_path, UPDATES, words, every=every)
    assert len(stages) >= 16 // every  # more with TensorBoard events
    assert every > 1 or "while it wrote a checkpoint" in stages


@EVERY
def test_a_resuming_that_is_killed_at_any_change_of_its_files_can_be_resumed(
    every, nursery, broken_off, whole, tmp_path
):
    prepare = partial(shutil.copytree, broken_off)

    def words(directory):
        return ["train", "--resume", directory]

    stages = faults.kill_at_changes(nursery, tmp_path, UPDATES, words, prepare, whole, every)
    assert len(stages) >= 6 // every


@EVERY
def test_an_overwriting_that_is_killed_leaves_what_can_be_overwritten(every, nursery, whole, tmp_path):
    prepare, expected = partial(shutil.copytree, whole), train(tmp_path / "new", updates=2, eval_episodes=0)

    def words(directory):
        return ["train", *flags(2, 0), "--overwrite", "--out", directory]

    stages = faults.kill_at_changes(nursery, tmp_path, 2, words, prepare, expected, every)
    assert len(stages) >= 6 // every


# --- two processes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--resume"], [*flags(2), "--overwrite", "--out"]], ids=["resume", "overwrite"]
)
def test_a_directory_in_which_another_process_trains_is_refused(words, nursery, half, tmp_path):
    before = files(half)
    with locked(half):
        done = nursery.run("train", *words, half, cwd=tmp_path)
    assert done.status == 1
    assert done.err == f"nptrpo: another process is training in {half}\n"
    assert files(half) == before
    assert nursery.run("train", *words, half, cwd=tmp_path).status == 0
