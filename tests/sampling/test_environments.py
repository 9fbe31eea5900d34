import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from npTRPO import Policy
from npTRPO.sampling.environments import check_spaces, longest_episode, make_vector_env, missing_package_error
from npTRPO.sampling.makers import EnvMaker
from npTRPO.sampling.vectors import SyncVector
from tests.environments import Bandit, Choosy, Counter, counters, forks, registered, vectorized


@pytest.fixture
def lacking():
    """Id of an environment that lacks a package."""

    def make(**_):
        raise gymnasium.error.DependencyNotInstalled("install the quux extra")

    gymnasium.register("tests/Lacking-v0", make)
    yield "tests/Lacking-v0"
    del gymnasium.registry["tests/Lacking-v0"]


@forks
@pytest.mark.parametrize(
    ("env_id", "mode", "kind"),
    [
        ("CartPole-v1", None, CartPoleVectorEnv),
        ("CartPole-v1", "sync", SyncVector),
        ("CartPole-v1", "vector_entry_point", CartPoleVectorEnv),
        (registered(Bandit), None, SyncVector),
        (registered(Bandit), "async", AsyncVectorEnv),
    ],
)
def test_an_id_is_made_so_many_times_in_its_own_vector_form_if_it_has_one(env_id, mode, kind):
    envs = make_vector_env(env_id, 3, mode)
    try:
        assert isinstance(envs.unwrapped, kind)
        assert envs.num_envs == 3
        assert envs.reset(seed=0)[0].shape == (3, *envs.single_observation_space.shape)
        if kind is not CartPoleVectorEnv:
            assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    finally:
        envs.close()


@pytest.mark.parametrize("n_envs", [1, 5])
def test_an_environment_becomes_a_vector_of_itself(n_envs):
    env = Counter()
    envs = make_vector_env(env, n_envs)
    assert (envs.num_envs, envs.envs[0]) == (1, env)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_vector_environment_is_taken_as_it_is(mode):
    envs = vectorized(counters(2), mode)
    assert make_vector_env(envs, 5, "async") is envs
    assert envs.metadata["autoreset_mode"] is mode


def test_an_id_may_name_the_module_that_registers_it():
    envs = make_vector_env(f"tests.environments:{registered(Bandit)}", 2)
    assert [type(env.unwrapped) for env in envs.envs] == [Bandit, Bandit]


@pytest.mark.parametrize(
    ("env_id", "hint"),
    [
        ("CartPole-v7", "near matches are CartPole-v1"),
        ("Cartpole-v1", "near matches are CartPole-v1"),
        ("CartPole", "near matches are .*CartPole-v1"),
        ("nowhere/CartPole-v1", "near matches are CartPole-v1"),
        ("tests.environments:tests/Bandid-v0", "near matches are tests/Bandit-v0"),
        ("no_such_module:CartPole-v1", "CartPole-v1"),
        ("no_such_module:xyzzy", "No module named 'no_such_module'"),
        ("Wholly/Unknown-v7", "a package registers when it is imported is named as module:id"),
        ("no id at all!", "Malformed environment ID"),
        ("xyzzy", "xyzzy"),
        ("", "Malformed"),
    ],
)
def test_an_id_that_is_not_registered_is_refused_with_near_matches(env_id, hint):
    with pytest.raises(ValueError, match=rf"^there is no environment '{env_id}'.*{hint}"):
        make_vector_env(env_id, 1)


@pytest.mark.parametrize("mode", [None, "sync"])
def test_what_lacks_a_package_says_so(lacking, mode):
    with pytest.raises(ModuleNotFoundError, match=r"Lacking-v0 needs a package .* install the quux extra"):
        make_vector_env(lacking, 2, mode)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("gymnasium[mujoco]", "npTRPO[mujoco]"),
        ("gymnasium[box2d]", "npTRPO[box2d]"),
        ("gymnasium[classic-control]", "npTRPO[video]"),
        ("gymnasium[atari]", "gymnasium[atari]"),
    ],
)
def test_a_missing_package_is_named_by_the_extra_of_ours_that_brings_it(theirs, ours):
    error = missing_package_error(
        "it can't be", gymnasium.error.DependencyNotInstalled(f'run `pip install "{theirs}"`')
    )
    assert str(error) == f'it can\'t be: run `pip install "{ours}"`'


@pytest.mark.parametrize("thing", [None, 3, ["CartPole-v1"], b"CartPole-v1"], ids=repr)
def test_what_is_no_environment_is_refused_with_its_type(thing):
    with pytest.raises(TypeError, match=rf"env must be .*, not {type(thing).__name__}"):
        make_vector_env(thing, 1)


BOX, OTHER = spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (3,))
TWO, THREE = spaces.Discrete(2), spaces.Discrete(3)


@pytest.mark.parametrize(
    ("theirs", "fits"),
    [
        ((BOX, TWO), True),
        ((spaces.Box(-1, 1, (2,)), spaces.Discrete(2)), True),
        ((OTHER, TWO), False),
        ((BOX, THREE), False),
        ((BOX, spaces.Discrete(2, start=1)), False),
        ((spaces.Box(-2, 1, (2,)), TWO), False),
        ((spaces.Box(-1, 1, (2,), np.float64), TWO), False),
    ],
    ids=str,
)
def test_other_spaces_than_the_policys_are_refused_with_both(theirs, fits):
    policy = Policy.for_spaces(BOX, TWO)
    envs = make_vector_env(Choosy(*theirs), 1)
    if fits:
        assert check_spaces(policy, envs) is None
        return
    with pytest.raises(ValueError, match="the agent acts on") as caught:
        check_spaces(policy, envs)
    for space in (BOX, TWO, *theirs):
        assert str(space) in str(caught.value)


def test_the_longest_episode_is_what_the_specification_says():
    for env, kwargs, longest in (
        ("CartPole-v1", {}, 500),
        ("CartPole-v1", {"max_episode_steps": 70}, 70),
        (registered(Bandit), {}, 0),
        (Bandit, {}, 0),
        ("Wholly/Unknown-v7", {}, 0),
    ):
        assert longest_episode(EnvMaker(env, kwargs)) == longest
