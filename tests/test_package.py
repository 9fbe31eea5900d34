"""What holds for the package as a whole, read from its sources and seen in a fresh process."""

import ast
import dataclasses
import graphlib
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import npTRPO

ROOT = Path(npTRPO.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
MODULES = ["npTRPO", *sorted(m.name for m in pkgutil.walk_packages(npTRPO.__path__, "npTRPO."))]
FRAMEWORKS = ("torch", "tensorflow", "jax", "flax", "mxnet", "paddle", "keras", "theano")

# The rooms by floor: imports stay in a room, or point to a floor below. The command's files are one room.
FLOORS = [
    ("_typing", "_checks"),
    ("autograd", "files"),
    ("policies",),
    ("trust_region", "sampling"),
    ("agent", "theory"),
    ("runs", "theory_page"),
    ("cli __main__",),
    ("__init__",),
]
FLOOR = {name: floor for floor, rooms in enumerate(FLOORS) for room in rooms for name in room.split()}
FLOOR["_version"] = 0
ROOM = {name: room for rooms in FLOORS for room in rooms for name in room.split()}
ROOM["_version"] = "_version"

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


def room_of(parts):
    """The name of the room that a module is in, by the parts of its name after npTRPO."""
    return parts[0] if parts else "__init__"


def imported(tree, package):
    """What a module imports, wherever in it, as absolute dotted names; ``package`` is where it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                yield ".".join([*base, alias.name])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def upward_imports(source, parts):
    """The imports of a module that don't stay in its room and don't point down."""
    room = room_of(parts)
    found = []
    for name in imported(ast.parse(source), ["npTRPO", *parts[:-1]]):
        top, *rest = name.split(".")
        if top != "npTRPO":
            continue
        other = rest[0] if rest and rest[0] in FLOOR else "__init__"
        if ROOM[other] != ROOM[room] and FLOOR[other] >= FLOOR[room]:
            found.append(name)
    return found


def parts_of(path):
    """The dotted name of a source after npTRPO, in parts; a package's __init__ is the package's last part."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return list(parts)


# --- imports ---------------------------------------------------------------------------------------------


def test_every_room_is_on_a_floor():
    rooms = {parts_of(path)[0] for path in SOURCES}
    assert {"autograd", "policies", "trust_region", "sampling", "agent", "cli"} <= rooms <= set(FLOOR)


@each_source
def test_imports_only_point_down(path):
    assert upward_imports(path.read_text(), parts_of(path)) == []


@pytest.mark.parametrize(
    ("source", "module", "up"),
    [
        ("import numpy", "autograd.rules", []),
        ("from npTRPO.autograd.tracer import Box", "autograd.rules", []),
        ("from npTRPO.policies import mlp", "autograd.rules", ["npTRPO.policies.mlp"]),
        ("from npTRPO import policies", "autograd.rules", ["npTRPO.policies"]),
        ("import npTRPO.policies.mlp", "autograd.rules", ["npTRPO.policies.mlp"]),
        ("from ..policies import mlp", "autograd.rules", ["npTRPO.policies.mlp"]),
        ("from . import tracer", "autograd.rules", []),
        ("from .tracer import Box", "autograd.rules", []),
        ("from .. import policies", "autograd.rules", ["npTRPO.policies"]),
        ("def f():\n    from npTRPO.agent import TRPO", "sampling.rollout", ["npTRPO.agent.TRPO"]),
        ("if TYPE_CHECKING:\n    from npTRPO.cli import main", "runs.directory", ["npTRPO.cli.main"]),
        ("from npTRPO.agent import record", "sampling.rollout", ["npTRPO.agent.record"]),
        ("from npTRPO.sampling import gae", "trust_region.value_fit", ["npTRPO.sampling.gae"]),
        ("from npTRPO.theory import mdp", "agent.trpo", ["npTRPO.theory.mdp"]),
        ("from npTRPO.sampling import gae", "agent.trpo", []),
        ("from npTRPO import TRPO", "runs.directory", ["npTRPO.TRPO"]),
        ("import npTRPO", "cli", ["npTRPO"]),
        ("from npTRPO.runs.plotting import plot_runs", "cli", []),
        ("importlib.import_module('npTRPO.agent')", "policies.mlp", ["npTRPO.agent"]),
        ("from npTRPO.agent import TRPO", "__init__", []),
    ],
)
def test_the_reader_of_imports_finds_those_that_point_up(source, module, up):
    assert upward_imports(source, module.split(".")) == up


def import_graph(sources):
    """For each module of the package, given by its source, those that it imports, for whatever reason."""
    graph = {}
    for name, source in sources.items():
        package = name.split(".") if name in PACKAGES else name.split(".")[:-1]
        found = imported(ast.parse(source), package)
        targets = {each if each in sources else each.rpartition(".")[0] for each in found}
        graph[name] = (targets & set(sources)) - {name}
    return graph


PACKAGES = {name for name in MODULES if (ROOT.parent / name.replace(".", "/")).is_dir()}


def test_no_imports_go_in_a_circle():
    """Neither deferred ones nor those for types alone."""
    files = {name: Path(importlib.import_module(name).__file__).read_text() for name in MODULES}
    graphlib.TopologicalSorter(import_graph(files)).prepare()


@pytest.mark.parametrize(
    "second",
    [
        "def f():\n    from npTRPO.files.a import x",
        "if TYPE_CHECKING:\n    from npTRPO.files import a",
        "from . import a",
        "import npTRPO.files.a",
    ],
)
def test_the_reader_of_imports_finds_a_circle(second):
    graph = import_graph({"npTRPO.files.a": "from npTRPO.files.b import y", "npTRPO.files.b": second})
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


@each_source
def test_a_file_a_class_and_a_function_fit_in_the_head(path):
    source = path.read_text()
    assert source.count("\n") <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            text = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = node.end_lineno - text[0].lineno + 1 if text else 0
            assert lines <= (320 if isinstance(node, ast.ClassDef) else 80), node.name


@each_source
def test_only_the_core_dependencies_are_imported_at_the_top_of_a_module(path):
    """All others are extras, imported where they are used."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in imported(ast.Module([node], []), ["npTRPO", *parts_of(path)[:-1]]):
                top = name.split(".")[0]
                assert top in {*sys.stdlib_module_names, "npTRPO", "numpy", "scipy", "gymnasium"}, name


WATCHER = """
import importlib, json, sys

class Watcher:
    asked = []

    def find_spec(self, name, path=None, target=None):
        self.asked.append(name)

sys.meta_path.insert(0, Watcher())
import npTRPO

light = sorted(sys.modules)
for name in {modules}:
    importlib.import_module(name)
npTRPO.TRPO("MlpPolicy", "CartPole-v1", n_envs=2, n_steps=8, seed=0).learn(16).predict([0, 0, 0, 0])
print(json.dumps([light, sorted(sys.modules), Watcher.asked]))
"""


@pytest.fixture(scope="module")
def fresh():
    """Modules in a fresh process after ``import npTRPO``; after all of it and some training; asked for."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHER.format(modules=MODULES)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT.parent)},
    )
    light, everything, asked = json.loads(done.stdout)
    return {"light": light, "everything": everything, "asked": asked}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_deep_learning_framework_is_imported_nor_asked_for(framework, fresh):
    """Also where it isn't installed, and an attempt would pass unseen."""
    assert "npTRPO.agent.trpo" in fresh["everything"]
    assert "npTRPO.agent.trpo" in fresh["asked"]
    for names in (fresh["everything"], fresh["asked"]):
        assert framework not in {name.split(".")[0] for name in names}
    written = [imported(ast.parse(path.read_text()), ["npTRPO"]) for path in SOURCES]
    assert framework not in {name.split(".")[0] for names in written for name in names}


