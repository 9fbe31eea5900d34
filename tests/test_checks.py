import numpy as np
import pytest

from npTRPO._checks import environment_id, is_whole, whole_number


@pytest.mark.parametrize("value", [1, np.int8(1), np.uint64(1), 2**70], ids=repr)
def test_a_whole_number_is_pythons_afterwards(value):
    assert is_whole(value, 1)
    assert whole_number("n", value, 1) == value
    assert type(whole_number("n", value, 1)) is int


@pytest.mark.parametrize("value", [1e2, np.float32(100), np.float64(100.0)], ids=repr)
def test_a_float_without_a_fraction_is_one_only_where_floats_are_taken(value):
    assert whole_number("n", value, floats=True) == 100
    assert type(whole_number("n", value, floats=True)) is int
    with pytest.raises(ValueError, match="n must be a whole number, at least 0, not "):
        whole_number("n", value)


@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize(
    "value", [True, np.True_, 0, -3, 1.5, np.nan, np.inf, "1", None, 1j, [1], 10], ids=repr
)
def test_what_is_no_whole_number_within_the_bounds_is_refused_with_its_name(value, floats):
    assert not is_whole(value, 1, 9)
    with pytest.raises(ValueError, match=r"^steps must be a whole number from 1 to 9, not "):
        whole_number("steps", value, 1, 9, floats)


def test_the_id_of_an_environment_is_short_printable_text():
    assert environment_id("env", "a.module:CartPole-v1") == "a.module:CartPole-v1"
    for value in (None, 3, "a\nb", "\x1b[2J", 1001 * "a"):
        with pytest.raises(ValueError, match=r"^env must be the id of an environment, not "):
            environment_id("env", value)
