"""``nptrpo evaluate``: measure a saved agent's return."""

import argparse
import math

from npTRPO.cli.usage import add_playing_flags, played

# Not that of the evaluations in training, by which best.npz is chosen: its returns there are too good.
EVALUATION_SEED = 10_000


def add_evaluate_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_playing_flags(parser, "evaluate in this environment instead of its own", 100, EVALUATION_SEED)


def evaluate(options: argparse.Namespace) -> int:
    """Print a saved agent's return, and return the exit status."""
    from npTRPO.agent.evaluation import run_episodes
    from npTRPO.agent.trpo import TRPO

    agent = TRPO.load(options.file)
    returns, lengths = run_episodes(
        agent, played(agent.maker, options), options.episodes, not options.stochastic, seed=options.seed
    )
    error = returns.std(ddof=1) / math.sqrt(len(returns)) if len(returns) > 1 else math.nan
    print(
        f"return {returns.mean():.2f} ± {error:.2f} (standard error) over {len(returns)} episodes "
        f"(from {returns.min():.2f} to {returns.max():.2f}), mean length {lengths.mean():.1f} steps"
    )
    return 0
