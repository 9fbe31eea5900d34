import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg

from npTRPO import conjugate_gradient
from npTRPO.trust_region import CGOutcome, CGResult, ConjugateGradient
from tests.policies.oracles import EPS
from tests.strategies import generators, systems

BETAS = ["fletcher-reeves", "polak-ribiere"]
each_beta = pytest.mark.parametrize("beta", BETAS)


class Run(NamedTuple):
    """A solve, with x₀ and every iterate, every residual, and every direction that A was multiplied by."""

    result: CGResult
    xs: list[np.ndarray]
    rs: list[np.ndarray]
    ps: list[np.ndarray]


def solve(A, b, M=None, **options):
    xs, rs, ps = [np.zeros_like(b)], [], []

    def product(p):
        ps.append(p.copy())
        return A @ p

    def precondition(r):
        rs.append(r.copy())
        return r if M is None else M @ r

    result = conjugate_gradient(product, b, M=precondition, callback=xs.append, **options)
    return Run(result, xs, rs, ps)


def scipys(A, b, **options):
    """x₀ and SciPy's iterates; it hands its callback the same array each time."""
    xs = [np.zeros_like(b)]
    cg(A, b, callback=lambda x: xs.append(x.copy()), **options)
    return xs


def solution_error(A, b, run, rtol):
    """Bound of ‖x − A⁻¹b‖ for a solve that converged, and for a direct solve beside it.

    The recursion's residual is within rtol‖b‖; it parts from b − Ax by at most about 10 n k ε ‖A‖ max‖x‖
    (Greenbaum 1997, section 7.3); a direct solve has a backward error of about 10 n ε (Higham 2002,
    section 10.1). The inverse multiplies all of this by 1 / λ_min.
    """
    eigenvalues = np.linalg.eigvalsh(A)
    largest, smallest = eigenvalues[-1], max(eigenvalues[0], EPS)
    rounding = 10 * b.size * (len(run.xs) + 1) * EPS * largest * max(np.linalg.norm(x) for x in run.xs)
    return float((rtol * np.linalg.norm(b) + rounding) / smallest)


# --- against SciPy and a direct solve -------------------------------------------------------------


@each_beta
@pytest.mark.parametrize("is_preconditioned", [False, True])
@given(
    s=systems(max_condition=10.0), other=systems(max_condition=10.0), rng=generators(), at_zero=st.booleans()
)
def test_e33_e34_e35_e37_the_path_is_scipys_to_its_end(beta, is_preconditioned, s, other, rng, at_zero):
    n = min(s.b.size, other.b.size)
    A, b, M = s.A[:n, :n], s.b[:n], other.A[:n, :n]  # leading blocks: positive definite, no worse conditioned
    M = M / np.trace(M) if is_preconditioned else np.eye(n)
    x0 = np.zeros(n) if at_zero else rng.standard_normal(n)
    before = x0.copy()
    run = solve(A, b, M, beta=beta, rtol=1e-6, x0=None if at_zero else x0)
    expected = scipys(A, b, x0=x0, M=M, rtol=1e-6)
    np.testing.assert_array_equal(x0, before)
    assert run.result.iterations == len(run.ps) - (not at_zero) == len(expected) - 1
    # Rounding parts the paths by about n κ ε at each step, and by that over ‖r_k‖ / ‖r₀‖ later on, with
    # κ ≤ 100 and residuals down to 1e-6.
    size = max(np.linalg.norm(x) for x in [x0, *expected])
    np.testing.assert_allclose(run.xs[1:], expected[1:], rtol=0, atol=10 * n * 100 * EPS / 1e-6 * size)


@each_beta
@given(s=systems())
def test_the_solution_is_that_of_a_direct_solve(beta, s):
    # The residual of Fletcher and Reeves's recursion falls without end; with Polak and Ribière's β it may
    # stay at what b − Ax can attain, a multiple of n ε κ.
    rtol = 1e-9 if beta == "fletcher-reeves" else max(1e-9, 100 * s.b.size * EPS * s.condition)
    run = solve(s.A, s.b, rtol=rtol, maxiter=10_000, beta=beta)
    assert run.result.converged
    assert run.result.residual_norm <= rtol * np.linalg.norm(s.b)
    error = np.linalg.norm(run.result.x - np.linalg.solve(s.A, s.b))
    assert error <= solution_error(s.A, s.b, run, rtol)


