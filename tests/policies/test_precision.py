"""KL divergences and Fisher norms in a form that doesn't cancel, against arithmetic with 60 digits."""

import decimal
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import Bernoulli, Categorical, DiagGaussian, MultiCategorical
from npTRPO.autograd import grad
from npTRPO.policies.exponential import expm1_minus
from tests.strategies import generators

steps = st.sampled_from([1e-9, 1e-6, 1e-4, 1e-2, 0.3, 3.0, 40.0, 1000.0])
dtypes = st.sampled_from([np.float32, np.float64])


def decimals(x):
    return [Decimal(float(number)) for number in x]


def exact_kl(old, new):
    """Σ π (log π − log π') of softmax distributions, by its definition."""
    with decimal.localcontext(prec=120):
        z, w = decimals(old), decimals(new)
        log_z, log_w = (sum(x.exp() for x in logits).ln() for logits in (z, w))
        return sum(
            ((x - log_z).exp() * ((x - log_z) - (y - log_w)) for x, y in zip(z, w, strict=True)), Decimal(0)
        )


def assert_close(found, exact, dtype, size):
    """Within 30 roundings of the exact value, or of the smallest normal number.

    A logit z enters as log π = z − …, whose rounding of eps |z| is one of π, relatively.
    """
    info = np.finfo(dtype)
    roundings = 30 * (1 + float(size))
    error = abs(Decimal(float(found)) - exact)
    assert found >= 0
    assert error <= Decimal(roundings * float(info.eps)) * exact + Decimal(roundings * float(info.tiny))


def moved(rng, shape, size, step, dtype):
    old = (size * rng.standard_normal(shape)).astype(dtype)
    return old, (old + step * rng.standard_normal(shape)).astype(dtype)


@given(generators(), st.integers(2, 6), st.sampled_from([0.1, 1.0, 10.0]), steps, dtypes)
def test_e16_a_categorical_kl_is_right_to_rounding_however_small_or_large(rng, n, size, step, dtype):
    old, new = moved(rng, (3, n), size, step, dtype)
    for found, z, w in zip(Categorical(old).kl(Categorical(new)), old, new, strict=True):
        assert_close(found, exact_kl(z, w), dtype, np.abs([z, w]).max())


@given(generators(), st.sampled_from([0.1, 1.0, 10.0]), steps, dtypes)
def test_e18_so_is_that_of_bernoulli_and_of_several_categoricals(rng, size, step, dtype):
    old, new = moved(rng, (1, 5), size, step, dtype)
    largest = np.abs([old, new]).max()
    pairs = [exact_kl(np.array([0.0, z]), np.array([0.0, w])) for z, w in zip(old[0], new[0], strict=True)]
    assert_close(Bernoulli(old).kl(Bernoulli(new))[0], sum(pairs, Decimal(0)), dtype, largest)
    parts = exact_kl(old[0, :2], new[0, :2]) + exact_kl(old[0, 2:], new[0, 2:])
    found = MultiCategorical(old, [2, 3]).kl(MultiCategorical(new, [2, 3]))[0]
    assert_close(found, parts, dtype, largest)


@given(generators(), st.sampled_from([1e-9, 1e-6, 1e-4, 1e-2, 0.3, 3.0]), dtypes)
def test_e17_so_is_a_gaussians_where_only_log_std_moves(rng, step, dtype):
    old, new = moved(rng, (1, 3), 1.0, step, dtype)
    mean = np.zeros((1, 3), dtype)
    found = DiagGaussian(mean, old).kl(DiagGaussian(mean, new))[0]
    with decimal.localcontext(prec=120):
        u = [x - y for x, y in zip(decimals(old[0]), decimals(new[0]), strict=True)]
        exact = sum((((2 * x).exp() - 1) / 2 - x for x in u), Decimal(0))
    assert_close(found, exact, dtype, 1.0)


@given(generators(), st.integers(2, 6), steps, st.sampled_from([1e2, -1e4, 5e5]), dtypes)
def test_e16_a_common_part_of_the_logits_costs_no_digits(rng, n, step, shift, dtype):
    old, new = moved(rng, (3, n), 1.0, step, dtype)
    old[0] -= dtype(shift)
    new[1:] += dtype(shift)
    for found, z, w in zip(Categorical(old).kl(Categorical(new)), old, new, strict=True):
        assert_close(found, exact_kl(z, w), dtype, np.abs([z - z.max(), w - w.max()]).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_e16_logits_that_are_moved_together_change_nothing(dtype):
    old = np.array([[1.0, -2.0, 3.0]], dtype)
    for shift in (0.0, 256.0, -1024.0):
        assert Categorical(old).kl(Categorical(old + dtype(shift)))[0] == 0


@given(generators(), st.sampled_from([0.0, 1.0, 1e3]), dtypes)
def test_e24_a_fisher_norm_is_never_negative_and_that_of_the_product(rng, shift, dtype):
    z, v = rng.standard_normal((2, 4, 6)).astype(dtype)
    v = v + dtype(shift)
    for distribution, u in [
        (Categorical(z), v),
        (MultiCategorical(z, [2, 4]), v),
        (Bernoulli(z), v),
        (DiagGaussian(z, z[::-1]), (v, v[::-1])),
    ]:
        form = distribution.fisher_form(u)
        assert np.all(form >= 0)
        product = distribution.fisher_product(u)
        pairs = zip(u, product, strict=True) if isinstance(u, tuple) else [(u, product)]
        expected = sum(np.sum(a.astype(float) * b, axis=-1) for a, b in pairs)
        size = np.finfo(dtype).eps * (1 + shift) ** 2
        np.testing.assert_allclose(form, expected, rtol=1e3 * np.finfo(dtype).eps, atol=100 * size)


def test_e24_a_common_part_of_the_logits_has_no_norm():
    v = np.full((1, 3), 1e6)
    assert Categorical(np.array([[0.1, 0.2, 0.3]])).fisher_form(v)[0] <= 1e-18 * 1e12


@pytest.mark.parametrize("x", [-30.0, -0.125, -1e-9, 0.0, 1e-9, 0.125, 2.0])
def test_exp_less_its_linear_part_has_exact_derivatives(x):
    slope = grad(expm1_minus)
    assert [float(slope(x)), float(grad(slope)(x))] == pytest.approx([np.expm1(x), np.exp(x)], rel=1e-15)
