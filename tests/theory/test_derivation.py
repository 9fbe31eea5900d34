import ast
import re
from pathlib import Path

import pytest
from hypothesis import given

import npTRPO
from npTRPO.theory.checks import Kind
from npTRPO.theory.derivation import CHECKS
from tests.strategies import instances
from tests.theory.oracles import assert_holds

NUMBERS = [f"E{n}" for n in range(1, 45)]
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.equation.number)


@pytest.mark.parametrize("number", NUMBERS)
@given(instances())
def test_an_equation_holds(number, instance):
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
