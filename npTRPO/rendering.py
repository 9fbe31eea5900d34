"""Watching a policy: on the screen, as a video, as a GIF."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from npTRPO.agent.trpo import TRPO

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
    """
    for file, endings in ((video, (".mp4",)), (gif, (".gif",))):
        if file is not None and file.suffix not in endings:
            raise ValueError(f"the file must end in {endings[0]}, not {file.name!r}")
    try:
        env: gymnasium.Env[Any, Any] = gymnasium.make(
            env_id, render_mode="human" if video is None and gif is None else "rgb_array"
        )
    except gymnasium.error.DependencyNotInstalled as error:
        raise ModuleNotFoundError(f"{env_id} can't be drawn: {error}") from error
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "videos"
        if video is not None:
            try:
                env = gymnasium.wrappers.RecordVideo(env, str(folder), episode_trigger=lambda _: True)
            except gymnasium.error.DependencyNotInstalled as error:
                raise ModuleNotFoundError('videos need moviepy: pip install "npTRPO[video]"') from error
        frames: list[Any] | None = None if gif is None else []
        seeds = [None if seed is None else seed + i for i in range(episodes)]
        try:
            returns = [_episode(agent, env, frames, deterministic, each, max_steps) for each in seeds]
        finally:
            env.close()
        if video is not None:
            _move_videos(folder, video)
    if gif is not None and frames is not None:
        _write_gif(gif, frames, float(env.metadata.get("render_fps", 30)))
    return returns


def _move_videos(folder: Path, video: Path) -> None:
    """The first episode's video to the file asked for, the others beside it, numbered from 2."""
    video.parent.mkdir(parents=True, exist_ok=True)
    made = sorted(folder.glob("*.mp4"), key=lambda path: int(path.stem.rsplit("-", 1)[-1]))
    for i, path in enumerate(made, 1):
        shutil.move(str(path), video if i == 1 else video.with_stem(f"{video.stem}-{i}"))


def _episode(
    agent: TRPO,
    env: gymnasium.Env[Any, Any],
    frames: list[Any] | None,
    deterministic: bool,
    seed: int | None,
    max_steps: int | None,
) -> float:
    observation, _ = env.reset(seed=seed)
    total, steps, ended = 0.0, 0, False
    while not ended and (max_steps is None or steps < max_steps):
        if frames is not None:
            frames.append(env.render())
        action, _ = agent.predict(observation, deterministic=deterministic)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        steps += 1
        ended = terminated or truncated
    return total


def _write_gif(path: Path, frames: list[Any], fps: float) -> None:
    """Every second frame, so that a GIF, which has no more than 50 a second, shows the right speed."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('GIFs need Pillow: pip install "npTRPO[video]"') from error
    step = max(1, round(fps / 25))
    images = [Image.fromarray(np.asarray(frame)) for frame in frames[::step]]
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(
        path,
        save_all=True,
        append_images=images[1:],
        duration=round(1000 * step / fps),
        loop=0,
        optimize=True,
    )
