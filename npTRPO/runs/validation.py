"""Validate an untrusted run directory before resuming it."""

from pathlib import Path

from npTRPO.agent.config import TRPOConfig
from npTRPO.files.errors import UnreadableFileError
from npTRPO.files.tables import column_until
from npTRPO.policies.mlp import MLP
from npTRPO.policies.policy import Policy
from npTRPO.sampling.environments import make_vector_env
from npTRPO.sampling.makers import EnvMaker

# Parameters of an agent that is made anew, as no checkpoint shows yet how many it has.
_MOST_PARAMETERS = 2**20
# What is written to in place, or through.
_WRITTEN = (".lock", "progress.csv", "evaluations.csv", "checkpoints")


def check_links(directory: Path) -> None:
    """Raise an error for a symbolic link in the place of a file or folder that a run writes to."""
    for path in (directory / name for name in _WRITTEN):
        if path.is_symlink():
            raise UnreadableFileError(f"{path} is a symbolic link, and a run is written through none")


def check_tables(directory: Path, n_updates: int) -> None:
    """Raise an error unless a run that has made ``n_updates`` updates can continue the tables."""
    for name, column in (("progress.csv", "time_elapsed"), ("evaluations.csv", "mean_return")):
        column_until(directory / name, column, "n_updates", n_updates)


def check_size(directory: Path, maker: EnvMaker, config: TRPOConfig) -> None:
    """Raise an error if a run that broke off before its first checkpoint asks for too large an agent."""
    envs = make_vector_env(maker, 1)
    try:
        policy = Policy.for_spaces(
            envs.single_observation_space, envs.single_action_space, config.policy_arch
        )
    finally:
        envs.close()
    n_parameters = policy.n_parameters + MLP((policy.n_features, *config.value_arch, 1)).n_parameters
    if n_parameters > _MOST_PARAMETERS:
        raise UnreadableFileError(
            f"{directory} has no checkpoint, and asks for {n_parameters} parameters: "
            f"begin again with --overwrite"
        )
