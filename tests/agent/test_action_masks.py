"""Agents in environments that say which actions are allowed."""

import copy
from functools import partial

import gymnasium
import numpy as np
import pytest
import scipy.special
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from npTRPO import TRPO, evaluate_policy
from npTRPO.agent.learner import learn
from npTRPO.sampling import Batch, Sampler
from tests.environments import forks, in_both_modes, vectorized

QUICK = {"n_steps": 16, "net_arch": (4,), "seed": 0}


class Few(gymnasium.Env):
    """Shows what each of five allowed actions of fifty pays, and raises an error for any other.

    Parameters
    ----------
    form : str
        "key" for a mask in the observations, "method" for one by ``action_masks()``.
    length : int
        Of an episode; nothing is allowed after it.
    lenient : bool
        Whether a forbidden action pays −1 instead.
    flaw : dict, optional
        From the number of a step, 0 for the reset, to the mask that is shown there.
    """

    action_space = spaces.Discrete(50)

    def __init__(self, form="method", length=10, lenient=False, flaw=None):
        self.form, self.length, self.lenient, self.flaw = form, length, lenient, flaw or {}
        self.observation_space = spaces.Box(0, 1, (50,))
        if form == "key":
            parts = {"action_mask": spaces.MultiBinary(50), "pays": self.observation_space}
            self.observation_space = spaces.Dict(parts)
        self.steps, self.diary = -1, []

    def action_masks(self):
        assert self.form == "method"
        return self.flaw.get(self.steps, self.mask)

    def show(self):
        self.steps += 1
        self.mask, self.pays = np.zeros(50, bool), np.zeros(50, np.float32)
        if self.now < self.length:
            allowed = self.np_random.choice(50, 5, replace=False)
            self.mask[allowed], self.pays[allowed] = True, self.np_random.permutation(5) / 4
        if self.form != "key":
            return self.pays
        return {"pays": self.pays, "action_mask": self.flaw.get(self.steps, self.mask).astype(np.int8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return self.show(), {}

    def step(self, action):
        if not self.mask[action] and not self.lenient:
            raise RuntimeError(f"{action} is forbidden")
        self.diary.append(self.mask)
        reward = float(self.pays[action]) if self.mask[action] else -1.0
        self.now += 1
        return self.show(), reward, self.now == self.length, False, {}


def few(n=2, mode=AutoresetMode.SAME_STEP, **options):
    return vectorized([lambda: Few(**options)] * n, mode)


def agent_in(env, **options):
    return TRPO("MultiInputPolicy", env, **{**QUICK, "mask_actions": True, **options})


@in_both_modes
@pytest.mark.parametrize("form", ["key", "method"])
def test_no_forbidden_action_is_taken_and_batches_have_the_masks(form, mode):
    """The environment raises an error for one; in the state after an episode's end nothing is allowed."""
    envs = few(3, mode, form=form, length=4)
    agent = agent_in(envs)
    batch = Sampler(envs, agent.policy, 0).collect(agent.theta, 30, None, np.random.default_rng(0))
    assert batch.masks.shape == (30, 3, 50)
    assert batch.observations.shape == (30, 3, 50)
    for i, env in enumerate(envs.envs):
        np.testing.assert_array_equal(batch.masks[batch.valid[:, i], i], env.diary)
        assert batch.masks[np.arange(30), i, batch.actions[:, i]].all()
    assert agent_in(few(2, mode, form=form, length=4)).learn(96).n_updates == 3


def test_a_mask_in_the_observations_and_one_by_a_method_are_the_same_to_the_bit():
    agents = [agent_in(few(form=form)).learn(128) for form in ("key", "method")]
    assert agents[0].theta.tobytes() == agents[1].theta.tobytes()
    assert agents[0].value_theta.tobytes() == agents[1].value_theta.tobytes()
    assert agents[0].observation_moments.mean.shape == (50,)
    scores = [
        evaluate_policy(agent, Few(form), 5, seed=0)
        for agent, form in zip(agents, ("key", "method"), strict=True)
    ]
    assert scores[0] == scores[1]
    assert scores[0][0] > 0


@forks
def test_masks_come_from_other_processes_wrappers_and_vectors_that_have_their_own():
    class Own(VectorEnv):
        def __init__(self):
            self.inner = few()
            self.num_envs, self.metadata = 2, {"autoreset_mode": AutoresetMode.SAME_STEP}
            self.single_observation_space = self.inner.single_observation_space
            self.single_action_space = self.inner.single_action_space
            self.reset, self.step = self.inner.reset, self.inner.step

        def action_masks(self):
            return np.stack([env.unwrapped.action_masks() for env in self.inner.envs])

    class Wrapped(gymnasium.vector.VectorWrapper):
        pass

    limited = [lambda: gymnasium.wrappers.TimeLimit(Few(), 50)] * 2
    mode = AutoresetMode.SAME_STEP
    asynchronous = AsyncVectorEnv([Few] * 2, autoreset_mode=mode)
    try:
        every = [few(), asynchronous, SyncVectorEnv(limited, autoreset_mode=mode), Own(), Wrapped(Own())]
        first, *others = [agent_in(envs).learn(64).theta.tobytes() for envs in every]
    finally:
        asynchronous.close()
    assert others == [first] * 4


@forks
@pytest.mark.parametrize("form", [pytest.param("key", marks=pytest.mark.slow), "method"])
def test_shards_and_workers_have_their_masks(form):
    """The environment raises an error for an action that another's mask allows."""
    gymnasium.register("tests/Few-v0", partial(Few, form), disable_env_checker=True)
    try:
        agents = [agent_in("tests/Few-v0", n_envs=4, n_shards=2, workers=workers) for workers in (None, 2)]
        one, other = (agent.learn(64).theta.tobytes() for agent in agents)
        assert one == other
    finally:
        for agent in agents:
            agent.env.close()
        del gymnasium.registry["tests/Few-v0"]


def test_a_single_environment_has_masks_too():
    assert agent_in(Few()).learn(32).n_updates == 2


class Twins(gymnasium.Env):
    """Two choices, of three and of two; all is allowed but the first of each, by a flat mask."""

    observation_space, action_space = spaces.Box(0, 1, (1,)), spaces.MultiDiscrete([3, 2])

    def action_masks(self):
        return np.array([False, True, True, False, True])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert action[0] in (1, 2)
        assert action[1] == 1
        return np.zeros(1, np.float32), float(action[0]), True, False, {}


def test_the_mask_of_several_choices_is_flat():
    agent = agent_in(Twins(), n_steps=64).learn(1280)
    actions, _ = agent.predict(np.zeros((5, 1)), deterministic=True, action_masks=[[0, 1, 1, 0, 1]] * 5)
    np.testing.assert_array_equal(actions, [[2, 1]] * 5)


# --- learning -----------------------------------------------------------------------------------------


def returns(masked, seed, steps):
    envs = few(8, lenient=True)
    agent = TRPO("MlpPolicy", envs, mask_actions=masked, seed=seed).learn(steps)
    return evaluate_policy(agent, Few(lenient=True), 20, deterministic=False, seed=1)[0]


def test_with_masks_learning_begins_where_it_ends_without():
    """Of fifty actions five are allowed: they pay ½ in the mean, at ten steps 5, and the others −1."""
    masked, unmasked = returns(True, 0, 6144), returns(False, 0, 6144)
    assert masked > 5
    assert unmasked < -5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_with_masks_more_is_learned(seed):
    masked, unmasked = returns(True, seed, 40_000), returns(False, seed, 40_000)
    assert masked > 7.5
    assert unmasked < 2


def test_an_update_is_that_of_the_masked_policy():
    """The KL that is reported is the mean over states of the sum over the allowed actions, by definition."""
    envs = few(4)
    agent = agent_in(envs, n_steps=64, dtype="float64", normalize_observations=False)
    batch = Sampler(envs, agent.policy, 0).collect(agent.theta, 64, None, np.random.default_rng(0))
    learner, update = learn(agent.model, agent.learner, batch, np.random.default_rng(0))
    rows, masks = batch.observations.reshape(-1, 50), batch.masks.reshape(-1, 50)
    old, new = (agent.policy.network(theta, rows) for theta in (agent.theta, learner.theta))
    kl, entropy = [], []
    for z, z_new, mask in zip(old, new, masks, strict=True):
        log_p, log_q = scipy.special.log_softmax(z[mask]), scipy.special.log_softmax(z_new[mask])
        kl.append(np.sum(np.exp(log_p) * (log_p - log_q)))
        entropy.append(-np.sum(np.exp(log_p) * log_p))
    assert 1e-4 < update.kl <= agent.config.target_kl
    np.testing.assert_allclose(update.kl, np.mean(kl), rtol=1e-10)
    np.testing.assert_allclose(update.entropy, np.mean(entropy), rtol=1e-12)


# --- acting ---------------------------------------------------------------------------------------------


def test_predict_takes_masks_for_one_observation_or_a_batch():
    agent = agent_in(few())
    rng = np.random.default_rng(0)
    masks = rng.random((40, 50)) < 0.1
    masks[:, 7] = True
    observations = rng.uniform(size=(40, 50))
    for deterministic in (True, False):
        actions, _ = agent.predict(observations, deterministic=deterministic, action_masks=masks)
        assert masks[np.arange(40), actions].all()
        only = np.arange(50) == 33
        assert agent.predict(observations[0], deterministic=deterministic, action_masks=only)[0] == 33
    assert len({int(agent.predict(observations[0])[0]) for _ in range(200)}) > 30  # all are allowed


def test_predict_takes_the_mask_from_the_observation():
    agent = agent_in(few(form="key"))
    only = (np.arange(50) == 12).astype(np.int8)
    observation = {"pays": np.zeros(50, np.float32), "action_mask": only}
    assert agent.predict(observation)[0] == 12
    assert agent.predict(observation, action_masks=np.arange(50) == 13)[0] == 13


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        (np.ones(49), r"observation 0 has an action mask of shape \(49,\), not \(50,\)"),
        (np.zeros(50), "observation 0 allows no action"),
    ],
)
def test_predict_refuses_masks_that_cannot_be_used(masks, said):
    agent = agent_in(few())
    with pytest.raises(ValueError, match=said):
        agent.predict(np.zeros(50), action_masks=masks)
    with pytest.raises(ValueError, match="there are 3 action_masks for 2 observations"):
        agent.predict(np.zeros((2, 50)), action_masks=np.ones((3, 50)))
    usual = TRPO("MlpPolicy", few(), **QUICK)
    with pytest.raises(ValueError, match="agents that are made with mask_actions=True"):
        usual.predict(np.zeros(50), action_masks=np.ones(50))