def test_an_exact_preconditioner_needs_one_step():
    A = np.diag([1.0, 4.0, 16.0])
    result = conjugate_gradient(A, np.ones(3), M=np.diag([1.0, 0.25, 0.0625]), rtol=0.0)
    assert (result.iterations, result.outcome) == (1, CGOutcome.CONVERGED)
    np.testing.assert_array_equal(result.x, [1, 0.25, 0.0625])


def test_an_exact_start_takes_no_step_and_is_not_the_callers_array():
    A, x0 = np.diag([1.0, 2.0]), np.array([3.0, 5.0])
    result = conjugate_gradient(A, A @ x0, x0=x0, rtol=0.0)
    assert (result.iterations, result.residual_norm, result.outcome) == (0, 0.0, CGOutcome.CONVERGED)
    np.testing.assert_array_equal(result.x, x0)
    assert not np.shares_memory(result.x, x0)


def test_a_zero_right_hand_side_has_the_solution_zero():
    result = conjugate_gradient(np.eye(3), np.zeros(3), rtol=0.0)
    assert (result.iterations, result.residual_norm, result.outcome) == (0, 0.0, CGOutcome.CONVERGED)
    np.testing.assert_array_equal(result.x, np.zeros(3))


@given(systems(max_condition=100.0, min_size=2), st.data())
def test_a_singular_consistent_system_gives_the_solution_of_least_norm(s, data):
    rank = data.draw(st.integers(1, s.b.size - 1))
    eigenvalues = np.where(np.arange(s.b.size) < rank, s.eigenvalues, 0)
    A = (s.Q * eigenvalues) @ s.Q.T
    b = A @ s.b
    result = conjugate_gradient((A + A.T) / 2, b, rtol=1e-10)
    expected = s.Q[:, :rank] @ ((s.Q[:, :rank].T @ b) / eigenvalues[:rank])
    assert result.converged
    # As solution_error, with the smallest eigenvalue that isn't zero, 1; b has a share of about n ε ‖A‖ ‖b‖
    # outside the range, which x can take up, divided by residuals that stop at 1e-10.
    kappa = s.condition
    tolerance = (1e-10 + 1e3 * s.b.size * EPS * kappa) * np.linalg.norm(b)
    assert np.linalg.norm(result.x - expected) <= tolerance * kappa


# --- symmetries -----------------------------------------------------------------------------------


@each_beta
@given(s=systems(), powers=st.tuples(st.integers(-60, 60), st.integers(-60, 60)))
def test_e36_scaling_by_powers_of_two_changes_no_bit(beta, s, powers):
    for_A, for_b = (2.0**k for k in powers)
    run, scaled = solve(s.A, s.b, beta=beta), solve(for_A * s.A, for_b * s.b, beta=beta)
    assert scaled.result.outcome is run.result.outcome
    assert scaled.result.iterations == run.result.iterations
    assert scaled.result.residual_norm == for_b * run.result.residual_norm
    for x, y in zip(run.xs, scaled.xs, strict=True):
        np.testing.assert_array_equal(y, x * (for_b / for_A))


def test_e34_the_two_formulas_differ_where_products_are_not_symmetric():
    A = np.array([[2.0, 1.0, 0.0], [-1.0, 3.0, 1.0], [0.0, -1.0, 4.0]])  # vᵀAv > 0, but A isn't symmetric
    b = np.array([1.0, 2.0, 3.0])
    for beta in BETAS:
        run = solve(A, b, beta=beta, maxiter=3)
        for k in (1, 2):
            r, r_new = run.rs[k - 1 : k + 1]
            carried = 0 if beta == "fletcher-reeves" else r_new @ r
            expected = r_new + (r_new @ r_new - carried) / (r @ r) * run.ps[k - 1]
            np.testing.assert_allclose(run.ps[k], expected, rtol=100 * EPS)
        assert abs(r_new @ r) > 1e-3 * (r_new @ r_new)  # the second β is another one by the other formula


