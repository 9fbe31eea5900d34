import copy

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given
from hypothesis import strategies as st

from npTRPO.policies.spaces import action_converter, check_supported, encode, encoded_size
from tests.policies.oracles import family_of
from tests.strategies import action_spaces, arrays, generators, observation_spaces, seeds


def as_batch(space, items):
    """The observations of several environments as a vector environment returns them."""
    return concatenate(space, items, create_empty_array(space, len(items)))


@st.composite
def observations(draw):
    """A space, perhaps nested, and a few of its members."""
    space = draw(observation_spaces)
    space.seed(draw(seeds))
    return space, [space.sample() for _ in range(draw(st.integers(1, 3)))]


# --- observations ---------------------------------------------------------------------------------


@given(observations(), st.sampled_from([np.float32, np.float64]))
def test_each_row_is_gymnasiums_flatten_of_one_observation(case, dtype):
    space, items = case
    check_supported(space, "observation")
    rows = encode(space, as_batch(space, items), dtype)
    assert rows.dtype == dtype
    assert rows.shape == (len(items), encoded_size(space)) == (len(items), spaces.flatdim(space))
    for row, item in zip(rows, items, strict=True):
        np.testing.assert_array_equal(row, spaces.flatten(space, item).astype(dtype))


@given(observations())
def test_encoding_does_not_change_the_observations(case):
    space, items = case
    batch = as_batch(space, items)
    before = copy.deepcopy(batch)
    encode(space, batch)
    np.testing.assert_equal(batch, before)


@given(observation_spaces)
def test_no_observations_encode_as_no_rows(space):
    rows = encode(space, create_empty_array(space, 0))
    assert rows.shape == (0, encoded_size(space))


def test_discrete_values_become_indicators_counted_from_the_start():
    rows = encode(spaces.Discrete(3, start=-1), np.array([-1, 1, 0]))
    np.testing.assert_array_equal(rows, [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("value", [-2, 2, 100])
def test_a_value_outside_its_discrete_space_is_refused(value):
    with pytest.raises(ValueError, match="outside their Discrete space of 3 values"):
        encode(spaces.Discrete(3, start=-1), np.array([0, value]))
    with pytest.raises(ValueError, match="outside their Discrete space of 3 values"):
        encode(spaces.MultiDiscrete([3, 3], start=[-1, -1]), np.array([[0, value]]))


def test_a_tuple_with_a_part_missing_is_refused():
    space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])
    with pytest.raises(ValueError, match="shorter"):
        encode(space, (np.array([0]),))


# --- actions --------------------------------------------------------------------------------------


@st.composite
def drawn_actions(draw):
    """An action space, and actions of the family that a policy has for it, far outside bounds too."""
    space = draw(action_spaces)
    family, rng, n = family_of(space), draw(generators()), draw(st.integers(1, 4))
    scale = 10.0 ** rng.integers(-2, 6, (n, family.n_flat))
    outputs = family.from_flat(rng.standard_normal((n, family.n_flat)))
    if family.is_discrete:
        return space, family(outputs).sample(rng)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return space, (outputs[0] * scale[:, : family.n_outputs]).astype(dtype)


@given(drawn_actions())
def test_every_converted_action_is_a_member_of_the_action_space(case):
    space, actions = case
    check_supported(space, "action")
    before = actions.copy()
    converted = action_converter(space)(actions)
    assert converted.dtype == space.dtype
    assert converted.shape == (len(actions), *space.shape)
    for action in converted:
        assert space.contains(np.asarray(action) if isinstance(space, spaces.Box) else action)
    np.testing.assert_array_equal(actions, before)


@given(drawn_actions())
def test_a_box_action_is_the_nearest_point_of_the_box(case):
    space, actions = case
    converted = action_converter(space)(actions)
    if not isinstance(space, spaces.Box):
        # Other families count from 0, spaces from their start: the way back is a subtraction.
        start = getattr(space, "start", 0)
        np.testing.assert_array_equal((converted - start).reshape(actions.shape), actions)
        return
    low, high = space.low.ravel().tolist(), space.high.ravel().tolist()
    for row, given_row in zip(converted.reshape(actions.shape), actions, strict=True):
        for value, a, lo, hi in zip(row.tolist(), given_row.tolist(), low, high, strict=True):
            nearest = min(max(a, lo), hi)
            if space.dtype.kind == "f":
                assert value == float(space.dtype.type(nearest))
            else:
                assert abs(value - nearest) <= 0.5


# --- what isn't supported -------------------------------------------------------------------------

BOX = spaces.Box(-1, 1, (2,))
UNSUPPORTED = [
    spaces.Graph(BOX, None),
    spaces.Sequence(BOX),
    spaces.Text(5),
    spaces.OneOf([BOX, spaces.Discrete(2)]),
]
unsupported = pytest.mark.parametrize("space", UNSUPPORTED, ids=lambda space: type(space).__name__)


@pytest.mark.parametrize(
    "space", [*UNSUPPORTED, spaces.Dict(a=BOX), spaces.Tuple([BOX])], ids=lambda space: type(space).__name__
)
def test_an_unsupported_action_space_is_refused_with_a_way_out(space):
    with pytest.raises(NotImplementedError) as caught:
        check_supported(space, "action")
    message = str(caught.value)
    assert message.startswith(f"{type(space).__name__} action spaces aren't supported")
    assert "supported are Box, Discrete, MultiDiscrete, MultiBinary. A way out: " in message
    with pytest.raises(NotImplementedError, match=f"{type(space).__name__} action spaces aren't supported"):
        action_converter(space)


@pytest.mark.parametrize("role", ["observation", "action"])
def test_a_box_of_booleans_is_refused_with_a_way_out(role):
    with pytest.raises(NotImplementedError, match=r"spaces of dtype bool aren't .* A way out: .*MultiBinary"):
        check_supported(spaces.Box(0, 1, (2,), bool), role)


@pytest.mark.parametrize(
    "space", [spaces.Box(-1, 1, (2, 0)), spaces.Dict({}), spaces.Tuple([spaces.Dict({})])], ids=str
)
def test_a_space_without_a_number_in_it_is_refused_with_a_way_out(space):
    with pytest.raises(
        NotImplementedError, match=r"without a number in them .* A way out: offer a Box of one"
    ):
        check_supported(space, "observation")
    check_supported(spaces.Dict(a=BOX, b=space), "observation")  # where there is another it does no harm


def test_an_observation_outside_its_space_is_refused_by_its_distance_from_the_start():
    with pytest.raises(ValueError, match=r"as counted from its start, from -1 to 4$"):
        encode(spaces.Discrete(3, start=5), np.array([6, 9, 4]))


@given(arrays((3, 2)))
def test_a_box_with_one_axis_is_encoded_as_it_is(observations):
    np.testing.assert_array_equal(encode(BOX, observations), observations)
