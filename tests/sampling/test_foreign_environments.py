"""What environments and vectors of other people's do: infos of any kind, memory used again, old habits."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper

from npTRPO import TRPO, evaluate_policy
from npTRPO.sampling import Sampler
from npTRPO.sampling.environments import make_vector_env
from npTRPO.sampling.vectors import SyncVector
from tests.environments import Counter, counters, vectorized


class Informed(gymnasium.Env):
    """Three steps an episode, with infos of its own; module-level, so that it can be made in a process."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    made = 0

    def __init__(self, infos):
        self.infos = infos[Informed.made % len(infos)]
        Informed.made += 1

    def reset(self, *, seed=None, options=None):
        self.now = 0
        return np.zeros(2, np.float32), dict(self.infos)

    def step(self, action):
        self.now += 1
        return np.zeros(2, np.float32), 1.0, self.now == 3, False, dict(self.infos)


INFOS = {
    "shapes": ({"path": np.zeros(3)}, {"path": np.zeros(5)}),
    "broadcast": ({"path": np.zeros(3)}, {"path": np.ones(1)}),
    "dict beside number": ({"x": {"deep": 1.0}}, {"x": 2.0}),
    "number beside dict": ({"x": 2.0}, {"x": {"deep": 1.0}}),
    "dtypes": ({"x": 1}, {"x": 2.5}),
    "text": ({"x": 1.0}, {"x": "two"}),
    "ragged": ({"x": 1.0}, {"x": [[1], [2, 3]]}),
    "deep": ({"x": {"y": {"z": np.zeros(1)}}}, {"x": {"y": {"z": np.zeros((2, 2))}}}),
    "missing": ({"x": 1.0}, {}),
    "none": ({"x": None}, {"x": 3}),
}


@pytest.mark.parametrize("infos", INFOS.values(), ids=INFOS)
def test_infos_of_any_kind_in_several_copies_are_kept_and_break_nothing(infos):
    Informed.made = 0
    envs = SyncVector(*[partial(Informed, infos)] * 2)
    of_reset = envs.reset(seed=0)[1]
    for _ in range(3):
        of_end = envs.step(np.zeros(2, int))[-1]
    for found in (of_reset, of_end, of_end["final_info"]):
        for i, given in enumerate(infos):
            for key, value in given.items():
                assert found[f"_{key}"][i]
                kept = found[key]
                if not isinstance(kept, dict):
                    np.testing.assert_equal(
                        np.asarray(kept[i], object).tolist(), np.asarray(value, object).tolist()
                    )
    agent = TRPO("MlpPolicy", envs, n_steps=8, net_arch=(4,), seed=0).learn(32)
    assert agent.num_timesteps == 32
    assert evaluate_policy(agent, envs, 3)[0] == 3


class Varying(Informed):
    """Its infos have another shape in each episode of each copy."""

    def __init__(self):
        self.infos = {}

    def reset(self, *, seed=None, options=None):
        super(Informed, self).reset(seed=seed)
        self.infos = {"path": np.zeros(self.np_random.integers(1, 99))}
        return super().reset()


def test_infos_of_any_kind_from_processes():
    gymnasium.register("tests/Varying-v0", Varying, disable_env_checker=True)
    envs = make_vector_env("tests/Varying-v0", 3, "async")
    try:
        _, infos = envs.reset(seed=0)
        assert len({len(path) for path in infos["path"]}) > 1
        TRPO("MlpPolicy", envs, n_steps=8, net_arch=(4,), seed=0).learn(24)
    finally:
        envs.close()