def test_importing_the_package_costs_nothing(fresh):
    assert not {"numpy", "scipy", "gymnasium"} & set(fresh["light"])


def test_what_the_extras_bring_is_not_needed_to_train(fresh):
    assert not {"matplotlib", "rich", "tensorboardX", "PIL", "moviepy", "ray", "envpool"} & set(
        fresh["light"]
    )
    tops = {name.split(".")[0] for name in fresh["everything"]}
    assert not {"matplotlib", "latex2mathml", "rich", "tensorboardX", "moviepy", "ray", "envpool"} & tops


# --- what no source does ---------------------------------------------------------------------------------

GENERATORS = {"Generator", "SeedSequence", "default_rng"}
REFUSED = {
    *("pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "random"),
    *("yaml", "jsonpickle", "runpy", "code", "codeop", "imp", "ctypes", "tarfile"),
}
RUNNING = {"eval", "exec", "compile", "__import__"}
LOADING = {"load", "fromfile", "loadtxt", "genfromtxt", "memmap"}

# Where the module that is imported, or the environment that is made, isn't named in the source: the package's
# own names, made when they are asked for; and what someone names, whom checked_env_id tells from a file.
NAMED_ELSEWHERE = {
    "__init__.py": ["importlib.import_module(f'npTRPO.{room}')"],
    "sampling/environments.py": [
        "importlib.import_module(module)",
        "gymnasium.spec(name)",
        "gymnasium.make(env_id)",
        "gymnasium.make_vec",
    ],
    "runs/rendering.py": ["gymnasium.make(env_id, render_mode=render_mode)"],
    "theory/environments.py": ["gymnasium.make(env, **options)"],
}


def forbidden(source):
    """What a source shouldn't do: run or unpickle code, or draw global random numbers."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id in RUNNING:
            found.append(node.id)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("builtins", "__builtins__"):
            found.append(ast.unparse(node))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.system", "os.popen"):
            found.append(ast.unparse(node))
        if isinstance(node, ast.keyword) and node.arg == "shell":
            found.append("a shell")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_numpy = ast.unparse(node.func.value) in ("np", "numpy") and node.func.attr in LOADING
            if of_numpy and "allow_pickle=False" not in ast.unparse(node):
                found.append(ast.unparse(node.func))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found += (
                [] if isinstance(node.value, ast.Constant) and node.value.value is False else ["unpickling"]
            )
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
            found += [] if node.attr in GENERATORS else [ast.unparse(node)]
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng") and not node.args:
            found.append("a generator without a seed")
    for name in imported(ast.parse(source), ["npTRPO"]):
        if name.split(".")[0] in REFUSED:
            found.append(name)
        if name.startswith("numpy.random.") and name.split(".")[2] not in GENERATORS:
            found.append(name)
    return found


def named_elsewhere(source):
    """Calls that import a module, or make an environment, of a name that isn't in the source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and not all(isinstance(arg, ast.Constant) for arg in node.args[:1]):
            function = ast.unparse(node.func).split(".")
            by_gymnasium = function[0] in ("gym", "gymnasium") and function[-1] in (
                "make",
                "make_vec",
                "spec",
            )
            if by_gymnasium or function[-1] in ("import_module", "load_module", "spec_from_file_location"):
                yield ast.unparse(node)


@each_source
def test_no_source_imports_a_name_that_a_file_may_have_given(path):
    allowed = NAMED_ELSEWHERE.get(path.relative_to(ROOT).as_posix(), [])
    found = list(named_elsewhere(path.read_text()))
    assert len(found) == len(allowed)
    for call, known in zip(sorted(found), sorted(allowed), strict=True):
        assert call.startswith(known)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("importlib.import_module(name)", 1),
        ("import_module(f'{name}')", 1),
        ("gymnasium.make(described['env'])", 1),
        ("gym.make_vec(env_id, 3)", 1),
        ("gymnasium.make('CartPole-v1')", 0),
        ("importlib.import_module('envpool')", 0),
        ("make(name)", 0),
    ],
)
def test_the_reader_of_sources_finds_names_from_elsewhere(source, count):
    assert len(list(named_elsewhere(source))) == count


