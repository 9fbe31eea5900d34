import io
import math
import re
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npTRPO import TRPO
from npTRPO.agent.callbacks import EvalCallback
from npTRPO.agent.logging import ProgressBar, TensorBoardWriter, format_metrics, header, metrics, printer
from tests.environments import Counter

README = Path(__file__).parents[2] / "README.md"


def small(env=None, **options):
    """An agent that trains in no time; its first batch has no end of an episode."""
    env = env or Counter(lengths=(10,))
    return TRPO("MlpPolicy", env, **{"n_steps": 8, "net_arch": (4,), "seed": 0} | options)


@pytest.fixture(scope="module")
def records():
    return list(small().updates(24))


class Terminal(io.StringIO):
    def isatty(self):
        return True


# --- figures and lines -----------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_record(records):
    for record in records:
        update = record.update
        figures = metrics(record)
        for name in ("n_updates", "num_timesteps", "time_elapsed", "steps_per_second", "explained_variance"):
            assert figures[name] == getattr(record, name)
        for name in ("kl", "predicted_improvement", "improvement", "entropy", "gradient_norm", "step_norm"):
            assert figures[name] == getattr(update, name)
        for name in ("episode_return", "episode_length"):
            np.testing.assert_equal(figures[name], getattr(record, name))
        assert figures["target_kl"] == 0.01
        assert figures["cg_iterations"] == update.cg.iterations > 0
        assert figures["cg_residual"] == update.cg.residual_norm / update.gradient_norm
        assert figures["line_search_tries"] == update.line_search.tries >= 1
        assert figures["step_fraction"] == update.line_search.fraction > 0
        assert figures["outcome"] == "IMPROVED"
    assert math.isnan(metrics(records[0])["episode_return"])


def test_an_update_that_stays_has_figures_and_a_line_too():
    class Still(Counter):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, 0.0, *rest

    agent = small(Still(), gamma=0.0)
    agent.value_theta = np.zeros_like(agent.value_theta)
    [record] = agent.updates(8)
    figures = metrics(record)
    assert figures["outcome"] == "ZERO_GRADIENT"
    assert math.isnan(figures["cg_residual"])
    assert [figures[key] for key in ("cg_iterations", "line_search_tries", "step_fraction")] == [0] * 3
    assert (
        0 <= figures["kl"] < 1e-4
    )  # the first moments of the observations move an indifferent policy a little
    assert len(format_metrics(figures).split()) == 11


@pytest.mark.parametrize("size", [0.0, 1.0, -1e5, 1e9, -1e15, math.nan, math.inf])
def test_a_line_has_a_figure_under_each_name_however_large_it_is(size, records):
    """One of the names holds a space."""
    figures = metrics(records[-1])
    for key, value in figures.items():
        if isinstance(value, float):
            figures[key] = size
        elif isinstance(value, int) and math.isfinite(size):
            figures[key] = int(size)
    line = format_metrics(figures)
    assert len(line.split()) == len(header().replace("CG resid.", "CG-resid.").split()) == 11
    if abs(size) < 1e5:
        assert len(line) == len(header())


@pytest.mark.parametrize(("interval", "shown"), [(1, [1, 2, 3]), (2, [2]), (3, [3]), (4, [])])
def test_the_printer_prints_the_names_once_and_a_line_at_every_interval(interval, shown, records, capsys):
    show = printer(interval)
    for record in records:
        assert show(record) is None
    expected = [header()] + [
        format_metrics(metrics(record)) for record in records if record.n_updates in shown
    ]
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize("interval", [0, -1])
def test_an_interval_of_less_than_one_update_is_refused(interval):
    with pytest.raises(ValueError, match=f"log_interval must be at least 1, not {interval}"):
        printer(interval)
    agent = small(verbose=1)
    with pytest.raises(ValueError, match="log_interval"):
        agent.learn(8, log_interval=interval)
    assert agent.n_updates == 0


@pytest.mark.parametrize("options", [{"verbose": 1}, {"progress_bar": True}], ids=str)
def test_training_prints_lines_if_asked_and_where_output_is_no_terminal(options, capsys):
    agent = small(verbose=options.get("verbose", 0))
    agent.learn(24, log_interval=2, progress_bar=options.get("progress_bar", False))
    first, second = capsys.readouterr().out.splitlines()
    assert first == header()
    assert second.split()[0] == "16"


def test_training_prints_nothing_unless_asked(capsys):
    small().learn(24)
    assert capsys.readouterr() == ("", "")


def test_an_evaluation_has_a_line_of_its_own_whatever_the_interval(records, capsys):
    show = printer(100)
    show(replace(records[0], evaluations=[(487.26, 4.12)]))
    show(replace(records[1], evaluations=[]))
    assert capsys.readouterr().out == f"{header()}\n       eval 487.3 ± 4.1\n"


def test_an_evaluation_callback_tells_those_after_it(capsys):
    evaluation = EvalCallback(Counter(lengths=(10,)), eval_freq=16, n_eval_episodes=2)
    small(verbose=1).learn(24, callback=evaluation)
    lines = capsys.readouterr().out.splitlines()
    [(_, mean, std)] = evaluation.evaluations
    assert [line.split()[0] for line in lines] == ["steps", "8", "16", "eval", "24"]
    assert lines[3].split()[1:] == [f"{mean:.1f}", "±", f"{std:.1f}"]


# --- the bar ---------------------------------------------------------------------------------------------


