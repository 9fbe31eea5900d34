"""Episodes of an agent shown on the screen, as a video, or as a GIF."""

import contextlib
import importlib.util
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from npTRPO.agent.evaluation import actor_for
from npTRPO.agent.record import Agent
from npTRPO.files.writing import write_whole
from npTRPO.sampling.environments import check_spaces, missing_package_error
from npTRPO.sampling.stepping import Actor, Stepper
from npTRPO.sampling.vectors import SyncVector


def render_episodes(
    agent: Agent,
    env_id: str,
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
        envs = SyncVector(lambda: env, autoreset_mode=AutoresetMode.DISABLED)
        stack.callback(_close_quietly, envs)
        frames: list[Any] | None = None if gif is None else []
        actor = actor_for(agent, deterministic, seed)
        returns = []
        try:
            for i in range(episodes):
                of_episode = None if seed is None else seed + i
                stepper = Stepper(envs, agent.policy, of_episode, "a shown episode", one_episode=True)
                returns.append(_episode(stepper, actor, frames, max_steps))
        except gymnasium.error.DependencyNotInstalled as error:
            raise missing_package_error(f"{env_id} can't be drawn", error) from error
        if video is not None:
            envs.close()  # which writes the last episode
            _move_videos(Path(folder) / "episodes", video)
    if gif is not None and frames is not None:
        _write_gif(gif, frames, float(env.metadata.get("render_fps", 30)))
    return returns


def _drawn(env_id: str, render_mode: str) -> gymnasium.Env[Any, Any]:
    """Make the environment, if it can be drawn in that mode."""
    try:
        with warnings.catch_warnings():  # about the mode, which the error below names
            warnings.simplefilter("ignore", UserWarning)
            env: gymnasium.Env[Any, Any] = gymnasium.make(env_id, render_mode=render_mode)
    except gymnasium.error.DependencyNotInstalled as error:
        raise missing_package_error(f"{env_id} can't be drawn", error) from error
    except TypeError as error:
        raise ValueError(f"{env_id} can't be drawn: {error}") from error
    modes = env.metadata.get("render_modes", [])
    if render_mode not in modes:
        env.close()
        raise ValueError(f"{env_id} can't be drawn: it has no render mode {render_mode!r}, but {modes}")
    return env


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
