import math
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.special

from npTRPO.autograd import (
    LinearMap,
    check_derivatives,
    define_rule,
    grad,
    hessian,
    jacobian,
    jvp,
    linearize,
    primitive,
    vjp,
)
from tests.autograd.oracles import assert_same_bits, each_of

X = np.array([[1.0, 2.0], [3.0, 4.0]])


def run(f, x=X):
    return linearize(f, x)


# --- what can't be differentiated says so, where it was used --------------------------------------------


def write_into(x):
    x += 1
    return x


def add_to_plain(x):
    total = np.zeros((2, 2))
    total += x
    return total


def assign(x):
    x[0] = 1.0
    return x


def assign_to_plain(x):
    total = np.zeros((2, 2))
    total[:] = x
    return total


def assign_element(x):
    total = np.zeros(2)
    total[0] = x[0, 0]
    return total


WITHOUT_RULE = [
    ("np.linalg.svd", np.linalg.svd),
    ("scipy.special.ellipk", scipy.special.ellipk),
    ("np.linalg.norm", lambda x: np.linalg.norm(x, "nuc")),
    ("np.pad", lambda x: np.pad(x, 1, "mean")),
    ("np.reshape", lambda x: np.reshape(x, 4, order="A")),
    ("np.absolute of complex numbers", lambda x: abs(x * 1j)),
    ("np.sign of complex numbers", lambda x: np.sign(x * 1j)),
    ("np.real of complex numbers", lambda x: np.real(x * 1j)),
    ("np.imag of complex numbers", lambda x: (x * 1j).imag),
    ("np.conjugate of complex numbers", lambda x: np.conj(x * 1j)),
    ("np.linalg.norm of complex numbers", lambda x: np.linalg.norm(x * 1j)),
    ("np.var of complex numbers", lambda x: np.std(x * 1j)),
    ("np.vdot of complex numbers", lambda x: np.vdot(x * 1j, x)),
    ("np.linalg.slogdet of complex numbers", lambda x: np.linalg.slogdet(x * 1j)),
    ("np.linalg.cholesky of complex numbers", lambda x: np.linalg.cholesky(x @ x.T + 0j)),
    ("np.copyto", lambda x: np.copyto(np.ones((2, 2)), x)),
    ("np.divmod", lambda x: divmod(x, 2)),
    ("np.where", lambda x: np.where(x, x, 0.0)),
    ("np.add.reduce", np.add.reduce),
    ("np.multiply.outer", lambda x: np.multiply.outer(x, x)),
    ("np.add.at", lambda x: np.add.at(x, 0, 1.0)),
    ("np.add.accumulate", np.add.accumulate),
    ("np.exp with where", lambda x: np.exp(x, where=x > 1)),
    ("np.add with dtype", lambda x: np.add(x, x, dtype=np.float32)),
    ("np.matmul with axes", lambda x: np.matmul(x, x, axes=[(0, 1)] * 3)),
]
UNKNOWN_OPTIONS = [
    ("np.max", "where", lambda x: np.max(x, where=x > 1, initial=0)),
    ("np.einsum", "dtype", lambda x: np.einsum("ij->i", x, dtype=np.float32)),
    ("np.concatenate", "dtype", lambda x: np.concatenate([x, x], dtype=np.float32)),
]
PLAIN = "can't be turned into a plain one .* use np.stack"
TYPE_ERRORS = {
    "out=": (lambda x: np.exp(x, out=np.ones((2, 2))), "np.exp would write into .* do without out="),
    "out= of a reduction": (
        lambda x: np.mean(x, 0, out=np.ones(2)),
        "np.mean would write into .* without out=",
    ),
    "out= of a rearrangement": (lambda x: np.take(x, [0], out=np.ones(1)), "np.take would write into"),
    "x += 1": (write_into, r"np.add would write into .* x = x \+ y instead of x \+= y"),
    "plain += x": (add_to_plain, "np.add would write into an existing array"),
    "x[0] = 1": (assign, "can't be assigned to in place: .* np.where, np.concatenate or np.stack"),
    "plain[:] = x": (assign_to_plain, PLAIN),
    "np.asarray": (np.asarray, PLAIN),
    "np.array": (np.array, PLAIN),
    "np.array of parts": (lambda x: np.array([x[0, 0], x[1, 1]]), PLAIN),
    "a SciPy function": (scipy.special.softmax, "and logsumexp, log_softmax and softmax of npTRPO.autograd"),
    "plain[0] = x": (
        assign_element,
        "assigning to an element of a plain array build the result with np.stack",
    ),
    "a function of math": (lambda x: math.exp(x[0, 0]), "use NumPy's functions instead of those of math"),
    "item()": (lambda x: x[0, 0].item(), r"item\(\) and tolist\(\) .* would lose its derivative"),
    "tolist()": (lambda x: x.tolist(), "would lose its derivative"),
    "sort in place": (lambda x: x.sort(), r"write x = np.sort\(x\), not x.sort\(\)"),
    "a conversion to integers": (lambda x: x.astype(int), "float64 .* can't be converted to int64"),
    "a conversion to booleans": (lambda x: x.astype(bool), "can't be converted to bool"),
    "a conversion to real numbers": (lambda x: (x * 1j).astype(float), "complex128 .* to float64"),
    "a fill of integers": (lambda x: np.full_like(x, x[0, 0], dtype=int), "can't be converted to int64"),
    "float()": (lambda x: float(x[0, 0]), r"float\(\) .* would lose its derivative"),
    "complex()": (lambda x: complex(x[0, 0]), "would lose its derivative"),
    "int()": (lambda x: int(x[0, 0]), "int"),
    "len of a scalar": (lambda x: len(x[0, 0]), "len"),
    "iteration over a scalar": (lambda x: list(x[0, 0]), "len"),
}
nested = pytest.mark.parametrize(
    "nest", [lambda f: f, lambda f: lambda x: run(f, x).value], ids=["", "nested"]
)


