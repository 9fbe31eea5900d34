"""Experience: batches from vector environments, advantages, and normalisation."""

from npTRPO.sampling.advantages import gae
from npTRPO.sampling.batch import Batch, Episodes
from npTRPO.sampling.normalization import Moments, RewardScale
from npTRPO.sampling.rollout import Sampler

__all__ = ["Batch", "Episodes", "Moments", "RewardScale", "Sampler", "gae"]