class OneMemory(gymnasium.Env):
    """Writes every observation and info of all its copies into the same arrays."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    memory, info, made = np.zeros(1, np.float32), {"now": np.zeros(1)}, 0

    def __init__(self):
        self.number = OneMemory.made = OneMemory.made + 1

    def _show(self):
        self.memory[0] = self.info["now"][0] = 100 * self.number + self.now
        return self.memory

    def reset(self, *, seed=None, options=None):
        self.now = 0
        return self._show(), self.info

    def step(self, action):
        self.now += 1
        return self._show(), 1.0, self.now == 3, False, self.info


@pytest.mark.parametrize("n_envs", [1, 2])
def test_memory_that_environments_fill_again_changes_nothing_that_was_recorded(n_envs):
    OneMemory.made = 0
    envs = SyncVector(*[OneMemory] * n_envs)
    agent = TRPO("MlpPolicy", envs, net_arch=(4,), seed=0, normalize_observations=False)
    batch = Sampler(envs, agent.policy, 0).collect(agent.theta, 7, None, np.random.default_rng(0))
    expected = [[100 * (i + 1) + t % 3 for i in range(n_envs)] for t in range(7)]
    np.testing.assert_array_equal(batch.raw_observations[..., 0], expected)
    finals = [100 * (i + 1) + 3 for _ in range(2) for i in range(n_envs)]
    np.testing.assert_array_equal(batch.final_observations[:, 0], finals)
    observations, _ = envs.reset()
    infos = [envs.step(np.zeros(n_envs, int))[-1] for _ in range(3)]
    np.testing.assert_array_equal(
        infos[-1]["final_info"]["now"][:, 0], [100 * (i + 1) + 3 for i in range(n_envs)]
    )
    np.testing.assert_array_equal(infos[-1]["now"][:, 0], [100 * (i + 1) for i in range(n_envs)])
    assert observations.shape == (n_envs, 1)


def test_a_process_sends_the_last_observation_as_it_was_before_the_reset():
    gymnasium.register("tests/OneMemory-v0", OneMemory, disable_env_checker=True)
    envs = make_vector_env("tests/OneMemory-v0", 2, "async")
    try:
        agent = TRPO("MlpPolicy", envs, net_arch=(4,), seed=0)
        batch = Sampler(envs, agent.policy, 0).collect(agent.theta, 7, None, np.random.default_rng(0))
        np.testing.assert_array_equal(batch.final_observations % 100, 3)
    finally:
        envs.close()


# --- how a vector resets ---------------------------------------------------------------------------------


class Says(VectorWrapper):
    """States another way to reset, or none."""

    def __init__(self, env, **stated):
        super().__init__(env)
        others = {key: value for key, value in env.metadata.items() if key != "autoreset_mode"}
        self.metadata = others | stated


class InOne(VectorWrapper):
    """Steps twice where its NEXT_STEP environment only resets, so that it resets in the same step."""

    def __init__(self, env, with_final_obs):
        super().__init__(env)
        self.with_final_obs = with_final_obs

    def step(self, actions):
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        if (ended := terminated | truncated).any():
            if self.with_final_obs:
                infos = infos | {"final_obs": np.array([*observations, None], object)[:-1]}
            observations = np.where(ended[:, None], self.env.step(actions)[0], observations)
        return observations, rewards, terminated, truncated, infos


def next_step():
    return vectorized(counters(1, (5,), ("terminated",)), AutoresetMode.NEXT_STEP)


def lengths(envs):
    agent = TRPO("MlpPolicy", envs, net_arch=(4,), n_steps=20, seed=0).learn(20)
    return list(agent.recent_lengths)


def test_the_outermost_statement_of_how_a_vector_resets_is_right():
    stated = Says(InOne(next_step(), with_final_obs=True), autoreset_mode=AutoresetMode.SAME_STEP)
    assert lengths(stated) == [5, 5, 5, 5]
    assert lengths(Says(next_step(), autoreset_mode=AutoresetMode.NEXT_STEP)) == [5, 5, 5]


def test_a_vector_that_says_nothing_and_resets_in_the_next_step_is_taken_for_what_it_is():
    assert lengths(Says(next_step())) == [5, 5, 5]


@pytest.mark.parametrize(
    ("stated", "with_final_obs"),
    [  # where NEXT_STEP is stated, and final_obs isn't there, nothing tells: a wrapper may change rewards
        pytest.param({}, True, id="silent"),
        pytest.param({}, False, id="silent without final_obs"),
        pytest.param({"autoreset_mode": AutoresetMode.NEXT_STEP}, True, id="wrong"),
    ],
)
def test_a_vector_that_resets_otherwise_than_it_says_is_found_out_on_the_way(stated, with_final_obs):
    envs = Says(InOne(next_step(), with_final_obs), **stated)
    with pytest.raises(ValueError, match=r"(?s)autoreset_mode|states NEXT_STEP.*SAME_STEP"):
        lengths(envs)


def test_a_vector_without_autoreset_is_refused_whoever_says_so():
    with pytest.raises(ValueError, match="autoreset disabled"):
        lengths(Says(next_step(), autoreset_mode=AutoresetMode.DISABLED))


# --- returns of other episodes ---------------------------------------------------------------------------


def test_returns_are_counted_anew_where_a_count_begins(tmp_path):
    agent = TRPO("MlpPolicy", Counter(lengths=(2,)), n_steps=8, net_arch=(4,), seed=0).learn(16)
    assert len(agent.recent_returns) == 8
    agent.learn(8, reset_num_timesteps=False)
    assert len(agent.recent_returns) == 12
    agent.learn(8)
    assert len(agent.recent_returns) == 4
    agent.save(tmp_path / "agent")
    assert len(TRPO.load(tmp_path / "agent").recent_returns) == 4
    assert not TRPO.load(tmp_path / "agent", env=Counter(lengths=(3,))).recent_returns
    agent.set_env(Counter(lengths=(3,)))
    assert not agent.recent_returns
    assert not agent.recent_lengths


def test_a_run_that_goes_on_in_the_same_environment_keeps_its_returns(tmp_path):
    agent = TRPO("MlpPolicy", "CartPole-v1", n_envs=2, n_steps=64, net_arch=(4,), seed=0).learn(256)
    agent.save(tmp_path / "agent")
    for env in ("CartPole-v1", gymnasium.make("CartPole-v1")):
        assert TRPO.load(tmp_path / "agent", env=env).recent_returns == agent.recent_returns
    assert not TRPO.load(tmp_path / "agent", env=CartPoleEnv()).recent_returns


def test_an_environment_stepped_by_hand_meanwhile_begins_with_a_reset():
    env = Counter(lengths=(100,))
    agent = TRPO("MlpPolicy", env, n_steps=8, net_arch=(4,), seed=0, normalize_observations=False).learn(8)
    agent.get_env().step(np.zeros(1, int))
    episode = env.episode
    agent.learn(8, reset_num_timesteps=False)
    assert (env.episode, env.now) == (episode + 1, 8)
    agent.learn(8, reset_num_timesteps=False)  # nobody stepped it
    assert (env.episode, env.now) == (episode + 1, 16)


# --- what an environment should not return ---------------------------------------------------------------


class Odd(gymnasium.Env):
    """Steps and resets as the functions given say."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, space, of_reset, of_step):
        self.observation_space, self.of_reset, self.of_step = space, of_reset, of_step

    def reset(self, *, seed=None, options=None):
        return self.of_reset()

    def step(self, action):
        return self.of_step()


