import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from npTRPO import TRPO, cli
from npTRPO.runs.rendering import render_episodes
from tests.environments import Counter, registered


class Painter(gymnasium.Env):
    """Paints how many steps it has taken, and pays as much; episodes have seven."""

    metadata: ClassVar = {"render_modes": ["rgb_array", "human"], "render_fps": 50}
    made: ClassVar = []

    def __init__(self, render_mode=None, fps=50):
        self.metadata = type(self).metadata | {"render_fps": fps}
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 10, (1,))
        self.action_space = spaces.Discrete(2)
        self.shown, self.seeds, self.closed = 0, [], False
        self.made.append(self)

    def _see(self):
        self.shown += self.render_mode == "human"
        return np.array([self.now], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.now = 0
        return self._see(), {}

    def step(self, action):
        self.now += 1
        self.actions = [*getattr(self, "actions", []), int(action)]
        return self._see(), float(self.now), self.now == 7, False, {}

    def render(self):
        picture = np.full((32, 48, 3), 20, np.uint8)
        picture[:, : 6 * self.now + 4] = [250, 30 * self.now, 0]
        return picture

    def close(self):
        self.closed = True


class Blind(Painter):
    """Takes a render mode, and has none."""

    metadata: ClassVar = {"render_modes": []}


PAINTER, SLOW, BLIND = "tests/Painter-v0", "tests/SlowPainter-v0", "tests/Blind-v0"
for env_id, kind, options in ((PAINTER, Painter, {}), (SLOW, Painter, {"fps": 20}), (BLIND, Blind, {})):
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, kind, kwargs=options, disable_env_checker=True, order_enforce=False)


@pytest.fixture
def agent():
    Painter.made.clear()
    return TRPO(spaces=(spaces.Box(0, 10, (1,)), spaces.Discrete(2)), net_arch=(3,), seed=0)


def painted(frame):
    """The number of steps that a frame shows, from the width of what is painted."""
    row = np.asarray(frame, dtype=int)[16, :, 0]
    return round((np.sum(row > 130) - 4) / 6)


def gif_frames(path):
    Image = pytest.importorskip("PIL.Image", reason="GIFs are Pillow's")
    with Image.open(path) as image:
        found = []
        for i in range(image.n_frames):
            image.seek(i)
            found.append((painted(image.convert("RGB")), image.info["duration"]))
        return found


def video_frames(path):
    """Numbers of steps in the frames, and frames per second, from the program that moviepy writes with."""
    programs = pytest.importorskip("imageio_ffmpeg", reason="videos are moviepy's, and it brings this")
    command = [programs.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    [(width, height, fps)] = re.findall(r"Video: h264.*?, (\d+)x(\d+),.*?, (\d+) fps", done.stderr.decode())
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, int(height), int(width), 3)
    return [painted(picture) for picture in pictures], int(fps)


# --- GIF -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "shown", "duration"),
    [(PAINTER, [0, 2, 4, 6], 40), (SLOW, list(range(8)), 50)],
    ids=["50", "20"],
)
def test_a_gif_shows_the_episode_at_its_speed(env_id, shown, duration, agent, tmp_path):
    """At most some 25 frames a second, of which each is shown for its time."""
    pytest.importorskip("PIL", reason="GIFs are Pillow's")
    returns = render_episodes(agent, env_id, gif=tmp_path / "deeper" / "a.gif", seed=0)
    assert returns == [28.0]
    assert gif_frames(tmp_path / "deeper" / "a.gif") == [(n, duration) for n in shown]
    assert Painter.made[0].closed


def test_a_gif_shows_all_episodes_one_after_the_other(agent, tmp_path):
    pytest.importorskip("PIL", reason="GIFs are Pillow's")
    assert render_episodes(agent, SLOW, gif=tmp_path / "a.gif", episodes=2, max_steps=3) == [6.0, 6.0]
    assert [n for n, _ in gif_frames(tmp_path / "a.gif")] == [0, 1, 2, 3, 0, 1, 2, 3]


# --- video -----------------------------------------------------------------------------------------------


def test_a_video_shows_every_frame_of_the_episode(agent, tmp_path):
    pytest.importorskip("moviepy", reason="videos are moviepy's")
    assert render_episodes(agent, PAINTER, video=tmp_path / "deeper" / "a.mp4", seed=0) == [28.0]
    assert video_frames(tmp_path / "deeper" / "a.mp4") == (list(range(8)), 50)
    assert [path.name for path in (tmp_path / "deeper").iterdir()] == ["a.mp4"]


def test_each_episode_gets_a_video_numbered_from_the_second_on(agent, tmp_path):
    pytest.importorskip("moviepy", reason="videos are moviepy's")
    render_episodes(agent, PAINTER, video=tmp_path / "a.mp4", episodes=3, max_steps=2)
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "a-2.mp4", "a-3.mp4"}
    for path in tmp_path.iterdir():
        assert video_frames(path)[0] == [0, 1, 2]


