"""Environments in processes of their own, by public parts alone: policies go out, and batches come back."""

import multiprocessing

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from npTRPO import TRPO
from npTRPO.agent.learner import learn
from npTRPO.sampling import Batch, Sampler


def collect(pipe, policy, seed):
    """Answer each call of a sampler's ``collect`` with a batch of four environments; None ends it."""
    options = {"autoreset_mode": AutoresetMode.SAME_STEP}
    env = gymnasium.make_vec("CartPole-v1", 4, vectorization_mode="sync", vector_kwargs=options)
    sampler = Sampler(env, policy, seed)
    while (call := pipe.recv()) is not None:
        pipe.send(sampler.collect(*call))


def test_eight_environments_in_two_processes_learn_cartpole():
    agent = TRPO("MlpPolicy", "CartPole-v1", n_envs=8, seed=0)
    learner, context = agent.learner, multiprocessing.get_context("spawn")
    ends = [context.Pipe() for _ in range(2)]
    workers = [
        context.Process(target=collect, args=(theirs, agent.policy, seed))
        for seed, (_, theirs) in enumerate(ends)
    ]
    for worker in workers:
        worker.start()
    pipes = [ours for ours, _ in ends]
    lengths = []
    for update in range(16):
        for rank, pipe in enumerate(pipes):
            rng = np.random.default_rng((update, rank))
            pipe.send((learner.theta, 256, learner.observation_moments, rng))
        batch = Batch.concatenate([pipe.recv() for pipe in pipes])
        assert batch.rewards.shape == (256, 8)
        lengths.append(np.mean(batch.episodes.lengths))
        learner, _ = learn(agent.model, learner, batch, np.random.default_rng(update))
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(None)
        worker.join()
        assert worker.exitcode == 0
    # Poles fall after some twenty steps at random; a policy that has learned nothing never reaches a hundred.
    assert lengths[0] < 30
    assert lengths[-1] > 100
