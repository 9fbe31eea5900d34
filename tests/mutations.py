"""Wrong versions of the code that someone could well write, and the tests that notice each of them.

A mutation replaces a piece of a function's source by what is wrong, and puts the result in the function's
place, wherever it is used. ``python -m tests.mutations FILE`` runs the tests on all of them in one process
and writes what happened as JSON.
"""

import __future__

import ast
import importlib
import inspect
import json
import sys
import textwrap
import tomllib
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol


@dataclass(frozen=True)
class Mutation:
    """A wrong version of the code.

    Attributes
    ----------
    wrong : str
        What is wrong with it.
    where : str
        The function, as "module:name".
    changes : tuple of pairs of str
        Pieces of its source, each there exactly once, and what takes their place.
    caught_by : tuple of str
        Tests that fail, as "file::name" below tests/.
    raises : str
        What they fail with.
    slip : int, optional
        Which of the slips that are common in write-ups of TRPO it is, 1 to 8.
    """

    wrong: str
    where: str
    changes: tuple[tuple[str, str], ...]
    caught_by: tuple[str, ...]
    raises: str = "AssertionError"
    slip: int | None = None

    def function(self):
        """The function that is changed."""
        module, _, path = self.where.partition(":")
        owner: Any = importlib.import_module(module)
        for name in path.split("."):
            found = inspect.getattr_static(owner, name)
            owner = found if isinstance(found, type) else getattr(owner, name)
        if isinstance(found, property):
            found = found.fget
        elif isinstance(found, cached_property):
            found = found.func
        elif isinstance(found, (classmethod, staticmethod)):
            found = found.__func__
        function = inspect.unwrap(found)
        assert isinstance(function, FunctionType), self.where
        return function

    def code(self):
        """The code of the wrong version."""
        function = self.function()
        source = textwrap.dedent(inspect.getsource(function))
        for right, wrong in self.changes:
            assert source.count(right) == 1, f"{self.where} has {right!r} {source.count(right)} times"
            source = source.replace(right, wrong)
        tree = ast.parse(source)
        [definition] = tree.body
        assert isinstance(definition, ast.FunctionDef)
        definition.decorator_list = []  # they have done their work
        flags = __future__.annotations.compiler_flag
        module = compile(tree, inspect.getsourcefile(function) or "", "exec", flags, dont_inherit=True)
        [code] = [c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__]
        return code

    def apply(self, patch):
        """Make the function wrong, for all who have it."""
        patch.setattr(self.function(), "__code__", self.code())


def read():
    """Read the list, which is data."""
    entries = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["mutation"]
    return tuple(
        Mutation(
            **entry | {"changes": tuple(map(tuple, entry["changes"])), "caught_by": tuple(entry["caught_by"])}
        )
        for entry in entries
    )


MUTATIONS = read()


# --- running them -------------------------------------------------------------------------------------------


class Runner:
    """Runs the tests of a list on the right code and on each wrong version, instead of once each."""

    def __init__(self, mutations):
        self.mutations = mutations
        self.right: dict[str, str] = {}
        """What went wrong in each test on the right code; nothing should."""
        self.caught: dict[str, dict[str, str]] = {}
        """By wrong version and test, the failure."""
        self._raised: BaseException | None = None

    def pytest_runtestloop(self, session):
        items = {item.nodeid.removeprefix("tests/"): item for item in session.items}
        for name, item in items.items():
            self.right[name] = self._failure(item)
        for mutation in self.mutations:
            with pytest.MonkeyPatch.context() as patch:
                mutation.apply(patch)
                names = mutation.caught_by
                self.caught[mutation.wrong] = {name: self._failure(items[name]) for name in names}
        return True

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo is not None and self._raised is None:
            self._raised = call.excinfo.value

    def _failure(self, item):
        """The kind of exception that the test ends with; nothing if it passes."""
        self._raised = None
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # as pytest's first versions don't, if one calls this by oneself
            runtestprotocol(item, nextitem=None, log=False)
        return "" if self._raised is None else type(self._raised).__name__


def run(mutations=MUTATIONS):
    """Run the tests of all the mutations, on the right code and on each wrong version."""
    runner = Runner(mutations)
    root = Path(__file__).parent
    names = sorted({str(root / name) for mutation in mutations for name in mutation.caught_by})
    pytest.main(
        [*names, "-q", "-m", "", "-p", "no:cacheprovider", "--no-header", f"--rootdir={root.parent}"],
        [runner],
    )
    return runner


if __name__ == "__main__":
    done = run()
    Path(sys.argv[1]).write_text(json.dumps({"right": done.right, "caught": done.caught}))