BOX, SEEN = gymnasium.spaces.Box(-1, 1, (2,)), np.zeros(2, np.float32)
BYTE, THREE = gymnasium.spaces.Box(0, 255, (1,), np.uint8), gymnasium.spaces.Discrete(3)


def asserting():
    raise AssertionError


ODD = {
    "reward of shape (1,)": (
        BOX,
        (SEEN, {}),
        (SEEN, np.ones(1), False, False, {}),
        r"reward array\(\[1\.\]\), not one",
    ),
    "vector reward": (
        BOX,
        (SEEN, {}),
        (SEEN, [1.0, 2.0], False, False, {}),
        r"reward \[1\.0, 2\.0\], not one",
    ),
    "old step": (BOX, (SEEN, {}), (SEEN, 1.0, False, {}), "step returned 4 values, not the five"),
    "old reset": (BOX, SEEN, (SEEN, 1.0, False, False, {}), "reset returned one ndarray, not the two"),
    "float for Discrete": (THREE, (0, {}), (0.5, 1.0, False, False, {}), r"0\.5"),
    "too large for uint8": (BYTE, (np.zeros(1, int), {}), (np.array([300]), 1.0, False, False, {}), "300"),
    "bare assert": (BOX, (SEEN, {}), asserting, "in step 1 of environment 0"),
}


@pytest.mark.parametrize(
    ("name", "n_envs"),  # a lone environment's observations are taken as they are
    [(name, n_envs) for name in ODD for n_envs in (1, 2) if (name, n_envs) != ("too large for uint8", 1)],
)
def test_what_does_not_keep_to_the_api_is_said_in_a_sentence_with_environment_and_step(name, n_envs):
    space, of_reset, of_step, message = ODD[name]
    makers = [
        partial(Odd, space, lambda: of_reset, of_step if callable(of_step) else lambda: of_step)
    ] * n_envs
    agent = TRPO("MlpPolicy", SyncVector(*makers), net_arch=(4,), n_steps=4, seed=0)
    with pytest.raises((ValueError, AssertionError), match=message) as caught:
        agent.learn(4)
    said = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "environment 0" in said or n_envs == 1
    assert ("reset" if "reset" in message else "step 1") in said


def test_a_vector_of_gymnasiums_own_has_its_steps_checked_too():
    makers = [partial(Odd, BOX, lambda: (SEEN, {}), lambda: (SEEN, 1.0, False, {}))] * 2
    envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="unpack") as caught:
        TRPO("MlpPolicy", envs, net_arch=(4,), n_steps=4, seed=0).learn(4)
    assert "in step 1 of environment 0" in caught.value.__notes__[0]
