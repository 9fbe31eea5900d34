"""Watching a policy: on the screen, as a video, as a GIF."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from npTRPO.agent.trpo import TRPO
from npTRPO.files.writing import write_whole
from npTRPO.sampling.environments import check_spaces, missing

__all__ = ["render_episodes"]


def render_episodes(
    agent: TRPO,
    env_id: str,
    *,
    episodes: int = 1,
    video: Path | None = None,
    gif: Path | None = None,
    deterministic: bool = True,
    seed: int | None = None,
    max_steps: int | None = None,
) -> list[float]:
    """Run whole episodes and show them; returns their undiscounted returns.

    Parameters
    ----------
    agent : TRPO
        The agent that acts.
    env_id : str
        Environment to show.
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
    """
    for file, ending in ((video, ".mp4"), (gif, ".gif")):
        if file is not None and file.suffix != ending:
            raise ValueError(f"the file must end in {ending}, not {file.name!r}")
    if gif is not None and importlib.util.find_spec("PIL") is None:
        raise ModuleNotFoundError('GIFs need Pillow: pip install "npTRPO[video]"')
    env = _drawn(env_id, "human" if video is None and gif is None else "rgb_array")
    with contextlib.ExitStack() as stack:
        stack.callback(env.close)
        check_spaces(agent.policy, env)
        if video is not None:
            # Beside the target, so that each video can be moved there in one go.
            video.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=video.parent, prefix=".video-"))
            env = _recorded(env, Path(folder) / "episodes")
            stack.callback(_closed_quietly, env)
        frames: list[Any] | None = None if gif is None else []
        seeds = [None if seed is None else seed + i for i in range(episodes)]
        try:
            returns = [_episode(agent, env, frames, deterministic, each, max_steps) for each in seeds]
        except gymnasium.error.DependencyNotInstalled as error:
            raise missing(f"{env_id} can't be drawn", error) from error
        if video is not None:
            env.close()  # which writes the last episode
            _move_videos(Path(folder) / "episodes", video)
    if gif is not None and frames is not None:
        _write_gif(gif, frames, float(env.metadata.get("render_fps", 30)))
    return returns


def _drawn(env_id: str, render_mode: str) -> gymnasium.Env[Any, Any]:
    """The environment, if it can be drawn so."""
    try:
        with warnings.catch_warnings():  # about the mode, of which the error will tell
            warnings.simplefilter("ignore", UserWarning)
            env: gymnasium.Env[Any, Any] = gymnasium.make(env_id, render_mode=render_mode)
    except gymnasium.error.DependencyNotInstalled as error:
        raise missing(f"{env_id} can't be drawn", error) from error
    except TypeError as error:
        raise ValueError(f"{env_id} can't be drawn: {error}") from error
    modes = env.metadata.get("render_modes", [])
    if render_mode not in modes:
        env.close()
        raise ValueError(f"{env_id} can't be drawn: it has no render mode {render_mode!r}, but {modes}")
    return env


def _recorded(env: gymnasium.Env[Any, Any], folder: Path) -> gymnasium.Env[Any, Any]:
    """The environment, each episode of which becomes a video in the folder."""
    try:
        return gymnasium.wrappers.RecordVideo(env, str(folder), episode_trigger=lambda _: True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ModuleNotFoundError('videos need moviepy: pip install "npTRPO[video]"') from error


def _closed_quietly(env: gymnasium.Env[Any, Any]) -> None:
    """Close a recorded environment, that warns if it has nothing to write: an error has told why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        env.close()


def _move_videos(folder: Path, video: Path) -> None:
    """The first episode's video to the file asked for, the others beside it, numbered from 2."""
    made = sorted(folder.glob("*.mp4"), key=lambda path: int(path.stem.rsplit("-", 1)[-1]))
    for i, path in enumerate(made, 1):
        os.replace(path, video if i == 1 else video.with_stem(f"{video.stem}-{i}"))


def _episode(
    agent: TRPO,
    env: gymnasium.Env[Any, Any],
    frames: list[Any] | None,
    deterministic: bool,
    seed: int | None,
    max_steps: int | None,
) -> float:
    def watch() -> None:
        if frames is not None:
            frames.append(env.render())

    observation, _ = env.reset(seed=seed)
    watch()
    total, steps, ended = 0.0, 0, False
    while not ended and (max_steps is None or steps < max_steps):
        action, _ = agent.predict(observation, deterministic=deterministic)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        steps += 1
        ended = terminated or truncated
        watch()
    return total


def _write_gif(path: Path, frames: list[Any], fps: float) -> None:
    """Some 25 frames of each second, as a GIF can't show many more at the right speed."""
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
