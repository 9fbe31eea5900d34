from fractions import Fraction

import numpy as np
import pytest

from npTRPO import gae
from npTRPO.theory import proofs
from npTRPO.theory.proofs import PROOFS, prove
from npTRPO.theory.residues import PRIME, Residue, distributions, drawn, solve


def residue(number):
    return Residue(number.numerator) / number.denominator


def test_residues_are_fractions_modulo_a_prime():
    assert pow(3, PRIME - 1, PRIME) == 1
    a, b = Fraction(7, 3), Fraction(-5, 11)
    x, y = residue(a), residue(b)
    for exact, ours in (
        (a + b, x + y),
        (a - b, x - y),
        (a * b, x * y),
        (a / b, x / y),
        (a**5, x**5),
        (-a, -x),
        (2 - a, 2 - x),
        (3 / a, 3 / x),
        (1 + a, 1.0 + x),
        (2 * a, np.int64(2) * x),
    ):
        assert ours == residue(exact)
    assert x != y
    assert 0 <= x <= 1
    with pytest.raises(TypeError):
        x + 0.5


def test_systems_of_residues_are_solved_and_rows_have_sum_one():
    rng = np.random.default_rng(0)
    matrix, right = drawn(rng, 4, 4), drawn(rng, 4, 2)
    matrix[0, 0] = Residue(0)
    assert np.all(matrix @ solve(matrix, right) == right)
    assert np.all(np.sum(distributions(rng, 3, 2, 4), axis=-1) == 1)


def test_gae_of_residues_is_gae_of_fractions():
    rewards, values, after = (
        [Fraction(number, 30) for number in row] for row in ((10, -12, 120), (7, 60, 45), (60, 45, 0))
    )
    gamma, lam = Fraction(9, 10), Fraction(1, 2)
    expected = Fraction(0)
    for reward, here, there in reversed(list(zip(rewards, values, after, strict=True))):
        expected = reward + gamma * there - here + gamma * lam * expected
    arrays = [np.array(list(map(residue, row)), dtype=object) for row in (rewards, values, after)]
    end = np.arange(3) == 2
    assert gae(*arrays, end, ~end & end, residue(gamma), residue(lam))[0] == residue(expected)


def test_every_identity_is_zero_at_every_point_tried():
    for seed in range(5):
        found = prove(np.random.default_rng(seed))
        assert all(found.values())
        assert sorted(found) == sorted(number for numbers in PROOFS.values() for number in numbers)


def test_every_equation_that_a_proof_is_registered_for_is_compared():
    for proof, numbers in PROOFS.items():
        assert {number for number, _, _ in proof(np.random.default_rng(0))} == set(numbers)


def test_an_identity_that_is_off_at_one_place_is_not_proved(monkeypatch):
    right = proofs.gae_bias
    monkeypatch.setattr(proofs, "gae_bias", lambda *arguments: right(*arguments) * 2)
    found = prove(np.random.default_rng(0))
    assert [number for number, equal in found.items() if not equal] == ["E43"]


def test_a_function_that_raises_proves_nothing(monkeypatch):
    monkeypatch.setattr(proofs, "k_step_estimates", None)
    found = prove(np.random.default_rng(0))
    assert {number for number, equal in found.items() if not equal} == {"E39", "E40", "E41", "E42"}