@pytest.mark.parametrize(("name", "f"), [pytest.param(*case, id=case[0]) for case in WITHOUT_RULE])
@nested
def test_a_function_without_a_rule_is_refused_by_name(nest, name, f):
    with pytest.raises(NotImplementedError, match=f"^{re.escape(name)} has no derivative rule"):
        run(nest(f))


@pytest.mark.parametrize(
    ("name", "option", "f"), [pytest.param(*case, id=" ".join(case[:2])) for case in UNKNOWN_OPTIONS]
)
@nested
def test_an_option_that_a_rule_does_not_know_is_refused_by_name(nest, name, option, f):
    message = f"^no derivative rule for this call of {re.escape(name)}: .*'{option}'"
    with pytest.raises(NotImplementedError, match=message):
        run(nest(f))


@each_of("f, message", TYPE_ERRORS)
@nested
def test_what_would_lose_derivatives_is_refused(nest, f, message):
    with pytest.raises(TypeError, match=message):
        run(nest(f))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tofile", "ndarray.tofile has no derivative rule"),
        ("nonsense", "'Box' object has no attribute 'nonsense'"),
    ],
)
def test_a_method_without_a_rule_is_no_attribute(name, message):
    with pytest.raises(AttributeError, match=message):
        run(lambda x: getattr(x, name)())


def test_the_error_is_raised_at_the_line_that_used_the_function():
    def f(x):
        y = np.tanh(x)
        z = np.nancumsum(y)  # this line
        return np.sum(z)

    with pytest.raises(NotImplementedError, match=r"np\.nancumsum has no derivative rule") as info:
        grad(f)(X)
    ours = [str(entry.statement).strip() for entry in info.traceback if Path(entry.path) == Path(__file__)]
    assert ours[-1] == "z = np.nancumsum(y)  # this line"


def test_a_type_error_from_inside_a_composition_keeps_its_message():
    with pytest.raises(TypeError, match="'str' object cannot be interpreted as an integer"):
        run(lambda x: np.swapaxes(x, "rows", 0))


# --- boxes ------------------------------------------------------------------------------------------------


def test_a_box_looks_like_the_array_it_holds():
    def f(x):
        assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2, 2), 2, 4, np.float64, 2)
        assert repr(x) == f"Box({X!r})"
        assert f"{x[0, 0]:.2f}" == "1.00"
        assert bool(x[0, 0] > 0)
        assert x[0, 0]
        assert not x[0, 0] - 1
        assert [row.shape for row in x] == [(2,), (2,)]
        return x

    assert_same_bits(run(f).value, X)


