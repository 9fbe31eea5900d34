"""States weighed by γᵗ (E10) or by their visits (E56)."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from npTRPO import TRPO, FisherOperator
from npTRPO.agent.experience import discounted
from npTRPO.sampling import Sampler
from npTRPO.trust_region.objective import PolicyObjective
from npTRPO.trust_region.parts import Parts, PartsObjective
from tests.environments import counters, vectorized


class TenSteps(gymnasium.Env):
    """Action 1 pays +1 in the first of ten steps and −½ in the others, action 0 pays nothing."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        reward = (1.0 if self.t == 0 else -0.5) * float(action)
        self.t += 1
        return np.ones(1, np.float32), reward, self.t == 10, False, {}


@pytest.mark.parametrize(("discounted_states", "optimum"), [(False, 0.0), (True, 513 / 1024)])
def test_e10_e56_visits_may_point_against_the_discounted_return(discounted_states, optimum):
    """γ = ½: J = p (1 − ½ Σ_{t=1}^9 2⁻ᵗ) = 513/1024 p, where p is the probability of action 1."""
    agent = TRPO(
        *("MlpPolicy", TenSteps()),
        discounted_states=discounted_states,
        gamma=0.5,
        n_steps=500,
        net_arch=(8,),
        target_kl=0.05,
        seed=3,
    ).learn(20_000)
    p = agent.act(np.ones((4000, 1), np.float32)).mean()
    assert abs(p * 513 / 1024 - optimum) < 0.005


def test_steps_within_episodes_count_on_across_batches_and_from_0_after_a_reset():
    envs = vectorized(counters(2, (3, 4), ("truncated", "terminated")), AutoresetMode.NEXT_STEP)
    agent = TRPO("MlpPolicy", envs, net_arch=(4,), seed=0)
    sampler, rng = Sampler(envs, agent.policy, 0), np.random.default_rng(0)
    batches = [sampler.collect(agent.theta, n, None, rng) for n in (2, 5, 1, 6)]
    for i in range(2):
        t = 0
        for batch in batches:
            for time, valid, ended in zip(
                batch.times[:, i], batch.valid[:, i], batch.ended[:, i], strict=True
            ):
                if valid:
                    assert time == t
                    t = 0 if ended else t + 1
        assert t != sum(len(batch.times) for batch in batches)


def test_weights_are_powers_of_gamma_however_late_in_the_episode():
    for times, first, gamma, weights, total in [
        ([0, 1, 3], 0, 0.5, [8 / 13, 4 / 13, 1 / 13], 13 / 8),
        ([5001, 5000], 5000, 0.5, [1 / 3, 2 / 3], 1.5),
        ([5001, 5000], 4998, 0.5, [1 / 3, 2 / 3], 1.5 / 4),
        ([5001, 5000], 0, 0.5, [1 / 3, 2 / 3], 0),  # beside those of other environments, where γ⁰ is 1
        ([0, 1, 0], 0, 0.0, [0.5, 0, 0.5], 2),
        ([4, 5, 4], 0, 0.0, [0.5, 0, 0.5], 0),
    ]:
        found, found_total = discounted(np.array(times), gamma, first)
        np.testing.assert_allclose(found, weights, rtol=1e-15)
        assert found_total == total


def test_states_of_the_fisher_information_that_all_weigh_nothing_count_equally():
    """As they may, in a sub-sample."""
    agent = TRPO("MlpPolicy", "CartPole-v1", net_arch=(4,), seed=0, dtype="float64")
    rng, policy, theta = np.random.default_rng(0), agent.policy, agent.theta
    states, actions, weights = rng.normal(size=(9, 4)), rng.integers(2, size=9), np.tile([0, 1, 1], 3) / 6
    alone = PolicyObjective(
        *(policy, theta, states, actions, rng.normal(size=9)), weights=weights, sub_sampling_factor=3
    )
    in_parts = PartsObjective(
        Parts.of(alone), [alone.model()], policy.network, theta, damping=0.1, preconditioner="identity"
    )
    expected = FisherOperator(policy, theta, states[::3], damping=0.1) @ theta
    for objective in (alone, in_parts):
        F, _ = objective.system()
        np.testing.assert_allclose(F @ theta, expected, rtol=1e-12)