THREE, ONES = np.diag([1.0, 2.0, 4.0]), np.ones(3)

# --- outcomes -------------------------------------------------------------------------------------


def after(n, spoil, A):
    """Products with A, of which those after the first ``n`` are spoiled."""
    calls = iter(range(1000))
    return lambda v: A @ v if next(calls) < n else spoil(A @ v)


@given(systems(max_condition=100.0, min_size=2), st.integers(0, 5))
def test_at_the_iteration_limit_x_is_the_last_iterate(s, maxiter):
    run = solve(s.A, s.b, rtol=0.0)
    assume(len(run.xs) > maxiter + 1)
    limited = solve(s.A, s.b, rtol=0.0, maxiter=maxiter)
    assert limited.result.outcome is CGOutcome.MAXITER
    assert limited.result.iterations == maxiter == len(limited.xs) - 1
    np.testing.assert_array_equal(limited.result.x, run.xs[maxiter])
    assert limited.result.residual_norm == pytest.approx(np.linalg.norm(run.rs[maxiter]), rel=20 * EPS)
    assert len(limited.ps) == maxiter  # as many products as steps


def test_unless_told_otherwise_the_limit_is_ten_steps_per_unknown():
    rotating = np.array([[1.0, -3.0, 0.0], [3.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # pᵀAp > 0, but no symmetry
    assert conjugate_gradient(rotating, ONES, rtol=0.0).iterations == 30
    assert conjugate_gradient(THREE, ONES, rtol=1e-12).iterations == 3


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("spoiled", ["A", "M"])
def test_after_a_product_that_is_not_finite_x_is_the_iterate_before(steps, bad, spoiled):
    A = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])
    b = np.array([1.0, 2.0, 3.0])
    good = solve(A, b, rtol=0.0)
    spoil = after(steps, lambda v: np.where(np.arange(3) == 1, bad, v), A if spoiled == "A" else np.eye(3))
    options = {"A": spoil, "M": None} if spoiled == "A" else {"A": A, "M": spoil}
    result = conjugate_gradient(b=b, rtol=0.0, **options)
    assert result.outcome is CGOutcome.NOT_FINITE
    assert result.iterations == steps
    np.testing.assert_array_equal(result.x, good.xs[steps])


def test_negative_curvature_keeps_the_iterate_before_it():
    # b has its residual along the negative direction only after the first step.
    A = np.diag([1.0, 10.0, -0.01])
    run = solve(A, np.array([1.0, 1.0, 0.1]), rtol=0.0)
    assert run.result.outcome is CGOutcome.NEGATIVE_CURVATURE
    assert run.result.iterations == len(run.xs) - 1 > 0
    np.testing.assert_array_equal(run.result.x, run.xs[-1])
    assert run.ps[-1] @ A @ run.ps[-1] <= 0
    assert all(p @ A @ p > 0 for p in run.ps[:-1])


def test_zero_curvature_is_no_step_either():
    result = conjugate_gradient(np.zeros((2, 2)), np.ones(2))
    assert (result.outcome, result.iterations) == (CGOutcome.NEGATIVE_CURVATURE, 0)
    np.testing.assert_array_equal(result.x, 0)


def test_an_indefinite_preconditioner_keeps_the_iterate_before_it():
    M = np.diag([1.0, 1.0, -1.0])
    b = np.array([1.0, 1.0, 0.1])  # bᵀMb > 0, but the first step leaves most residual in the third place
    run = solve(np.diag([1.0, 1.0, 5.0]), b, M, rtol=0.0)
    assert run.result.outcome is CGOutcome.INDEFINITE_PRECONDITIONER
    assert run.result.iterations == len(run.xs) - 1 > 0
    np.testing.assert_array_equal(run.result.x, run.xs[-1])
    assert run.rs[-1] @ M @ run.rs[-1] <= 0
    assert all(r @ M @ r > 0 for r in run.rs[:-1])


# --- E37, to the bit ------------------------------------------------------------------------------


@given(systems(max_condition=100.0, min_size=2), st.data())
def test_e37_the_iteration_ends_at_the_first_residual_within_the_tolerance(s, data):
    b = np.zeros(s.b.size)
    b[0] = 4.0  # whose norm, and so rtol‖b‖, is exact
    norms = [float(np.sqrt(np.dot(r, r))) for r in solve(s.A, b, rtol=0.0, maxiter=s.b.size).rs]
    norm = data.draw(st.sampled_from([norm for norm in norms if norm > 0]))
    for tolerance in (norm, np.nextafter(norm, 0), np.nextafter(norm, 10)):
        expected = next((k for k, r in enumerate(norms) if r <= tolerance), None)
        assume(expected is not None)
        for options in (
            {"rtol": 0.0, "atol": tolerance},
            {"rtol": tolerance / 4},
            {"rtol": tolerance / 4, "atol": tolerance / 2},
            {"rtol": tolerance / 8, "atol": tolerance},
        ):
            result = conjugate_gradient(s.A, b, **options)
            assert result.outcome is CGOutcome.CONVERGED
            assert result.iterations == expected
            assert result.residual_norm == norms[expected]


# --- inputs ---------------------------------------------------------------------------------------


def in_one_buffer(A):
    """Products with A that are all written to the same array."""
    buffer = np.empty(len(A))
    return lambda v: np.matmul(A, v, out=buffer)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda A: A,
        lambda A: A.tolist(),
        lambda A: lambda v: A @ v,
        aslinearoperator,
        scipy.sparse.csr_array,
        in_one_buffer,
    ],
    ids=["array", "list", "callable", "LinearOperator", "sparse", "buffer"],
)
@pytest.mark.parametrize("role", ["A", "M"])
@given(s=systems(max_condition=10.0))
def test_a_matrix_may_be_given_in_any_form(wrap, role, s):
    expected = solve(s.A, s.b, None if role == "A" else s.A, rtol=1e-6).result
    options = {"A": wrap(s.A)} if role == "A" else {"A": s.A, "M": wrap(s.A)}
    result = conjugate_gradient(b=s.b, rtol=1e-6, **options)
    assert (result.outcome, result.iterations) == (expected.outcome, expected.iterations)
    atol = 10 * s.b.size * 100 * EPS / 1e-6 * np.linalg.norm(expected.x)  # as above
    np.testing.assert_allclose(result.x, expected.x, rtol=0, atol=atol)