def test_a_file_keeps_that_actions_are_masked(tmp_path):
    agent = agent_in(few(form="key")).learn(32)
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent", env=few(form="key"))
    copied = copy.deepcopy(agent)
    copied.set_env(few(form="key"))
    for other in (loaded, copied):
        assert other.config.mask_actions
        assert other.learn(32).n_updates == 2  # counted from the first
    with pytest.raises(TypeError, match="mask_actions can't be changed"):
        TRPO.load(tmp_path / "agent", mask_actions=False)


def test_joined_batches_have_all_masks_and_none_join_those_without():
    batches = []
    for masked in (True, True, False):
        envs = few(lenient=True)
        agent = agent_in(envs, mask_actions=masked)
        sampler = Sampler(envs, agent.policy, 0)
        batches.append(sampler.collect(agent.theta, 4, None, np.random.default_rng(0)))
    joined = Batch.concatenate(batches[:2])
    np.testing.assert_array_equal(joined.masks[:, 2:], batches[1].masks)
    with pytest.raises(ValueError, match="numbers of masked actions can't be joined: 50 and 0"):
        Batch.concatenate(batches)


# --- what goes wrong ------------------------------------------------------------------------------------


@in_both_modes
@pytest.mark.parametrize("form", ["key", "method"])
@pytest.mark.parametrize("at", [0, 3])
def test_a_state_where_nothing_is_allowed_is_named(form, mode, at):
    flaw = {at: np.zeros(50, bool)}
    envs = vectorized([lambda: Few(form), lambda: Few(form, flaw=flaw)], mode)
    said = f"environment 1 allows no action at its step {at}; nothing was learned from this batch"
    agent = agent_in(envs)
    before = agent.theta.copy()
    with pytest.raises(ValueError, match=said):
        agent.learn(32)
    np.testing.assert_array_equal(agent.theta, before)
    said = f"environment 0 allows no action in .*{at or 'reset'} of an evaluation"
    with pytest.raises(ValueError, match=said):
        evaluate_policy(agent, Few(form, flaw=flaw), 1)