@each_source
def test_no_source_runs_or_unpickles_code_or_draws_global_random_numbers(path):
    assert forbidden(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import marshal",
        "eval('1')",
        "run = exec",
        "__import__('os')",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "numpy.fromfile(path)",
        "compile(text, '', 'eval')",
        "builtins.eval(text)",
        "import yaml",
        "from ctypes import CDLL",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "np.load(path, allow_pickle=trusted)",
        "np.random.seed(0)",
        "x = numpy.random.normal(size=3)",
        "draw = np.random.rand",
        "from numpy.random import randn",
        "import random",
        "np.random.default_rng()",
    ],
)
def test_the_reader_of_sources_finds_what_no_source_should_do(source):
    assert forbidden(source)


@pytest.mark.parametrize(
    "source",
    [
        "np.load(path, allow_pickle=False)",
        "rng = np.random.default_rng(seed)",
        "np.random.SeedSequence(1).spawn(2)",
        "def f(rng: np.random.Generator): return rng.random(3)",
        "evaluate(agent)",
        "re.compile('a')",
        "json.load(file)",
        "subprocess.run(['ls'])",
    ],
)
def test_the_reader_of_sources_lets_pass_what_they_may_do(source):
    assert forbidden(source) == []


# --- names -----------------------------------------------------------------------------------------------


def public_methods(kind):
    """Methods that the class itself writes; not functions that it only gives another name."""
    for name, member in vars(kind).items():
        written = getattr(member, "__name__", name) == name
        if not name.startswith("_") and written and inspect.isroutine(member):
            yield name, member


@pytest.mark.parametrize("name", MODULES)
def test_a_module_documents_what_it_offers(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for offered, thing in vars(module).items():
        if offered.startswith("_") or getattr(thing, "__module__", "") != name:
            continue
        assert inspect.getdoc(thing), offered
        if inspect.isclass(thing):
            for attribute, member in public_methods(thing):
                assert inspect.getdoc(member), f"{offered}.{attribute}"


@pytest.mark.parametrize("name", MODULES)
def test_every_dataclass_is_frozen(name):
    module = importlib.import_module(name)
    for thing in vars(module).values():
        if inspect.isclass(thing) and dataclasses.is_dataclass(thing) and thing.__module__ == name:
            assert thing.__dataclass_params__.frozen, thing


def test_the_package_offers_its_names_late_and_no_others():
    for name in npTRPO.__all__:
        assert getattr(npTRPO, name) is not None
    assert dir(npTRPO) == sorted(npTRPO.__all__)
    assert {"TRPO", "TRPOConfig", "evaluate_policy", "CheckpointError", "Policy", "gae"} <= set(
        npTRPO.__all__
    )
    with pytest.raises(AttributeError, match="module 'npTRPO' has no attribute 'PPO'"):
        npTRPO.PPO  # noqa: B018
