"""Untrusted files: damaged, foreign, or made to do harm. The fuzzer has many more."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from npTRPO import TRPO, CheckpointError, cli, evaluate_policy
from npTRPO.runs.directory import RunDirectory
from npTRPO.runs.plotting import plot_runs, read_run
from npTRPO.runs.presets import read_presets
from npTRPO.runs.validation import check_tables
from tests.fuzz import PRESETS, SAMPLES
from tests.mutated_files import forged, members, packed, saved
from tests.samples import OWN, answers

ROOT = Path(__file__).parents[2]
AGENT = (SAMPLES / "categorical.npz").read_bytes()
ONE_LINE = re.compile(r"nptrpo: [^\n]+\n")


@pytest.fixture
def run(tmp_path):
    """A run directory of one's own."""
    return shutil.copytree(SAMPLES / "run", tmp_path / "run", copy_function=shutil.copyfile)


def listing(directory):
    """All that is in it, and when it was written."""
    states = {path: path.lstat() for path in sorted(directory.rglob("*"))}
    return {str(p): (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ino) for p, s in states.items()}


def with_header(content, **changes):
    """An agent's file whose header says something else."""
    parts = members(content)
    header = json.loads(np.load(SAMPLES / "categorical.npz")["header"].tobytes()) | changes
    return packed(parts | {"header.npy": saved(np.frombuffer(json.dumps(header).encode(), np.uint8))})


def with_config(run, **changes):
    """The run, whose config.json says something else."""
    found = json.loads((run / "config.json").read_text())
    for key, value in changes.items():
        (found["config"] if key in found["config"] else found)[key] = value
    (run / "config.json").write_text(json.dumps(found))


guarded = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the fuzzer's guard reads Linux's /proc"
)

# --- files of earlier versions, and of later ones ----------------------------------------------------------


@pytest.mark.parametrize("directory", sorted((ROOT / "tests" / "data").iterdir()), ids=lambda path: path.name)
def test_agents_that_earlier_versions_wrote_are_loaded_to_the_bit_and_do_what_they_did(directory):
    """Of outputs of some ten operations each in float32, 2⁻²⁴ × 100 is left to other machines' rounding."""
    expected = json.loads((directory / "expected.json").read_text())
    assert {"categorical", "gaussian", "multi-categorical", "bernoulli", "run/agent"} <= set(expected)
    for name, was in expected.items():
        agent = TRPO.load(directory / name, **OWN.get(name, {}))
        assert agent.theta.tobytes().hex() == was["theta"], name
        assert agent.value_theta.tobytes().hex() == was["value_theta"], name
        assert agent.num_timesteps == was["num_timesteps"]
        space = agent.policy.observation_space
        found = answers(agent, [spaces.unflatten(space, np.array(row)) for row in was["observations"]])
        for answer in ("outputs", "actions"):
            np.testing.assert_allclose(found[answer], was[answer], rtol=100 * 2**-24, atol=100 * 2**-24)


def test_a_run_that_an_earlier_version_wrote_is_gone_on_with(run):
    before = TRPO.load(run / "checkpoints" / "000000004").theta
    resumed = RunDirectory.resume(run, total_timesteps=8 * 32)
    assert resumed.agent.n_updates == 4
    assert resumed.agent.theta.tobytes() == before.tobytes()
    resumed.train()
    assert TRPO.load(run / "agent").n_updates == 8
    np.testing.assert_array_equal(read_run(run).columns["num_timesteps"], 32 * np.arange(1, 9))


@pytest.mark.parametrize("version", [0, 2, 1.5, None, "1"])
def test_files_of_another_format_version_are_refused_with_both(version, run, tmp_path):
    (tmp_path / "agent.npz").write_bytes(with_header(AGENT, format_version=version, new={"of": "it"}))
    both = f"its format version is {version!r}, and this is version 1"
    with pytest.raises(CheckpointError, match=re.escape(both)):
        TRPO.load(tmp_path / "agent")
    with_config(run, format_version=version, new={"of": "it"})
    with pytest.raises(CheckpointError, match=re.escape(both)):
        RunDirectory.resume(run)


# --- truncations -------------------------------------------------------------------------------------------


def test_a_config_is_refused_at_every_length_at_which_it_is_cut_off(run):
    """But for the last, where only the end of the line is missing."""
    text = (run / "config.json").read_bytes()
    for length in range(len(text) - 1):
        (run / "config.json").write_bytes(text[:length])
        for read in (RunDirectory.resume, read_run):
            with pytest.raises(CheckpointError):
                read(run)