def test_a_video_and_a_gif_of_the_same_episodes_replace_files_that_are_there(agent, tmp_path):
    pytest.importorskip("moviepy", reason="videos are moviepy's")
    pytest.importorskip("PIL", reason="GIFs are Pillow's")
    for name in ("a.mp4", "a.gif"):
        (tmp_path / name).write_text("old")
    render_episodes(agent, PAINTER, video=tmp_path / "a.mp4", gif=tmp_path / "a.gif")
    assert len(Painter.made) == 1
    assert video_frames(tmp_path / "a.mp4")[0] == list(range(8))
    assert [n for n, _ in gif_frames(tmp_path / "a.gif")] == [0, 2, 4, 6]


# --- the screen, and what is played ----------------------------------------------------------------------


def test_without_a_file_the_environment_shows_itself(agent):
    assert render_episodes(agent, PAINTER, episodes=2) == [28.0, 28.0]
    [env] = Painter.made
    assert env.render_mode == "human"
    assert env.shown == 16
    assert env.closed


@pytest.mark.parametrize("file", [{"video": "a.mp4"}, {"gif": "a.gif"}], ids=["video", "gif"])
def test_what_lacks_a_package_to_draw_with_says_so_and_writes_nothing(file, agent, tmp_path, monkeypatch):
    pytest.importorskip("moviepy", reason="videos are moviepy's")
    pytest.importorskip("PIL", reason="GIFs are Pillow's")

    def render(self):
        raise gymnasium.error.DependencyNotInstalled('run `pip install "gymnasium[classic-control]"`')

    monkeypatch.setattr(Painter, "render", render)
    [(kind, name)] = file.items()
    with pytest.raises(ModuleNotFoundError, match=r"can't be drawn: run `pip install \"npTRPO\[video\]\"`"):
        render_episodes(agent, PAINTER, **{kind: tmp_path / name})
    assert list(tmp_path.iterdir()) == []


def test_episodes_are_seeded_one_after_the_other(agent):
    render_episodes(agent, PAINTER, episodes=3, seed=5)
    render_episodes(agent, PAINTER, episodes=2)
    assert [env.seeds for env in Painter.made] == [[5, 6, 7], [None, None]]


@pytest.mark.parametrize("deterministic", [True, False])
def test_actions_are_the_likeliest_or_drawn(deterministic, agent):
    agent.theta[:] = 0  # indifferent
    render_episodes(agent, PAINTER, episodes=5, deterministic=deterministic)
    assert len(set(Painter.made[0].actions)) == (1 if deterministic else 2)


