"""The agent: training, acting, evaluating, and keeping what was learned."""

from npTRPO.agent.checkpoint import CheckpointError
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.evaluation import evaluate_policy
from npTRPO.agent.trpo import TRPO, Callback, Record

__all__ = ["TRPO", "Callback", "CheckpointError", "Record", "TRPOConfig", "evaluate_policy"]