@pytest.mark.parametrize("name", ["progress.csv", "evaluations.csv"])
def test_a_table_is_read_to_its_last_whole_row_wherever_it_is_cut_off(name, run):
    content = (run / name).read_bytes()
    ends = [i for i, byte in enumerate(content) if byte == ord("\n")]
    near_ends = {end + step for end in ends for step in (-1, 0, 1)}
    for length in sorted({*range(0, len(content), 5), *near_ends} - {len(content)}):
        (run / name).write_bytes(content[:length])
        if length % 3 == 0 or length in near_ends:
            assert RunDirectory.resume(run).agent.n_updates == 4
        check_tables(run, 4)
        if name == "progress.csv":
            rows = sum(end < length for end in ends) - 1
            if rows > 0:
                assert len(read_run(run).columns["kl"]) == rows
            else:
                with pytest.raises(CheckpointError, match="no progress to draw yet"):
                    read_run(run)


def test_presets_are_read_or_refused_wherever_they_are_cut_off():
    whole = read_presets(PRESETS)
    for length in range(0, len(PRESETS), 3):
        try:
            found = read_presets(PRESETS[:length])
        except CheckpointError:
            continue
        assert found.keys() <= whole.keys()


# --- no code -----------------------------------------------------------------------------------------------


MODULE = """
import pathlib
pathlib.Path(__file__).with_name("imported").touch()
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module on the path that leaves a trace when it is imported."""
    folder = tmp_path / "on-the-path"
    folder.mkdir()
    (folder / "of_someone.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    yield folder / "imported"
    sys.modules.pop("of_someone", None)


COMMANDS = {
    "evaluate agent.npz --episodes 1": "--env of_someone:CartPole-v1",
    "render agent.npz --gif out.gif --max-steps 2": "--env of_someone:CartPole-v1",
    "train --resume run --total-timesteps 192": "of_someone:CartPole-v1",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_module_is_imported_that_only_a_file_names(command, run, own_module, capsys, monkeypatch):
    for needed in ["PIL", "pygame"] if command.startswith("render") else []:
        pytest.importorskip(needed, reason="drawing is an extra")
    directory = run.parent
    monkeypatch.chdir(directory)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    (directory / "agent.npz").write_bytes(with_header(AGENT, env_id="of_someone:CartPole-v1"))
    with_config(run, env="of_someone:CartPole-v1")
    before = listing(directory)
    assert cli.main(command.split()) == 1
    said = capsys.readouterr().err
    assert ONE_LINE.fullmatch(said)
    assert "'of_someone:CartPole-v1', and no module is imported because a file names it: if you trust" in said
    assert COMMANDS[command] in said
    assert not own_module.exists()
    assert "of_someone" not in sys.modules
    assert listing(directory) == before
    assert cli.main(f"{command} {COMMANDS[command]}".split()) == 0
    assert own_module.exists()


def test_from_python_too_and_what_one_imports_oneself_is_trusted(tmp_path, own_module):
    (tmp_path / "agent.npz").write_bytes(with_header(AGENT, env_id="of_someone:CartPole-v1"))
    agent = TRPO.load(tmp_path / "agent")
    with pytest.raises(ValueError, match="no module is imported because a file names it"):
        evaluate_policy(agent, n_eval_episodes=1)
    assert not own_module.exists()
    __import__("of_someone")
    assert evaluate_policy(agent, n_eval_episodes=1)[0] > 0


def test_a_run_is_gone_on_with_in_no_other_environment_than_its_own(run, own_module):
    with pytest.raises(CheckpointError, match="its environment is 'CartPole-v1', and not 'of_someone:X-v0'"):
        RunDirectory.resume(run, env="of_someone:X-v0")
    assert not own_module.exists()


@pytest.mark.parametrize(
    "shape", ["(16L,)", "(16 L,)", "(0x10,)", r"('\d',)", "(16or 3,)", "(True,)", "(-1,)"]
)
def test_a_header_that_is_none_of_numpys_is_refused_without_a_warning(shape, tmp_path):
    claim = forged("'<f4'", shape, bytes(64))
    (tmp_path / "agent.npz").write_bytes(packed(members(AGENT) | {"theta.npy": claim}))
    with pytest.raises(CheckpointError, match=r"theta is no array of NumPy's|no numbers in C order"):
        TRPO.load(tmp_path / "agent")


@pytest.mark.parametrize("name", ["../theta.npy", "/tmp/theta.npy", "a/../../b.npy", "theta", "theta.npy/"])
def test_a_member_of_another_name_is_refused_by_it_and_extracted_nowhere(name, tmp_path):
    (tmp_path / "agent.npz").write_bytes(packed(members(AGENT) | {name: members(AGENT)["theta.npy"]}))
    with pytest.raises(CheckpointError, match=r"its member '.*' is none of an agent's|same name"):
        TRPO.load(tmp_path / "agent")
    assert [path.name for path in tmp_path.iterdir()] == ["agent.npz"]


def test_what_a_file_says_cannot_write_to_the_terminal(tmp_path, capsys):
    description = {"kind": "\x1b]0;yours\x07\n" + 10_000 * "x"}
    (tmp_path / "agent.npz").write_bytes(with_header(AGENT, observation_space=description))
    assert cli.main(["evaluate", str(tmp_path / "agent.npz")]) == 1
    said = capsys.readouterr().err
    assert said.endswith("…\n")
    assert said[:-1].isprintable()
    assert len(said) < 1000


# --- links, pipes and devices ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["agent.npz", "config.json", "progress.csv", "checkpoints/000000004.npz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "directory"])
def test_what_is_no_file_is_refused_and_not_waited_for(name, kind, run):
    path = run / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    before = listing(run)
    if name == "agent.npz":
        with pytest.raises(CheckpointError, match="can't be read"):
            TRPO.load(path)
        assert not RunDirectory.resume(run).finished
    elif path.suffix == ".npz":
        with pytest.warns(RuntimeWarning, match="going on from 000000002"):
            assert RunDirectory.resume(run).agent.n_updates == 2
    else:
        with pytest.raises(CheckpointError):
            RunDirectory.resume(run)
        with pytest.raises(CheckpointError):
            read_run(run)
    assert listing(run) == before


@pytest.mark.parametrize("name", [".lock", "progress.csv", "evaluations.csv", "checkpoints"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_run_is_written_through_no_link(name, exists, run, tmp_path, capsys):
    target = tmp_path / "of-another"
    path = run / name
    if name == "checkpoints":
        path.rename(tmp_path / "checkpoints")
        if exists:
            (tmp_path / "checkpoints").rename(target)
    else:
        path.unlink(missing_ok=True)
        if exists:
            target.write_text("mine")
    path.symlink_to(target)
    before = listing(tmp_path)
    for words in (["--resume", run], ["CartPole-v1", "--out", run, "--overwrite", "--n-envs", "2"]):
        assert cli.main(["train", *map(str, words), "--total-timesteps", "320"]) == 1
        said = capsys.readouterr().err
        assert said == f"nptrpo: {path} is a symbolic link, and a run is written through none\n"
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", ["agent.npz", "best.npz", "config.json"])
def test_a_link_in_the_place_of_a_file_is_replaced_and_its_target_left(name, run, tmp_path):
    target = tmp_path / "of-another"
    (run / name).rename(target)
    content = target.read_bytes()
    (run / name).symlink_to(target)
    RunDirectory.resume(run, total_timesteps=12 * 32).train()
    assert target.read_bytes() == content
    if name != "best.npz":  # which a better one would replace
        assert not (run / name).is_symlink()


def test_a_checkpoint_of_another_run_is_none_of_this_one(run):
    other = TRPO.load(run / "checkpoints" / "000000004")
    other.entropy += 1
    other.save(run / "checkpoints" / "000000004")
    with pytest.warns(RuntimeWarning, match=r"000000004\.npz is of another run than config\.json; going on"):
        assert RunDirectory.resume(run).agent.n_updates == 2


# --- sizes -------------------------------------------------------------------------------------------------

MILLION_MILLIONS = forged("'<f4'", "(1000000000000,)", bytes(8))
BIG_BOX = {"kind": "Box", "low": 0, "high": 1, "shape": [10**6, 10**6], "dtype": "float64"}


class Sparse(io.FileIO):
    """A file whose megabytes of nothing take no room on the disk."""

    def write(self, content):
        if len(content) < 2**20:
            return super().write(content)
        self.seek(len(content), os.SEEK_CUR)
        return len(content)


def swollen(path, name, claimed, size=80 * 2**20):
    """An agent with an array of 80 MB of zeros, whose header claims them or not."""
    parts = members(AGENT)
    array = np.load(io.BytesIO(parts.pop(f"{name}.npy")))
    shape = f"({size // array.itemsize},)" if claimed else f"({array.size},)"
    with Sparse(path, "w") as file, zipfile.ZipFile(file, "w") as archive:
        for each, content in parts.items():
            archive.writestr(each, content)
        with archive.open(f"{name}.npy", "w") as member:
            member.write(forged(repr(array.dtype.str), shape))
            for _ in range(size >> 20):
                member.write(bytes(2**20))


def bombs(directory):
    """Files that ask for more memory than there is, or than they have."""
    parts = members(AGENT)
    archives = {
        f"claims-{name}": packed(parts | {f"{name}.npy": MILLION_MILLIONS}) for name in ("theta", "header")
    }
    inflating = forged("'<f4'", f"({50 * 2**20},)", bytes(200 * 2**20))
    archives["inflates"] = packed(parts | {"theta.npy": inflating}, compression=8)
    wide = {"kind": "Tuple", "spaces": [BIG_BOX] * 1000}
    headers = {
        "box": {"observation_space": BIG_BOX},
        "boxes": {"observation_space": wide},
        "discrete": {"observation_space": {"kind": "Discrete", "n": 10**12, "start": 0, "dtype": "int64"}},
        "actions": {"action_space": {"kind": "Discrete", "n": 10**12, "start": 0, "dtype": "int64"}},
        "bits": {"action_space": {"kind": "MultiBinary", "n": [10**6, 10**6]}},
        "dtype": {"observation_space": BIG_BOX | {"shape": [4], "dtype": "V1000000000"}},
        "many": {"versions": [{} for _ in range(300_000)]},
        "more": {"versions": [{} for _ in range(5_000_000)]},
    }
    config = json.loads(np.load(SAMPLES / "categorical.npz")["header"].tobytes())["config"]
    widths = {"net": [10**9], "nets": {"pi": [2], "vf": [10**5, 10**5]}, "layers": [1] * 400_000}
    headers |= {name: {"config": config | {"net_arch": arch}} for name, arch in widths.items()}
    archives |= {name: with_header(AGENT, **changes) for name, changes in headers.items()}
    for name, content in archives.items():
        (directory / f"{name}.npz").write_bytes(content)
        yield "agent", directory / f"{name}.npz"
    with (directory / "sparse.npz").open("wb") as file:
        file.truncate(2**40)
    yield "agent", directory / "sparse.npz"
    for name in ("theta", "adam_mean", "recent_returns", "header", "observation_mean"):
        for claimed in (True, False):
            path = directory / f"swollen-{name}-{claimed}.npz"
            swollen(path, name, claimed)
            yield "agent", path
    runs = {"copies": {"n_envs": 10**9}, "widths": {"net_arch": [10**9]}}
    for name, changes in (runs | dict.fromkeys(["sparse config", "sparse table", "wide table"])).items():
        run = shutil.copytree(SAMPLES / "run", directory / name)
        if changes:
            for file in (run / "checkpoints").iterdir():
                file.unlink()
            with_config(run, **changes)
        elif name == "wide table":
            (run / "progress.csv").write_text(",".join(map(str, range(30_000))) + "\n" + 30_000 * "1\n")
        else:
            os.truncate(run / ("config.json" if "config" in name else "progress.csv"), 2**40)
        yield "resume", run
        if not changes:
            yield "plot", run


READ = """
import json, sys
from pathlib import Path
from tests import fuzz

guard = fuzz.ready()
for kind, path in json.loads(sys.stdin.read()):
    print(fuzz.outcome(kind, Path(path), guard), f"{guard.megabytes:.0f} MB", path)
"""


def python(script, given=""):
    """A script in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    return done.stdout.splitlines(), done.stderr


@guarded
def test_nothing_is_made_of_a_size_that_a_file_only_claims(tmp_path):
    """Within 64 MB and no allocation refused, as the guard of the fuzzer sees to."""
    given = [(kind, str(path)) for kind, path in bombs(tmp_path)]
    lines, err = python(READ, json.dumps(given))
    assert err == ""
    assert len(lines) == len(given) > 20
    for line in lines:
        assert line.startswith("refused"), line


def test_an_agent_whose_header_would_be_too_long_to_be_read_is_not_written(tmp_path):
    low = np.linspace(-1, 0, 60_000, dtype=np.float64)
    agent = TRPO(spaces=(spaces.Box(low, 1, dtype=np.float64), spaces.Discrete(2)), net_arch=[1])
    with pytest.raises(ValueError, match="more than a file may have"):
        agent.save(tmp_path / "agent")
    assert list(tmp_path.iterdir()) == []


EXTREME = ["1e308", "-1e308", "nan", "inf", "5e-324", "-1"]


def with_cell(run, cell, *names):
    """The run, whose last row has this number in some columns."""
    header, *rows = [line.split(",") for line in (run / "progress.csv").read_text().splitlines()]
    last = [cell if name in names else text for name, text in zip(header, rows[-1], strict=True)]
    (run / "progress.csv").write_text("\n".join(map(",".join, [header, *rows[:-1], last])) + "\n")


@pytest.mark.parametrize("cell", EXTREME)
@pytest.mark.parametrize("name", ["num_timesteps", "time_elapsed", "target_kl", "kl"])
def test_an_extreme_number_is_refused_where_it_cannot_be_drawn(name, cell, run):
    with_cell(run, cell, name)
    refused = name != "kl" and cell != "5e-324"
    with pytest.raises(CheckpointError, match=name) if refused else contextlib.nullcontext():
        read_run(run)


@pytest.mark.parametrize(
    "cell",
    [cell if cell in ("1e308", "nan") else pytest.param(cell, marks=pytest.mark.slow) for cell in EXTREME],
)
@pytest.mark.filterwarnings("ignore")  # Matplotlib's, about scales
def test_extreme_numbers_are_drawn(cell, run, tmp_path):
    pytest.importorskip("matplotlib", reason="drawing is an extra")
    gains = ("improvement", "predicted_improvement")
    with_cell(run, cell, *gains, "episode_return", "kl", "cg_residual", "explained_variance")
    plot_runs([run], tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 1000


def test_a_formula_in_a_name_is_drawn_as_it_is_written(run, tmp_path):
    pytest.importorskip("matplotlib", reason="drawing is an extra")
    with_config(run, env=r"$\frac{1$")
    plot_runs([run], tmp_path / "out.svg")
    assert r"$\frac{1$" in (tmp_path / "out.svg").read_text()


# --- the fuzzer --------------------------------------------------------------------------------------------


@guarded
@pytest.mark.parametrize("files", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_mutated_files_are_taken_or_refused(files):
    lines, err = python(
        f"import sys; sys.argv[1:] = ['--files', '{files}']; from tests.fuzz import main; main()"
    )
    assert err == ""
    assert re.fullmatch(rf"{files} files .* 0 failures \(seed 0\)", lines[-1]), lines


WRONG = {
    "writes": "open(path.parent / 'x', 'w')",
    "removes": "path.unlink()",
    "imports": "import wave",
    "evaluates": "exec('1')",
    "unpickles": "pickle.loads(b'cos\\ngetpid\\n.')",
    "swells": "bytearray(100 * 2**20)",
    "asks for too much": "asks()",
    "takes long": "sum(range(2 * 10**7))",
    "stumbles": "[][1]",
    "shouts": "raise CheckpointError('a\\nb')",
    "warns": "warnings.warn('x')",
}
NOTICING = """
import pickle, warnings
from pathlib import Path
from npTRPO import CheckpointError
from tests import fuzz

def asks():
    try:
        bytes(10**13)
    except MemoryError as error:
        raise CheckpointError("no") from error

{readers}
guard, path = fuzz.ready(), Path({path!r})
fuzz.LIMIT_SECONDS = 0.1
for i, name in enumerate({names}):
    path.touch()
    fuzz.READERS["agent"] = globals()[f"read_{{i}}"]
    try:
        print(name + ":", fuzz.outcome("agent", path, guard))
    except fuzz.Failure:
        print(name + ": noticed")
fuzz.READERS["agent"] = lambda path: path.read_bytes()
print("nothing:", fuzz.outcome("agent", path, guard))
"""


@guarded
def test_the_fuzzer_notices_what_a_reader_should_not_do(tmp_path):
    readers = "".join(f"def read_{i}(path):\n    {wrong}\n\n" for i, wrong in enumerate(WRONG.values()))
    lines, err = python(NOTICING.format(readers=readers, names=list(WRONG), path=str(tmp_path / "file")))
    assert lines == [f"{name}: noticed" for name in WRONG] + ["nothing: taken"], err