def test_returns_are_those_of_the_same_seeded_episodes_anywhere(tmp_path):
    pytest.importorskip("PIL", reason="GIFs are Pillow's")
    pytest.importorskip("pygame", reason="CartPole is drawn by pygame")
    trained = TRPO("MlpPolicy", "CartPole-v1", n_envs=4, n_steps=32, net_arch=(8,), seed=0).learn(128)
    env, expected = gymnasium.make("CartPole-v1"), []
    for seed in (0, 1):
        (observation, _), total, over = env.reset(seed=seed), 0.0, False
        while not over:
            action, _ = trained.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        expected.append(total)
    assert len(set(expected)) == 2
    found = render_episodes(trained, "CartPole-v1", episodes=2, seed=0, gif=tmp_path / "a.gif")
    assert found == expected
    # Pictures that are alike are one, which is shown for as long: 40 ms for each second step and first one.
    assert sum(duration for _, duration in gif_frames(tmp_path / "a.gif")) == 40 * ((sum(expected) + 3) // 2)


# --- what goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "option", "said"),
    [
        ("moviepy", "video", r'videos need moviepy: pip install "npTRPO\[video\]"'),
        ("PIL", "gif", r'GIFs need Pillow: pip install "npTRPO\[video\]"'),
    ],
)
def test_an_extra_that_is_missing_is_named_before_anything_is_played(
    package, option, said, agent, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    target = tmp_path / ("out.mp4" if option == "video" else "out.gif")
    with pytest.raises(ModuleNotFoundError, match=said):
        render_episodes(agent, PAINTER, **{option: target})
    assert not any(env.seeds for env in Painter.made)
    assert not list(tmp_path.iterdir())


def test_what_the_environment_draws_with_is_named_when_it_is_missing(tmp_path, monkeypatch, capsys):
    pytest.importorskip("PIL", reason="GIFs are Pillow's")
    for name in [name for name in sys.modules if name.split(".")[0] == "pygame"] or ["pygame"]:
        monkeypatch.setitem(sys.modules, name, None)
    trained = TRPO("MlpPolicy", "CartPole-v1", net_arch=(3,))
    trained.save(tmp_path / "cartpole")
    status = cli.main(["render", str(tmp_path / "cartpole.npz"), "--gif", str(tmp_path / "out.gif")])
    assert status == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "pygame is not installed" in err
    assert not (tmp_path / "out.gif").exists()


@pytest.mark.parametrize("env_id", [BLIND, registered(Counter)])
def test_an_environment_that_cannot_be_drawn_is_refused(env_id, agent, tmp_path):
    pytest.importorskip("PIL", reason="GIFs are Pillow's")
    with pytest.raises(ValueError, match=f"{env_id} can't be drawn"):
        render_episodes(agent, env_id, gif=tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_an_environment_with_other_spaces_is_refused_with_both(agent, tmp_path):
    with pytest.raises(ValueError, match=r"acts on Box\(0.0, 10.0.*but the environment has Box.*\(3,\)"):
        render_episodes(agent, "Pendulum-v1", video=tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option", [{"video": Path("a.gif")}, {"gif": Path("a.mp4")}, {"video": Path("a")}], ids=str
)
def test_a_file_of_another_kind_is_refused(option, agent):
    with pytest.raises(ValueError, match=r"the file must end in \.(mp4|gif)"):
        render_episodes(agent, PAINTER, **option)
    assert Painter.made == []


@pytest.mark.parametrize("option", ["video", "gif"])
def test_an_error_while_playing_leaves_no_file(option, agent, tmp_path, monkeypatch):
    pytest.importorskip("moviepy", reason="videos are moviepy's")

    def fail(self, action):
        self.now += 1
        if self.now == 3:
            raise RuntimeError("it broke")
        return self._see(), 0.0, False, False, {}

    monkeypatch.setattr(Painter, "step", fail)
    with pytest.raises(RuntimeError, match="it broke") as caught:
        render_episodes(agent, PAINTER, **{option: tmp_path / f"a.{'mp4' if option == 'video' else 'gif'}"})
    assert caught.value.__notes__ == ["in step 3 of a shown episode of environment 0"]
    assert not list(tmp_path.iterdir())
    assert Painter.made[0].closed


# --- without a display -----------------------------------------------------------------------------------


@pytest.fixture
def no_display(monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "MUJOCO_GL"):
        monkeypatch.setenv(variable, "")  # which is put back as it was
        monkeypatch.delenv(variable)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="variables tell only on Linux")


def rendered(tmp_path, *words):
    """The command in a process of its own, as what draws without a display is chosen once."""
    TRPO("MlpPolicy", "HalfCheetah-v5", net_arch=(3,), seed=0).save(tmp_path / "cheetah")
    words = ["render", tmp_path / "cheetah.npz", "--max-steps", "2", *words]
    command = [sys.executable, "-m", "npTRPO", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


@linux
@pytest.mark.parametrize("chosen", [None, "nonsense"])
def test_mujoco_draws_files_without_a_display_or_says_what_it_needs(
    chosen, no_display, tmp_path, monkeypatch
):
    pytest.importorskip("mujoco", reason="MuJoCo is an extra")
    pytest.importorskip("PIL", reason="GIFs are Pillow's")
    if chosen:
        monkeypatch.setenv("MUJOCO_GL", chosen)
    done = rendered(tmp_path, "--gif", tmp_path / "a.gif")
    if chosen is None and done.returncode == 0:
        frames = gif_frames(tmp_path / "a.gif")
        assert len(frames) == 3
        return
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("nptrpo: HalfCheetah-v5 can't be drawn: ")
    assert "MUJOCO_GL is egl, which needs libEGL (libegl1 in Debian), or osmesa" in last
    assert last.endswith(f"here it is {chosen or 'egl'}")


@linux
def test_without_a_display_mujoco_opens_no_window_and_ends_no_process(no_display, tmp_path):
    pytest.importorskip("mujoco", reason="MuJoCo is an extra")
    done = rendered(tmp_path)
    assert done.returncode == 1
    said = "HalfCheetah-v5 can't be shown: there is no display to open a window on"
    assert done.stderr.splitlines()[-1] == f"nptrpo: {said}; write a file with --gif or --video"


@linux
def test_a_window_that_nobody_sees_is_warned_of_and_a_file_needs_none(no_display, agent, tmp_path):
    pytest.importorskip("pygame", reason="it is what classic control draws with")
    pytest.importorskip("PIL", reason="GIFs are Pillow's")
    agent = TRPO("MlpPolicy", "CartPole-v1", net_arch=(3,), seed=0)
    with pytest.warns(RuntimeWarning, match=r"CartPole-v1 wasn't shown: there is no display.*--gif"):
        render_episodes(agent, "CartPole-v1", max_steps=2, seed=0)
    render_episodes(agent, "CartPole-v1", gif=tmp_path / "a.gif", max_steps=2, seed=0)
    assert len(gif_frames(tmp_path / "a.gif")) >= 1