@each_beta
@given(s=systems(max_condition=1e4))
def test_neither_b_nor_earlier_iterates_are_changed(beta, s):
    b, seen, copies = s.b.copy(), [], []

    def callback(x):
        seen.append(x)
        copies.append(x.copy())

    conjugate_gradient(s.A, b, beta=beta, callback=callback)
    np.testing.assert_array_equal(b, s.b)
    assert len(seen) >= 1
    for kept, copy in zip(seen, copies, strict=True):
        np.testing.assert_array_equal(kept, copy)


@each_beta
@pytest.mark.parametrize("dtype_of_A", [np.float32, np.float64])
@given(s=systems(max_condition=100.0))
def test_float32_stays_float32(beta, dtype_of_A, s):
    b = s.b.astype(np.float32)
    A = s.A.astype(np.float32).astype(dtype_of_A)
    M = np.eye(b.size, dtype=dtype_of_A)
    run = solve(A, b, M, rtol=1e-3, beta=beta)
    assert run.result.x.dtype == np.float32
    assert {v.dtype for v in run.xs + run.rs + run.ps} == {np.dtype(np.float32)}
    assert run.result.converged
    rounding = np.finfo(np.float32).eps / EPS
    error = np.linalg.norm(run.result.x - np.linalg.solve(s.A, s.b))
    assert error <= rounding * solution_error(s.A, s.b, run, 1e-3 / rounding)


