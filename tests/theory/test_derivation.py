import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import npTRPO
from npTRPO.theory.derivation import STATEMENTS
from npTRPO.theory.checks import Kind, Statement

PACKAGE = Path(npTRPO.__file__).parent
TESTS = Path(__file__).parents[1]
NUMBERS = [f"E{n}" for n in range(1, 45)]


def docstrings() -> Iterator[str]:
    """Of every module, class and function of the package."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield ast.get_docstring(node) or ""


def test_names() -> Iterator[str]:
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node.name


test_names.__test__ = False  # type: ignore[attr-defined]


def resolved(name: str) -> Any:
    """The object with a qualified name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise LookupError(name)


def test_every_number_has_a_statement_in_order() -> None:
    assert [statement.number for statement in STATEMENTS] == NUMBERS


def test_every_number_is_in_the_packages_docstrings() -> None:
    written = {number for text in docstrings() for number in re.findall(r"\bE\d+\b", text)}
    assert set(NUMBERS) - written == set()


def test_every_number_is_in_the_name_of_a_test() -> None:
    named = {f"E{n}" for name in test_names() for n in re.findall(r"(?<=_)e(\d+)(?=_|$)", name)}
    assert set(NUMBERS) - named == set()


def test_every_slip_has_a_test() -> None:
    named = {int(n) for name in test_names() for n in re.findall(r"^test_slip_(\d+)_", name)}
    assert named == set(range(1, 9))


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.number)
def test_what_implements_a_statement_says_its_number(statement: Statement) -> None:
    assert statement.implemented_by
    for name in statement.implemented_by:
        assert name.startswith("npTRPO.")
        assert re.search(rf"\b{statement.number}\b", resolved(name).__doc__), name


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.number)
def test_a_statement_carries_what_a_report_needs(statement: Statement) -> None:
    assert statement.title[0].islower() or statement.title[0] in "CKFGTλ"
    assert 10 < len(statement.title) <= 72
    assert statement.source
    assert statement.mathml.startswith("<math")
    assert re.search(rf"\b{statement.number}\b", statement.measure.__doc__ or "")
    assert 0 <= statement.tolerance <= 1e-9
    assert statement.reason
    assert (statement.kind is Kind.STATISTICAL) == (statement.number in {"E2", "E4", "E9", "E44"})
