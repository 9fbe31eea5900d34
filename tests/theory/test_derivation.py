import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

import npTRPO
from npTRPO.theory.checks import Kind
from npTRPO.theory.derivation import CHECKS
from npTRPO.theory.report import drawn_instances
from tests.strategies import instances
from tests.theory.oracles import assert_holds

NUMBERS = [f"E{n}" for n in range(1, 59)]
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.equation.number)


@pytest.mark.parametrize("number", NUMBERS)
@given(instances())
@settings(max_examples=15)
def test_an_equation_holds(number, instance):
    assert_holds(number, instance)


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
@given(instances())
@settings(max_examples=100)
def test_an_equation_holds_on_many_instances(number, instance):
    assert_holds(number, instance)


def docstrings():
    """Of every module, class and function of the package."""
    for file in Path(npTRPO.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield ast.get_docstring(node) or ""


def test_every_number_is_checked_in_order_and_in_the_packages_docstrings():
    assert [check.equation.number for check in CHECKS] == NUMBERS
    written = {number for text in docstrings() for number in re.findall(r"\bE\d+\b", text)}
    assert set(NUMBERS) - written == set()


@each_check
def test_what_computes_an_equation_says_its_number(check):
    assert check.implementations
    for thing, name in zip(check.implementations, check.implemented_by, strict=True):
        assert name.startswith("npTRPO.")
        assert re.search(rf"\b{check.equation.number}\b", thing.__doc__), name


def codes(thing):
    """The code of a function, or of all that a class defines."""
    if not isinstance(thing, type):
        return {inspect.unwrap(thing).__code__}
    functions = (getattr(x, "__func__", getattr(x, "fget", x)) for x in vars(thing).values())
    return {x.__code__ for x in functions if inspect.isfunction(x)}


@each_check
def test_what_is_said_to_compute_an_equation_is_run_by_its_measure(check):
    waiting, ran, outer = set(check.implementations), set(), sys.getprofile()
    for instance in drawn_instances(40, seed=0):  # some measures run a costly function now and then
        sys.setprofile(lambda frame, event, _: ran.add(frame.f_code))
        try:
            check.compare(instance)
        finally:
            sys.setprofile(outer)
        waiting = {thing for thing in waiting if not codes(thing) & ran}
        if not waiting:
            break
    assert waiting == set()


@each_check
def test_a_check_carries_what_a_report_needs(check):
    equation = check.equation
    assert equation.title[0].islower() or equation.title[0] in "CKFGTλ"
    assert 10 < len(equation.title) <= 72
    assert equation.source
    assert re.search(rf"\b{equation.number}\b", check.measure.__doc__ or "")
    assert 0 <= check.tolerance.value <= 1e-9
    assert check.tolerance.reason
    assert (check.kind is Kind.STATISTICAL) == (equation.number in {"E2", "E4", "E9", "E44"})
