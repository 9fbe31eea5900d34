import numpy as np
import pytest

from npTRPO.autograd import grad, linearize
from tests.autograd.cases import CONSTANTS, POINT
from tests.autograd.oracles import assert_same_bits, each_of


def test_the_fill_of_full_like_is_differentiated():
    np.testing.assert_array_equal(grad(lambda x: np.sum(np.full_like(x, x[1])))(np.ones(3)), [0, 3, 0])


def test_full_like_of_a_traced_array_with_a_plain_fill_is_plain():
    def f(x):
        filled = np.full_like(x, True, dtype=bool)
        assert_same_bits(filled, np.ones((3, 4), bool))
        return np.full_like(x, 2)

    assert_same_bits(linearize(f, POINT).value, np.full((3, 4), 2.0))


def test_the_mean_of_half_precision_numbers_is_numpys_and_does_not_overflow():
    x = np.full(4, 60000, np.float16)
    assert_same_bits(linearize(np.mean, x).value, np.mean(x))
    assert_same_bits(grad(np.mean)(x), np.full(4, 0.25, np.float16))


# --- constants: what is locally constant or only looks at shapes ----------------------------------


@each_of("function", CONSTANTS)
def test_what_has_no_derivative_gives_a_plain_array(function):
    seen = []

    def nested(x):
        seen.append(function(x))
        return np.sum(x)

    grad(nested)(POINT)
    grad(lambda x: np.sum(grad(nested)(x)))(POINT)
    for value in seen:
        assert type(value) is type(function(POINT))
        assert_same_bits(value, function(POINT))


def test_result_type_sees_the_dtype_of_a_traced_array():
    seen = []
    grad(lambda x: seen.append(np.result_type(x, x.dtype)) or np.sum(x))(POINT.astype(np.float32))
    assert seen == [np.float32]


def test_a_branch_that_looks_at_a_traced_value_is_followed():
    f = grad(lambda x: x * x if x > 0 else -x)
    assert (f(3.0), f(-3.0)) == (6, -1)


@pytest.mark.parametrize(
    "dtypes", [(np.float64, np.float32), (np.float32, np.float64), (np.float32, np.complex64)]
)
def test_a_conversion_converts_tangents_there_and_cotangents_back(dtypes):
    own, other = dtypes
    x = np.array([1.1, 2.2], own)
    lin = linearize(lambda x: x.astype(other) * 2, x)
    assert_same_bits(lin.value, x.astype(other) * 2)
    assert_same_bits(lin.jvp(x), lin.value)
    u = np.array([0.1, 0.2], np.float32)
    assert_same_bits(lin.vjp(u), (u * 2).astype(own))
    assert lin.vjp(lin.value * 1j).dtype == np.result_type(own, np.complex64)  # what is complex stays so
