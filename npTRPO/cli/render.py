"""``nptrpo render``: show a saved agent at work, or record it."""

import argparse

from npTRPO.cli.usage import add_playing_flags, at_least, ending_in, played


def add_render_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_playing_flags(parser, "show it in this environment instead of its own", episodes=1)
    parser.add_argument("--video", type=ending_in(".mp4"), metavar="MP4", help="write a video instead")
    parser.add_argument("--gif", type=ending_in(".gif"), metavar="GIF", help="write a GIF instead")
    parser.add_argument("--max-steps", type=at_least(1), help="end episodes after this many steps")


def render(options: argparse.Namespace) -> int:
    """Show episodes of a saved agent, and return the exit status."""
    from npTRPO.agent.trpo import TRPO
    from npTRPO.runs.rendering import render_episodes

    agent = TRPO.load(options.file)
    returns = render_episodes(
        agent,
        played(agent.maker, options),
        episodes=options.episodes,
        video=options.video,
        gif=options.gif,
        deterministic=not options.stochastic,
        seed=options.seed,
        max_steps=options.max_steps,
    )
    print("returns " + ", ".join(f"{total:.2f}" for total in returns))
    return 0