def test_a_truth_value_of_many_is_as_ambiguous_as_in_numpy():
    with pytest.raises(ValueError, match="ambiguous"):
        run(lambda x: x if x else -x)


def test_numpy_hands_reflected_operations_to_the_box():
    for number in (2, 2.0, np.float64(2), np.array(2.0), np.full((2, 2), 2.0)):
        lin = run(lambda x, number=number: number * x - number / x)
        np.testing.assert_array_equal(lin.value, 2 * X - 2 / X)
        np.testing.assert_array_equal(lin.vjp(np.ones((2, 2))), 2 + 2 / X / X)


ESCAPES = {
    "x + 1": lambda x: x + 1,
    "1 - x": lambda x: 1 - x,
    "x @ y": lambda x: x @ X,
    "x[0]": lambda x: x[0],
    "np.sum": np.sum,
    "np.stack": lambda x: np.stack([X, x]),
    "x.T": lambda x: x.T,
}


@each_of("use", ESCAPES)
def test_a_box_that_outlives_its_trace_is_refused(use):
    escaped = []
    run(lambda x: escaped.append(x) or x)
    with pytest.raises(RuntimeError, match="a differentiation that has already ended"):
        use(escaped[0])
    # Nor can a later differentiation take it for one of its own, which would give a wrong gradient.
    with pytest.raises(RuntimeError, match="a differentiation that has already ended"):
        grad(lambda y: np.sum(y * use(escaped[0])))(X)
    with pytest.raises(RuntimeError, match="a differentiation that has already ended"):
        grad(lambda y: np.sum(y * escaped[0]))(X)


def test_a_box_of_an_inner_differentiation_that_has_ended_is_refused_by_the_outer_one():
    def f(x):
        escaped = []
        grad(lambda y: escaped.append(y) or np.sum(y))(x)
        return np.sum(x * escaped[0])

    with pytest.raises(RuntimeError, match="already ended"):
        grad(f)(X)


def test_a_trace_is_closed_also_by_an_exception():
    escaped = []

    def f(x):
        escaped.append(x)
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        grad(f)(X)
    with pytest.raises(RuntimeError, match="already ended"):
        escaped[0] + 1
    np.testing.assert_array_equal(grad(np.sum)(X), np.ones((2, 2)))


# --- define_rule and primitive ----------------------------------------------------------------------------


def test_a_rule_of_partial_derivatives_is_differentiable_and_broadcasts():
    atan2 = primitive(lambda y, x: np.arctan2(np.real(y), np.real(x)))
    define_rule(atan2, lambda ans, y, x: x / (x * x + y * y), lambda ans, y, x: -y / (x * x + y * y))
    y, x = np.array([[0.5], [1.5]]), np.array([1.0, 2.0, 3.0])
    assert_same_bits(linearize(lambda yx: atan2(*yx), (y, x)).value, np.arctan2(y, x))
    check_derivatives(lambda yx: atan2(*yx), (y, x), method="central difference")


@pytest.mark.parametrize("partial", [1, -1, 2, 1.0, -0.5])
def test_a_partial_derivative_that_is_a_number_broadcasts_both_ways(partial):
    add = primitive(lambda x, y: partial * (x + y))
    define_rule(add, *[lambda ans, x, y: partial] * 2)
    x, y = np.ones((2, 1)), np.ones(3)
    check_derivatives(lambda xy: add(*xy), (x, y))
    check_derivatives(lambda x: add(x, y), x)
    check_derivatives(lambda y: add(x, y), y)


def test_a_rule_of_linear_maps():
    rotate = primitive(lambda x: np.roll(x, 1))
    define_rule(rotate, lambda ans, x: LinearMap(rotate, lambda g: g[[1, 2, 0]]))
    np.testing.assert_array_equal(jacobian(rotate)(np.ones(3)), np.roll(np.eye(3), 1, axis=0))
    check_derivatives(lambda x: rotate(x * x) * x, np.array([1.0, 2.0, 3.0]))


def test_a_rule_sees_the_answer_the_arguments_and_the_keywords():
    seen = []
    scale = primitive(lambda x, y, *, by=1.0: x * y * by)

    def partial(ans, x, y, *, by=1.0):
        seen.append((ans, x, y, by))
        return y * by

    define_rule(scale, partial, None)
    assert grad(lambda x: scale(x, 3.0, by=2.0))(5.0) == 6
    assert seen == [(30, 5, 3, 2)]
    assert grad(lambda x: scale(x, 3.0))(5.0) == 3