def test_a_bar_counts_on_from_the_steps_taken_before(records, monkeypatch):
    pytest.importorskip("rich")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        with ProgressBar(100, done=7) as bar:
            assert bar._bar.tasks[0].completed == 7
            bar(records[-1])
            assert (bar._bar.tasks[0].completed, bar._bar.tasks[0].total) == (24, 100)


def test_the_bar_keeps_the_last_evaluation(records, monkeypatch):
    pytest.importorskip("rich")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        with ProgressBar(100) as bar:
            for evaluations in ([], [(487.26, 4.12)], []):
                bar(replace(records[-1], evaluations=evaluations))
            assert bar._bar.tasks[0].fields["evaluation"] == "eval 487.3 ± 4.1  "


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("rich", lambda: ProgressBar(10)),
        ("rich", lambda: small().learn(8, progress_bar=True)),
        ("tensorboardX", lambda: TensorBoardWriter("nowhere")),
    ],
)
def test_what_needs_an_extra_names_it_when_it_is_missing(package, make, monkeypatch):
    extra = {"rich": "progress", "tensorboardX": "tensorboard"}[package]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        patch.setitem(sys.modules, package, None)
        with pytest.raises(ModuleNotFoundError, match=rf'pip install "npTRPO\[{extra}\]"'):
            make()


# --- TensorBoard -----------------------------------------------------------------------------------------


def events(path):
    """The events of a file. A record is a length, its checksum, the content, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        content = data[12 : 12 + length]
        sums = struct.unpack("<I", data[8:12]) + struct.unpack("<I", data[12 + length : 16 + length])
        assert sums == (masked(data[:8]), masked(content))
        found.append(Event.FromString(content))
        data = data[16 + length :]
    return found


def masked(data):
    """TFRecord's checksum: CRC-32C, bit by bit, rotated and shifted."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_tensorboard_gets_evaluations(tmp_path):
    pytest.importorskip("tensorboardX")
    evaluation = EvalCallback(Counter(lengths=(10,)), eval_freq=16, n_eval_episodes=2)
    small(tensorboard_log=tmp_path).learn(24, callback=evaluation)
    [path] = (tmp_path / "TRPO_1").iterdir()
    found = [(part.tag, e.step, part.simple_value) for e in events(path) for part in e.summary.value]
    [(_, mean, _)] = evaluation.evaluations
    assert [each for each in found if each[0].startswith("eval/")] == [
        ("eval/mean_reward", 16, np.float32(mean))
    ]


# --- other trackers --------------------------------------------------------------------------------------


class Tracker:
    """The parts of wandb's and mlflow's interfaces that the README's recipes use."""

    def __init__(self):
        self.logged, self.config, self.open = [], None, False

    def init(self, *, project, config):
        assert isinstance(project, str)
        self.config = config
        return self

    def start_run(self):
        return self

    def __enter__(self):
        self.open = True
        return self

    def __exit__(self, *_):
        self.open = False

    def log(self, data, step):
        assert self.open
        assert all(isinstance(value, (int, float, str)) for value in data.values())
        self.logged.append((step, data))

    def log_params(self, params):
        assert self.open
        self.config = params

    def log_metrics(self, metrics, step):
        assert all(isinstance(float(value), float) for value in metrics.values())
        self.log(metrics, step)


@pytest.mark.parametrize(("package", "recipe"), [("wandb", "to_wandb"), ("mlflow", "to_mlflow")])
def test_the_readmes_recipes_log_every_update(package, recipe, monkeypatch):
    [program] = [
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
        if recipe in block
    ]
    tracker, names = Tracker(), {}
    monkeypatch.setitem(sys.modules, package, tracker)
    exec(compile(program.replace("10_000", "24"), "recipe", "exec"), names)
    names[recipe](small())
    assert [step for step, _ in tracker.logged] == [8, 16, 24]
    assert {"kl", "episode_return", "improvement"} <= set(tracker.logged[-1][1])
    assert tracker.config["n_steps"] == 8
    assert not tracker.open


def test_tensorboard_gets_the_figures_of_each_update_but_those_that_are_not_there_yet(tmp_path):
    pytest.importorskip("tensorboardX")
    kept = []
    agent = small(tensorboard_log=tmp_path / "events")
    agent.learn(24, callback=lambda record: kept.append(metrics(record)))
    [path] = (tmp_path / "events" / "TRPO_1").iterdir()
    found = [(part.tag, e.step, part.simple_value) for e in events(path) for part in e.summary.value]
    names = {
        "rollout/ep_rew_mean": "episode_return",
        "rollout/ep_len_mean": "episode_length",
        "time/fps": "steps_per_second",
        "train/kl_divergence_loss": "kl",
        "train/policy_objective": "improvement",
        "train/predicted_improvement": "predicted_improvement",
        "train/explained_variance": "explained_variance",
        "train/entropy": "entropy",
        "train/cg_residual": "cg_residual",
        "train/line_search_tries": "line_search_tries",
    }
    expected = [
        (tag, figures["num_timesteps"], np.float32(figures[name]))
        for figures in kept
        for tag, name in names.items()
        if not math.isnan(figures[name])
    ]
    assert found == expected
    assert ("rollout/ep_rew_mean", 8) not in [(tag, step) for tag, step, _ in found]
    assert ("rollout/ep_rew_mean", 16) in [(tag, step) for tag, step, _ in found]
