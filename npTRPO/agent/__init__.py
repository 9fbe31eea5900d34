"""The agent: training, acting, evaluating, and keeping what was learned."""

from npTRPO.agent.checkpoint import CheckpointError
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.evaluation import evaluate_policy
from npTRPO.agent.record import Callback, Record
from npTRPO.agent.trpo import TRPO

__all__ = ["TRPO", "Callback", "CheckpointError", "Record", "TRPOConfig", "evaluate_policy"]
