"""``nptrpo render``: show a saved agent at work, or record it."""

import argparse
import shlex

from npTRPO.cli.usage import UsageError, add_playing_flags, at_least, ending_in


def add_render_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_playing_flags(parser, "show it in this environment instead of its own", episodes=1)
    parser.add_argument("--video", type=ending_in(".mp4"), metavar="MP4", help="write a video instead")
    parser.add_argument("--gif", type=ending_in(".gif"), metavar="GIF", help="write a GIF instead")
    parser.add_argument("--max-steps", type=at_least(1), help="cut episodes after so many steps")


def render(options: argparse.Namespace) -> int:
    """Show episodes of a saved agent, and return the exit status."""
    from npTRPO.agent.trpo import TRPO
    from npTRPO.runs.rendering import render_episodes
    from npTRPO.sampling.environments import checked_env_id

    agent = TRPO.load(options.file)
    env_id = options.env or agent.env_id
    if env_id is None:
        raise UsageError("the agent wasn't trained on an environment with an id: name one with --env")
    if options.env is None:
        checked_env_id(env_id, f"name it yourself, with --env {shlex.quote(env_id)}")
    returns = render_episodes(
        agent,
        env_id,
        episodes=options.episodes,
        video=options.video,
        gif=options.gif,
        deterministic=not options.stochastic,
        seed=options.seed,
        max_steps=options.max_steps,
    )
    print("returns " + ", ".join(f"{total:.2f}" for total in returns))
    return 0
