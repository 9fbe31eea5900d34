"""Episodes of an agent shown on the screen, as a video, or as a GIF."""

import contextlib
import importlib.util
import os
import sys
import tempfile
import warnings
from pathlib import Path
from traceback import extract_tb
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from npTRPO.agent.evaluation import actor_for
from npTRPO.agent.record import Agent
from npTRPO.files.errors import reason
from npTRPO.files.writing import write_whole
from npTRPO.sampling.actor import Actor
from npTRPO.sampling.environments import EnvLike, check_spaces, missing_package_error
from npTRPO.sampling.makers import EnvMaker
from npTRPO.sampling.stepping import Stepper
from npTRPO.sampling.vectors import SyncVector


def render_episodes(
    agent: Agent,
    env: EnvLike,
    *,
    episodes: int = 1,
    video: Path | None = None,
    gif: Path | None = None,
    deterministic: bool = True,
    seed: int | None = None,
    max_steps: int | None = None,
) -> list[float]:
    """Run whole episodes, show them, and return their undiscounted returns.

    Parameters
    ----------
    agent : TRPO
        The agent that acts.
    env : str, EnvSpec, callable or EnvMaker
        Makes the environment to show, given a ``render_mode``.
    episodes : int
        How many.
    video : path, optional
        MP4 file to write instead of opening a window (needs the ``video`` extra); episodes after the
        first go to files numbered from 2.
    gif : path, optional
        GIF file to write instead (needs the ``video`` extra).
    deterministic : bool
        Take the most probable actions.
    seed : int, optional
        Seed of the first episode.
    max_steps : int, optional
        Cut each episode after so many steps.

    Raises
    ------
    ModuleNotFoundError
        Without the extra, or without what the environment draws with.
    ValueError
        If the environment can't be drawn, or its spaces aren't the agent's; the message names both.
    RuntimeError
        If MuJoCo can't draw without a display; the message says what it needs.

    Warns
    -----
    RuntimeWarning
        If an environment has drawn on no display, where nobody has seen it.

    Notes
    -----
    Files are written without a display, too: MUJOCO_GL is then set to egl and SDL_VIDEODRIVER to dummy,
    unless they are set.
    """
    for file, ending in ((video, ".mp4"), (gif, ".gif")):
        if file is not None and file.suffix != ending:
            raise ValueError(f"the file must end in {ending}, not {file.name!r}")
    if gif is not None and importlib.util.find_spec("PIL") is None:
        raise ModuleNotFoundError('GIFs need Pillow: pip install "npTRPO[video]"')
    maker = EnvMaker.of(env)
    if maker is None:
        raise TypeError(f"{type(env).__name__} is made already: give its id, or its class, to be drawn")
    drawn = _drawn(maker, "human" if video is None and gif is None else "rgb_array")
    with contextlib.ExitStack() as stack:
        stack.callback(drawn.close)
        check_spaces(agent.policy, drawn)
        if video is not None:
            # Beside the target, so that each video can be moved there in one go.
            video.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=video.parent, prefix=".video-"))
            drawn = _recorded(drawn, Path(folder) / "episodes")
        envs = SyncVector(lambda: drawn, autoreset_mode=AutoresetMode.DISABLED)
        stack.callback(_close_quietly, envs)
        frames: list[Any] | None = None if gif is None else []
        actor = actor_for(agent, deterministic, seed)
        returns = []
        try:
            for i in range(episodes):
                of_episode = None if seed is None else seed + i
                stepper = Stepper(envs, agent.policy, of_episode, "a shown episode", one_episode=True)
                returns.append(_episode(stepper, actor, frames, max_steps))
                if i == 0 and drawn.render_mode == "human":
                    _warn_if_unseen(maker)
        except gymnasium.error.DependencyNotInstalled as error:
            raise missing_package_error(f"{maker} can't be drawn", error) from error
        if video is not None:
            envs.close()  # which writes the last episode
            _move_videos(Path(folder) / "episodes", video)
    if gif is not None and frames is not None:
        _write_gif(gif, frames, float(drawn.metadata.get("render_fps", 30)))
    return returns


