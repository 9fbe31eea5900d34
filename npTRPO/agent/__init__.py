"""The agent: training, acting, evaluating, and keeping what was learned."""

from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.evaluation import evaluate_policy
from npTRPO.agent.record import Callback, Record
from npTRPO.agent.trpo import TRPO
from npTRPO.files.errors import UnreadableFileError as CheckpointError

__all__ = ["TRPO", "Callback", "CheckpointError", "Record", "TRPOConfig", "evaluate_policy"]