@pytest.mark.parametrize("at", [0, 3])
def test_a_mask_of_the_wrong_shape_is_named(at):
    envs = vectorized([Few, lambda: Few(flaw={at: np.ones(49, bool)})])
    said = rf"environment 1 has an action mask of shape \(49,\), not \(50,\) at its step {at}"
    with pytest.raises(ValueError, match=said):
        agent_in(envs).learn(32)


def test_a_mask_in_the_observations_that_does_not_keep_to_its_space_is_named():
    with pytest.raises(ValueError, match=r"shape|size") as caught:
        agent_in(Few("key", flaw={3: np.ones(49, bool)})).learn(32)
    assert "step 3" in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))


def test_environments_without_masks_are_told_how_to_have_them():
    for env in ("CartPole-v1", "Acrobot-v1"):  # the first has a vector of its own
        with pytest.raises(ValueError, match=r"needs an action_mask in Dict .* has no .*'action_masks'"):
            agent_in(env, n_envs=2).learn(32)


def test_an_error_in_action_masks_is_said_with_environment_and_step():
    class Broken(Few):
        def action_masks(self):
            return {}["no such key"]

    with pytest.raises(KeyError) as caught:
        agent_in(Broken()).learn(32)
    assert "in reset of environment 0" in "".join(caught.value.__notes__)
