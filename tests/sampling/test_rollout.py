"""Batches from real Gymnasium vector environments against the diaries that the environments kept."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import Policy, gae
from npTRPO.sampling import Batch, Moments, Sampler
from tests.environments import (
    MODES,
    VIEWS,
    Counter,
    Flawed,
    Misshapen,
    counters,
    forks,
    in_both_modes,
    vectorized,
)
from tests.strategies import lifetimes


def sampler_for(envs, seed=0):
    policy = Policy.for_spaces(envs.single_observation_space, envs.single_action_space, net_arch=(4,))
    return Sampler(envs, policy, seed), policy.init(np.random.default_rng(seed))


def collected(envs, batches, moments=None, seed=0, dtype=np.float64):
    """Batches of so many steps, one after the other."""
    sampler, theta = sampler_for(envs, seed)
    rng = np.random.default_rng(seed)
    return [sampler.collect(theta.astype(dtype), steps, moments, rng) for steps in batches]


def transitions(batches, weights):
    """What each environment went through by the batches, in its diary's form.

    Observations and next observations appear as their dot product with ``weights``, the latter as
    ``Batch.values`` gives it.
    """
    n = batches[0].rewards.shape[1]
    found = [[] for _ in range(n)]
    for batch in batches:
        before, after = batch.values(lambda rows: rows @ weights)
        for t, i in np.argwhere(batch.valid):
            found[i].append(
                (
                    before[t, i],
                    int(batch.actions[t, i]),
                    batch.rewards[t, i],
                    bool(batch.terminated[t, i]),
                    bool(batch.truncated[t, i]),
                    after[t, i],
                )
            )
    return found


def written(envs, weights):
    """The environments' diaries, with observations as their dot product with the weights."""
    return [
        [(before @ weights, *what, after @ weights) for before, *what, after in diary]
        for diary in envs.call("diary")
    ]


def weights_for(envs):
    """Whole numbers, with which a dot product is exact and names its row."""
    size = spaces.flatdim(envs.single_observation_space)
    return np.random.default_rng(1).integers(-(2**16), 2**16, size).astype(float)


@in_both_modes
@given(
    life=lifetimes,
    n=st.integers(1, 4),
    batches=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    view=st.sampled_from(sorted(VIEWS)),
)
def test_every_valid_transition_is_one_that_the_environment_wrote_down(mode, life, n, batches, view):
    """All of them in order, none invented: no step that only resets, the true last observations."""
    envs = vectorized(counters(n, **life, view=view), mode)
    found = transitions(collected(envs, batches), weights_for(envs))
    assert found == written(envs, weights_for(envs))


@forks
@in_both_modes
@pytest.mark.parametrize("view", ["box", "tuple", "dict"])
def test_transitions_from_other_processes_are_those_that_the_environments_wrote_down(mode, view):
    makers = counters(2, (3, 1, 2), ("terminated", "truncated"), view)
    envs = vectorized(makers, mode, asynchronous=True)
    try:
        batches = collected(envs, [5, 1, 6])
        assert transitions(batches, weights_for(envs)) == written(envs, weights_for(envs))
    finally:
        envs.close()