def _drawn(maker: EnvMaker, render_mode: str) -> gymnasium.Env[Any, Any]:
    """Make the environment, if it can be drawn in that mode."""
    if render_mode == "rgb_array" and _no_display():
        os.environ.update({name: value for name, value in _OFF_SCREEN.items() if not os.environ.get(name)})
    try:
        with warnings.catch_warnings():  # about the mode, which the error below names
            warnings.simplefilter("ignore", UserWarning)
            env: gymnasium.Env[Any, Any] = maker(render_mode=render_mode)
            if render_mode == "rgb_array" and _is_mujoco(type(env.unwrapped).__mro__):
                env.unwrapped.render()  # which begins no episode
    except gymnasium.error.DependencyNotInstalled as error:
        raise missing_package_error(f"{maker} can't be drawn", error) from error
    except TypeError as error:
        raise ValueError(f"{maker} can't be drawn: {error}") from error
    except Exception as error:  # of many kinds, by what of OpenGL is missing
        if not any("mujoco" in Path(frame.filename).parts for frame in extract_tb(error.__traceback__)):
            raise
        raise RuntimeError(
            f"{maker} can't be drawn: {reason(error)}; without a display, MuJoCo draws where MUJOCO_GL is "
            f"egl, which needs libEGL (libegl1 in Debian), or osmesa, which needs libOSMesa (libosmesa6), "
            f"and here it is {os.environ.get('MUJOCO_GL', 'not set')}"
        ) from error
    modes = env.metadata.get("render_modes", [])
    if render_mode not in modes:
        env.close()
        raise ValueError(f"{maker} can't be drawn: it has no render mode {render_mode!r}, but {modes}")
    if render_mode == "human" and _no_display() and _is_mujoco(type(env.unwrapped).__mro__):
        env.close()  # as drawing would abort the process
        raise ValueError(f"{maker} can't be shown: {_NOTHING_SEEN}")
    return env


_OFF_SCREEN = {"MUJOCO_GL": "egl", "SDL_VIDEODRIVER": "dummy"}
"""What makes MuJoCo and pygame draw pictures without a display."""

_NOTHING_SEEN = "there is no display to open a window on; write a file with --gif or --video"


def _no_display() -> bool:
    """Return whether there is nothing to open a window on, as variables tell where X or Wayland is used."""
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.platform.startswith("linux") and not shown


def _is_mujoco(kinds: tuple[type, ...]) -> bool:
    """Return whether one of an environment's classes is Gymnasium's for MuJoCo."""
    return any(kind.__module__.startswith("gymnasium.envs.mujoco.") for kind in kinds)


def _warn_if_unseen(maker: EnvMaker) -> None:
    """Warn of a window that pygame has opened where there is none to be seen, unless it was told to."""
    pygame = sys.modules.get("pygame")
    if pygame is None or os.environ.get("SDL_VIDEODRIVER") or not pygame.display.get_init():
        return
    if pygame.display.get_driver() in ("offscreen", "dummy"):
        warnings.warn(f"{maker} wasn't shown: {_NOTHING_SEEN}", RuntimeWarning, stacklevel=3)


def _recorded(env: gymnasium.Env[Any, Any], folder: Path) -> gymnasium.Env[Any, Any]:
    """Wrap the environment so that each of its episodes becomes a video in the folder."""
    try:
        return gymnasium.wrappers.RecordVideo(env, str(folder), episode_trigger=lambda _: True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ModuleNotFoundError('videos need moviepy: pip install "npTRPO[video]"') from error


def _close_quietly(envs: SyncVector) -> None:
    """Close a recorded environment without its warning of nothing to write, as an error has told why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        envs.close()


def _move_videos(folder: Path, video: Path) -> None:
    """Move the first episode's video to the file asked for, the others beside it, numbered from 2."""
    made = sorted(folder.glob("*.mp4"), key=lambda path: int(path.stem.rsplit("-", 1)[-1]))
    for i, path in enumerate(made, 1):
        os.replace(path, video if i == 1 else video.with_stem(f"{video.stem}-{i}"))


def _episode(stepper: Stepper, actor: Actor, frames: list[Any] | None, max_steps: int | None) -> float:
    """Run an episode to its end, append its frames to the list if there is one, and return its return."""
    total, taken, ended = 0.0, 0, False
    while True:
        if frames is not None:
            frames.extend(stepper.env.render() or ())
        if ended or taken == max_steps:
            return total
        step = stepper.advance(actor, 1)
        total, taken = total + float(step.rewards[0, 0]), taken + 1
        ended = bool(step.terminated[0, 0] or step.truncated[0, 0])


def _write_gif(path: Path, frames: list[Any], fps: float) -> None:
    """Write about 25 frames of each second, as a GIF can't show many more at the right speed."""
    from PIL import Image

    step = max(1, round(fps / 25))
    images = [Image.fromarray(np.asarray(frame)) for frame in frames[::step]]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(
        path,
        lambda file: images[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=round(1000 * step / fps),
            loop=0,
            optimize=True,
        ),
    )