@pytest.mark.parametrize("size", [1e20, 1e-24])
def test_in_float32_right_hand_sides_may_be_huge_or_tiny(size):
    """Their squares are out of float32's range, and inner products are float64's."""
    b = np.full(3, size, np.float32)
    with np.errstate(over="ignore"):  # float32's would end NOT_FINITE, or CONVERGED at once with x = 0
        result = conjugate_gradient(THREE.astype(np.float32), b, rtol=1e-5)
    assert (result.outcome, result.iterations) == (CGOutcome.CONVERGED, 3)
    assert result.x.dtype == np.float32
    np.testing.assert_allclose(result.x / size, [1, 0.5, 0.25], rtol=1e-5)


def test_integers_are_solved_in_float64():
    result = conjugate_gradient([[2, 0], [0, 4]], [2, 2])
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.x, [1, 0.5], rtol=20 * EPS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b": np.ones((3, 1))}, "b must be a vector of finite real numbers"),
        ({"b": np.array([1, np.nan, 1])}, "b must be a vector of finite real numbers"),
        ({"b": np.array([1, np.inf, 1])}, "b must be a vector of finite real numbers"),
        ({"b": np.array([1j, 0, 0])}, "b must be a vector of finite real numbers"),
        ({"x0": np.ones(2)}, r"x0 must have the shape of b, \(3,\), not \(2,\)"),
        ({"beta": "hestenes-stiefel"}, "beta must be 'fletcher-reeves' or 'polak-ribiere'"),
        ({"rtol": -1e-3}, "rtol and atol must not be negative"),
        ({"atol": -1.0}, "rtol and atol must not be negative"),
        ({"rtol": np.nan}, "rtol and atol must not be negative"),
        ({"maxiter": -1}, "maxiter must not be negative"),
        ({"A": np.eye(2)}, r"A must have shape \(3, 3\), as b has 3 elements, not \(2, 2\)"),
        ({"A": [[1.0, 2.0]]}, r"A must have shape \(3, 3\), as b has 3 elements, not \(1, 2\)"),
        ({"A": aslinearoperator(np.eye(2))}, r"A must have shape \(3, 3\)"),
        ({"M": np.ones(3)}, r"M must have shape \(3, 3\), as b has 3 elements, not \(3,\)"),
        ({"A": lambda v: v[:, None]}, r"A must give a product of shape \(3,\), not \(3, 1\)"),
        ({"M": lambda r: r[:2]}, r"M must give a product of shape \(3,\), not \(2,\)"),
    ],
)
def test_ill_shaped_input_and_options_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        conjugate_gradient(**{"A": np.eye(3), "b": np.ones(3), **changes})


def test_results_and_solvers_are_frozen():
    solver = ConjugateGradient(rtol=1e-3)
    for frozen, name in ((solver, "rtol"), (solver.solve(THREE, ONES), "iterations")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(frozen, name, 0)


@pytest.mark.parametrize(
    "settings", [{"rtol": 0.3}, {"rtol": 0, "atol": 0.3}, {"maxiter": 1}, {"beta": BETAS[1]}]
)
def test_a_solver_solves_with_its_settings(settings):
    options = {"M": np.diag([1.0, 0.4, 0.3]), "x0": np.array([0.5, 0.0, 0.0])}
    result, expected = (
        ConjugateGradient(**settings).solve(THREE, ONES, **options),
        conjugate_gradient(THREE, ONES, **options, **settings),
    )
    np.testing.assert_array_equal(result.x, expected.x)
    assert (result.outcome, result.iterations) == (expected.outcome, expected.iterations)


def test_a_linear_operator_is_only_asked_for_its_products():
    products = []

    def matvec(v):
        products.append(v.copy())
        return THREE @ v

    operator = LinearOperator((3, 3), matvec=matvec, dtype=np.float64)
    result = conjugate_gradient(operator, ONES)
    assert len(products) == result.iterations