@pytest.mark.parametrize("form", ["one array", "dict of arrays"])
def test_the_last_observations_may_stand_in_the_infos_in_any_form(form):
    """Some versions of Gymnasium collect the dicts into a dict; vector environments may have an array."""

    class Collects(SyncVectorEnv):
        def step(self, actions):
            *result, infos = super().step(actions)
            if "final_obs" in infos:
                whole = concatenate(
                    self.single_observation_space,
                    [
                        first if last is None else last
                        for first, last in zip(self._env_obs, infos["final_obs"], strict=True)
                    ],
                    create_empty_array(self.single_observation_space, self.num_envs),
                )
                infos["final_obs"] = whole
            return *result, infos

    view = "dict" if form == "dict of arrays" else "box"
    makers = counters(3, (2, 1, 3), ("truncated", "terminated"), view)
    envs = Collects(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    batches = collected(envs, [7])
    assert transitions(batches, weights_for(envs)) == written(envs, weights_for(envs))


@in_both_modes
def test_a_batch_holds_what_its_documentation_says(mode):
    [batch] = collected(vectorized(counters(2, (2,), ("truncated",)), mode), [6])
    assert isinstance(batch, Batch)
    assert batch.observations.shape == batch.raw_observations.shape == (6, 2, 3)
    assert batch.rewards.dtype == np.float64
    # copy, episode and step before each of the steps of the first copy
    if mode is AutoresetMode.SAME_STEP:
        expected = [[0, e, s] for e in range(3) for s in range(2)]
        assert batch.valid.all()
        assert batch.truncated[:, 0].tolist() == [False, True] * 3
        assert batch.final_steps.tolist() == [[t, i] for t in (1, 3, 5) for i in range(2)]
        np.testing.assert_array_equal(
            batch.final_observations, [[i, e, 2] for e in range(3) for i in range(2)]
        )
        np.testing.assert_array_equal(batch.last_observations, [[0, 3, 0], [1, 3, 0]])
    else:
        expected = [[0, e, s] for e in range(2) for s in range(3)]
        assert batch.valid[:, 0].tolist() == [True, True, False] * 2
        assert batch.truncated[:, 0].tolist() == [False, True, False] * 2
        assert batch.final_steps.shape == (0, 2)
        assert batch.final_observations.shape == (0, 3)
        np.testing.assert_array_equal(batch.last_observations, [[0, 2, 0], [1, 2, 0]])
        assert not batch.rewards[~batch.valid].any()
    np.testing.assert_array_equal(batch.raw_observations[:, 0], expected)
    np.testing.assert_array_equal(batch.ended, batch.terminated | batch.truncated)


@pytest.mark.parametrize(
    ("space", "taken"),
    [
        (spaces.Box(-0.1, 0.1, (2,)), lambda actions: np.clip(actions, np.float32(-0.1), np.float32(0.1))),
        (spaces.Discrete(3, start=5), lambda actions: 5 + actions),
    ],
    ids=["bounded", "shifted"],
)
def test_a_batch_has_the_actions_that_were_drawn_and_the_environment_those_that_it_takes(space, taken):
    """The probability of an action is that of what was drawn, not of what a bound makes of it."""

    class Diary(gymnasium.Env):
        observation_space, action_space = spaces.Box(-1, 1, (1,)), space

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.taken = []
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.taken.append(np.array(action))
            return np.zeros(1, np.float32), 0.0, False, False, {}

    envs = SyncVectorEnv([Diary])
    [batch] = collected(envs, [20])
    [received] = envs.get_attr("taken")
    drawn = batch.actions[:, 0]
    np.testing.assert_allclose(np.stack(received), taken(drawn), rtol=1e-6)
    assert not np.array_equal(drawn, taken(drawn))


@pytest.mark.parametrize("number", [99.0, np.nan])
def test_the_reward_of_a_step_that_only_resets_is_no_reward(number):
    """Gymnasium's own vector environments return 0 there; others may not."""

    class Pays(SyncVectorEnv):
        def step(self, actions):
            resets = self._autoreset_envs
            observation, reward, *rest = super().step(actions)
            return observation, np.where(resets, number, reward), *rest

    envs = Pays(counters(2, (2, 3)), autoreset_mode=AutoresetMode.NEXT_STEP)
    [batch] = collected(envs, [12])
    assert (~batch.valid).sum() >= 4
    assert not batch.rewards[~batch.valid].any()
    diaries = envs.call("diary")
    assert batch.rewards.sum() == sum(reward for diary in diaries for _, _, reward, *_ in diary)


@in_both_modes
@given(life=lifetimes, n=st.integers(1, 3), batches=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_episodes_that_span_batches_have_their_returns_and_lengths(mode, life, n, batches):
    envs = vectorized(counters(n, **life), mode)
    episodes = [batch.episodes for batch in collected(envs, batches)]
    expected = []
    for diary in envs.call("diary"):
        rewards = []
        for _, _, reward, terminated, truncated, _ in diary:
            rewards.append(reward)
            if terminated or truncated:
                expected.append((sum(rewards), len(rewards)))
                rewards = []
    found = [(r, k) for e in episodes for r, k in zip(e.returns.tolist(), e.lengths.tolist(), strict=True)]
    assert sorted(found) == sorted(expected)


@in_both_modes
@pytest.mark.parametrize(
    ("end", "bootstrap"), [("truncated", 3.0), ("terminated", 0.0), ("both", 0.0)], ids=lambda x: str(x)
)
def test_E39_a_truncated_episode_goes_on_in_its_last_observation_and_a_terminated_one_in_nothing(
    mode, end, bootstrap
):
    """The advantage of the last step, with V the steps into the episode: V of the first of the next is 0."""
    [batch] = collected(vectorized(counters(1, (3,), (end,)), mode), [3])
    values, following = batch.values(lambda rows: rows[:, 2])
    advantages = gae(batch.rewards, values, following, batch.terminated, batch.truncated, 0.5, 0.5)
    assert advantages[2, 0] == batch.rewards[2, 0] + 0.5 * bootstrap - 2


@given(
    life=lifetimes,
    n=st.integers(1, 3),
    steps=st.integers(1, 20),
    seed=st.integers(0, 2**16),
    view=st.sampled_from(["box", "dict", "discrete"]),
)
def test_both_modes_give_the_same_transitions(life, n, steps, seed, view):
    """With a policy so sure of itself that its actions don't depend on the random numbers."""
    lives = []
    for mode in MODES:
        envs = vectorized(counters(n, **life, view=view), mode)
        sampler, theta = sampler_for(envs, seed)
        theta = 1e6 * np.random.default_rng(seed).standard_normal(theta.size)
        batch = sampler.collect(theta, steps, None, np.random.default_rng(seed))
        lives.append(transitions([batch], weights_for(envs)))
    for next_step, same_step in zip(*lives, strict=True):
        assert next_step == same_step[: len(next_step)]
        assert len(same_step) == steps


@pytest.mark.parametrize("n", [1, 3])
def test_the_vectorised_cartpole_moves_as_a_single_one(n):
    """Its own vector form, in NEXT_STEP mode: a single pole, put into each state, moves to the next."""
    [batch] = collected(CartPoleVectorEnv(n), [200], dtype=np.float32)
    states, after = (np.empty((200, n, 4)) for _ in range(2))
    for k in range(4):
        states[..., k], after[..., k] = batch.values(lambda rows, k=k: rows[:, k])
    pole = CartPoleEnv()
    pole.reset(seed=0)
    for t, i in np.argwhere(batch.valid):
        pole.state, pole.steps_beyond_terminated = states[t, i], None
        moved, reward, terminated, _, _ = pole.step(int(batch.actions[t, i]))
        # The vector form goes on from its state as it was before float32 rounded it: by ε/2 of numbers
        # below 4, so 2 ε before the step, which a step of 0.02 s at most doubles, and 2 ε each after it.
        np.testing.assert_allclose(after[t, i], moved, rtol=0, atol=8 * np.finfo(np.float32).eps)
        assert (batch.rewards[t, i], batch.terminated[t, i]) == (reward, terminated)
    resets = np.argwhere(~batch.valid)
    assert len(resets) == np.sum(batch.ended[:-1]) > 0
    for t, i in resets:
        assert batch.ended[t - 1, i]
        assert np.abs(after[t, i]).max() <= 0.05  # where episodes begin
    np.testing.assert_array_equal(batch.episodes.returns, batch.episodes.lengths)


def test_truncation_of_the_vectorised_cartpole_bootstraps_from_the_last_observation():
    [batch] = collected(CartPoleVectorEnv(2, max_episode_steps=5), [6], dtype=np.float32)
    assert batch.truncated.sum(axis=0).tolist() == [1, 1]
    assert not batch.valid[5].any()
    values, following = batch.values(lambda rows: rows @ np.arange(1, 5, dtype=np.float32))
    np.testing.assert_array_equal(following[4], values[5])
    assert np.all(following[4] != following[5])


# --- what the policy sees -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@in_both_modes
def test_observations_are_normalised_by_the_moments_given_and_kept_raw_as_well(mode, dtype):
    moments = Moments(np.array([0.5, 4.0, 1.0]), np.array([0.25, 16.0, 1e-4]), 9)
    envs = vectorized(counters(2, (3, 2), ("truncated",)), mode)
    first, second = collected(envs, [7, 6], moments, dtype=dtype)
    ends = np.array([[i, e, k] for e, i, k in [(0, 1, 2), (0, 0, 3), (1, 0, 2), (1, 1, 3)]])

    def seen(raw):
        return np.clip((raw - moments.mean) / np.sqrt(moments.variance), -10, 10)

    unit = 4 * np.finfo(dtype).eps  # mean, scale, difference and product, each rounded once
    for batch in (first, second):
        assert batch.observations.dtype == batch.last_observations.dtype == dtype
        assert batch.final_observations.dtype == dtype
        np.testing.assert_allclose(batch.observations, seen(batch.raw_observations), rtol=unit, atol=unit)
    np.testing.assert_array_equal(first.last_observations, second.observations[0])
    if mode is AutoresetMode.SAME_STEP:
        np.testing.assert_allclose(first.final_observations[:3], seen(ends[:3]), rtol=unit, atol=unit)
    assert np.abs(first.observations).max() == 10


def test_the_value_function_is_asked_once_for_the_rows_that_the_policy_saw():
    calls = []

    def predict(rows):
        calls.append(rows)
        return rows[:, 1].astype(np.float32)

    [batch] = collected(vectorized(counters(2, (2, 3), ("truncated",))), [5])
    values, following = batch.values(predict)
    assert [rows.shape for rows in calls] == [((5 + 1) * 2 + len(batch.final_steps), 3)]
    assert values.shape == following.shape == (5, 2)
    assert values.dtype == following.dtype == np.float32


@in_both_modes
def test_the_same_seeds_give_the_same_batch_and_others_another(mode):
    def batch(seed):
        envs = gymnasium.make_vec("CartPole-v1", 2, "sync", {"autoreset_mode": mode})
        return collected(envs, [40], seed=seed)[0]

    first, again, other = batch(3), batch(3), batch(4)
    for name in ("observations", "actions", "rewards", "terminated", "last_observations"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.observations, other.observations)


@pytest.mark.parametrize("mode", [*MODES, "NextStep", "SameStep"])
def test_the_mode_may_be_given_by_its_name(mode):
    envs = vectorized(counters(2, (3,), ("truncated",)), AutoresetMode(mode))
    envs.metadata["autoreset_mode"] = mode
    batches = collected(envs, [8])
    assert transitions(batches, weights_for(envs)) == written(envs, weights_for(envs))


@pytest.mark.parametrize("mode", [AutoresetMode.DISABLED, "Disabled"])
def test_a_vector_environment_that_does_not_reset_itself_is_refused(mode):
    envs = vectorized(counters(2), AutoresetMode.DISABLED)
    envs.metadata["autoreset_mode"] = mode
    with pytest.raises(ValueError, match=r"autoreset disabled: make it with autoreset_mode.*SAME_STEP"):
        sampler_for(envs)


# --- environments that break their word ---------------------------------------------------------------


def flawed(n, bad, **flaw):
    """Counters with two steps to an episode, of which number ``bad`` is flawed."""
    of_counter = {"lengths": (2,), "ends": ("truncated",)}
    return [
        lambda i=i: Flawed(**flaw, copy=i, **of_counter) if i == bad else Counter(i, **of_counter)
        for i in range(n)
    ]


@in_both_modes
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("what", "at"), [*(("observation", at) for at in range(5)), *(("reward", at) for at in (1, 2, 4))]
)
def test_a_number_that_is_not_finite_is_refused_with_environment_and_step(mode, number, what, at):
    """Also an observation that ends an episode: in SAME_STEP mode only the infos have it."""
    flaw = {what: number if what == "reward" else np.array([1.0, number, 0.0])}
    envs = vectorized(flawed(3, 1, at=at, **flaw), mode)
    # In NEXT_STEP mode every third step only resets.
    step = at + (at - 1) // 2 if mode is AutoresetMode.NEXT_STEP and at else at
    said = rf"^environment 1 returned the .*{what} {number}( .feature 1.)? at its step {step};"
    with pytest.raises(ValueError, match=said):
        collected(envs, [3, 3, 3], Moments.empty(3))


def test_the_first_of_several_numbers_that_are_not_finite_is_named():
    envs = vectorized(
        [
            lambda: Flawed(5, reward=np.nan, lengths=(9,)),
            lambda: Flawed(3, observation=np.array([0, 0, np.nan]), lengths=(9,), copy=1),
        ]
    )
    first = r"environment 1 returned the observation nan \(feature 2\) at its step 3"
    with pytest.raises(ValueError, match=first):
        collected(envs, [8])


def test_an_environment_that_chokes_on_its_own_nan_is_not_what_the_error_is_about():
    class Chokes(Flawed):
        def step(self, action):
            if len(self.diary) == 4:
                raise ZeroDivisionError("choked")
            return super().step(action)

    envs = vectorized([lambda: Chokes(4, observation=np.full(3, np.nan), lengths=(9,))])
    with pytest.raises(ValueError, match="environment 0 returned the observation nan"):
        collected(envs, [8])


@in_both_modes
def test_what_an_environment_raises_is_passed_on_with_a_note_of_the_step(mode):
    envs = vectorized(flawed(2, 1, at=2, error=ZeroDivisionError("broke")), mode)
    with pytest.raises(ZeroDivisionError, match="broke") as caught:
        collected(envs, [1, 4])
    assert caught.value.__notes__ == ["in step 2 of environment 1"]


@pytest.mark.parametrize(
    ("view", "distort", "complaint"),
    [
        ("box", lambda o: o[:, :2], "that aren't of Box.*size 4 into shape .2,3"),
        ("box", lambda o: np.concatenate([o, o], axis=1), "that aren't of Box.*size 12 into shape .2,3"),
        ("box", lambda o: o[:, 0], "that aren't of Box.*size 2 into shape .2,3"),
        ("box", lambda o: o[0, 0], "that aren't of Box"),
        ("box", lambda o: o[:1], r"of shape \(1, 3\), not \(2, 3\)"),
        (
            "discrete",
            lambda o: o + 60,
            "that aren't of Discrete.*observations lie outside their Discrete space",
        ),
        ("dict", lambda o: {"copy": o["copy"]}, "that aren't of Dict.*when"),
        ("tuple", lambda o: o[:1], "that aren't of Tuple.*zip"),
    ],
    ids=["fewer features", "more", "numbers", "a number", "fewer environments", "discrete", "dict", "tuple"],
)
@pytest.mark.parametrize("at", [0, 3])
def test_observations_outside_their_space_are_refused_with_the_step_and_the_space(
    view, distort, complaint, at
):
    envs = Misshapen(counters(2, view=view), at, lambda o, r: (distort(o), r))
    where = "step 3" if at else "reset"
    with pytest.raises(ValueError, match=rf"^{where} returned observations {complaint}"):
        collected(envs, [2, 2])


@pytest.mark.parametrize(
    ("distort", "shape"),
    [
        (lambda o, r: (o, r[:1]), r"\(1,\)"),
        (lambda o, r: (o, r[:, None]), r"\(2, 1\)"),
        (lambda o, r: (o, 1.0), r"\(\)"),
    ],
    ids=["fewer environments", "columns", "one for all"],
)
def test_rewards_of_a_wrong_shape_are_refused_with_the_step_and_both_shapes(distort, shape):
    with pytest.raises(ValueError, match=rf"^step 3 returned rewards of shape {shape}, not \(2,\)"):
        collected(Misshapen(counters(2), 3, distort), [2, 2])
