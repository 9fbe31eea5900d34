import numpy as np
import pytest

from npTRPO import TRPO
from npTRPO.agent import Record


def test_halfcheetah_trains_with_finite_numbers_inside_the_trust_region():
    pytest.importorskip("mujoco", reason="HalfCheetah-v5 needs the mujoco extra")
    records: list[Record] = []
    agent = TRPO("MlpPolicy", "HalfCheetah-v5", seed=0).learn(20_000, callback=records.append)
    assert agent.num_timesteps >= 20_000
    assert np.all(np.isfinite(agent.theta))
    assert np.all(np.isfinite(agent.value_theta))
    improved = [record.update for record in records if record.update.outcome.name == "IMPROVED"]
    assert len(improved) >= len(records) // 2
    assert all(0 < update.kl <= agent.config.target_kl for update in improved)
    assert all(update.improvement > 0 for update in improved)
