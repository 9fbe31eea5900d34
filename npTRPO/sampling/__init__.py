"""Experience: batches from vector environments, advantages, and normalisation."""

from npTRPO.sampling.advantages import gae
from npTRPO.sampling.normalization import Moments, RewardScale
from npTRPO.sampling.rollout import Batch, Episodes, Sampler

__all__ = ["Batch", "Episodes", "Moments", "RewardScale", "Sampler", "gae"]