def test_a_derivative_of_none_or_left_out_is_refused_only_when_it_is_needed():
    weigh = primitive(lambda x, weight, bias: x * weight + bias)
    define_rule(weigh, lambda ans, x, weight, bias: weight, None)
    assert grad(lambda x: weigh(x, 3.0, 1.0))(2.0) == 3
    with pytest.raises(NotImplementedError, match="for its argument number 2"):
        grad(lambda w: weigh(2.0, w, 1.0))(3.0)
    with pytest.raises(NotImplementedError, match="argument number 3"):
        grad(lambda b: weigh(2.0, 3.0, b))(1.0)


def test_a_primitive_without_a_rule_says_its_name():
    @primitive
    def mystery(x):
        return x

    assert mystery(2.0) == 2
    with pytest.raises(NotImplementedError, match=r"define_rule\(mystery, \.\.\.\)"):
        grad(mystery)(2.0)


def test_a_traced_keyword_of_a_primitive_is_refused():
    shift = primitive(lambda x, *, by: x + by)
    define_rule(shift, lambda ans, x, *, by: 1)
    assert grad(lambda x: shift(x, by=2.0))(1.0) == 1
    with pytest.raises(NotImplementedError, match="has no derivative rule"):
        grad(lambda x: shift(1.0, by=x))(2.0)


def test_a_primitive_never_sees_a_box_and_keeps_its_name_and_docstring():
    seen = []

    @primitive
    def spy(x):
        """Look at x."""
        seen.append(type(x))
        return np.sin(x)

    define_rule(spy, lambda ans, x: np.cos(x))
    hessian(lambda x: np.sum(spy(x)))(np.ones(2))
    assert set(seen) == {np.ndarray}
    assert (spy.__name__, spy.__doc__) == ("spy", "Look at x.")


@pytest.mark.parametrize("number", [float, np.float64, np.array], ids=lambda f: f.__name__)
def test_a_primitive_may_return_a_python_number(number):
    square = primitive(lambda x: number(x * x))
    define_rule(square, lambda ans, x: 2 * x)
    f = grad(lambda x: np.sum(square(x)) * square(x).ndim + np.maximum(square(x), 1.0))
    assert f(3.0) == 6


def test_the_last_rule_counts():
    step = primitive(np.sin)
    define_rule(step, lambda ans, x: 0 * x)
    define_rule(step, lambda ans, x: np.cos(x))
    assert grad(step)(0.0) == 1


def test_a_function_of_scipy_gets_a_rule():
    define_rule(scipy.special.exp1, lambda ans, x: -np.exp(-x) / x)
    check_derivatives(scipy.special.exp1, X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("np.sin", np.cos), "needs a function to define a rule for, not 'np.sin'"),
        ((np.sin,), r"define_rule\(np\.sin\) needs one derivative for each positional argument"),
    ],
)
def test_define_rule_refuses_what_is_no_rule(arguments, message):
    with pytest.raises(TypeError, match=message):
        define_rule(*arguments)


# --- threads ------------------------------------------------------------------------------------------------


def test_threads_that_differentiate_at_the_same_time_do_not_disturb_each_other():
    meet, results = threading.Barrier(2, timeout=30), {}

    def f(x):
        y = np.tanh(x @ x.T)
        meet.wait()  # both threads are now in the middle of a trace of their own, and of a nested one
        return np.sum(y * grad(lambda z: (meet.wait(), np.sum(np.sin(z) * x))[1])(x))

    def work(name, x):
        results[name] = (grad(f)(x), jvp(f, x, x)[1], vjp(f, x)[1](2.0))

    points = {"one": X / 4, "two": X.T / 3}
    threads = [threading.Thread(target=work, args=item) for item in points.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, x in points.items():
        meet = threading.Barrier(1)
        for concurrent, alone in zip(
            results[name], (grad(f)(x), jvp(f, x, x)[1], vjp(f, x)[1](2.0)), strict=True
        ):
            assert_same_bits(concurrent, alone)


def test_deep_code_needs_no_recursion():
    def f(x):
        for _ in range(2 * sys.getrecursionlimit()):
            x = x + 1.0
        return x

    assert grad(f)(0.0) == 1
