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
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(ROOT.rglob("*.py"))}
MODULES = ["npTRPO", *sorted(m.name for m in pkgutil.walk_packages(npTRPO.__path__, "npTRPO."))]
FRAMEWORKS = {"torch", "tensorflow", "jax", "flax", "mxnet", "paddle", "keras", "theano"}
EXTRAS = {"optuna", "matplotlib", "latex2mathml", "rich", "tensorboardX", "moviepy", "ray", "envpool", "onnx"}

# The rooms by floor: imports stay in a room, or point to a floor below. The command's files are one room.
FLOORS = [
    ("_typing", "_checks", "_machine"),
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


def parts_of(path):
    """The dotted name of a source after npTRPO, in parts; a package's __init__ is the package's last part."""
    return path.removesuffix(".py").split("/")


def finds_nothing(check):
    """Check every source of the package, given as its path and its tree."""
    assert {
        path: found for path, source in SOURCES.items() if (found := check(path, ast.parse(source)))
    } == {}


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


def upward_imports(tree, parts):
    """The imports of a module that don't stay in its room and don't point down."""
    found = []
    for name in imported(tree, ["npTRPO", *parts[:-1]]):
        top, *rest = name.split(".")
        other = rest[0] if rest and rest[0] in FLOOR else "__init__"
        if top == "npTRPO" and ROOM[other] != ROOM[parts[0]] and FLOOR[other] >= FLOOR[parts[0]]:
            found.append(name)
    return found


# --- imports ---------------------------------------------------------------------------------------------


def test_every_room_is_on_a_floor():
    rooms = {parts_of(path)[0] for path in SOURCES}
    assert {"autograd", "policies", "trust_region", "sampling", "agent", "cli"} <= rooms <= set(FLOOR)


def test_imports_only_point_down():
    finds_nothing(lambda path, tree: upward_imports(tree, parts_of(path)))


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
    assert upward_imports(ast.parse(source), module.split(".")) == up


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


def test_a_file_a_class_and_a_function_fit_in_the_head():
    def too_long(path, tree):
        if SOURCES[path].count("\n") > 400:
            yield path
        for node in ast.walk(tree):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                text = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = node.end_lineno - text[0].lineno + 1 if text else 0
                if lines > (320 if isinstance(node, ast.ClassDef) else 80):
                    yield node.name

    finds_nothing(lambda path, tree: list(too_long(path, tree)))


def test_only_the_core_dependencies_are_imported_at_the_top_of_a_module():
    """All others are extras, imported where they are used."""
    core = {*sys.stdlib_module_names, "npTRPO", "numpy", "scipy", "gymnasium"}

    def others(path, tree):
        top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = imported(ast.Module(top, []), ["npTRPO", *parts_of(path)[:-1]])
        return {name.split(".")[0] for name in names} - core

    finds_nothing(others)


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


def tops(names):
    return {name.split(".")[0] for name in names}


@pytest.fixture(scope="module")
def fresh():
    """Modules in a fresh process after ``import npTRPO``; after all of it and some training; asked for."""
    command = [sys.executable, "-c", WATCHER.format(modules=MODULES)]
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    return json.loads(done.stdout)


def test_no_deep_learning_framework_is_imported_nor_asked_for(fresh):
    """Also where it isn't installed, and an attempt would pass unseen."""
    _, everything, asked = fresh
    assert "npTRPO.agent.trpo" in everything
    assert "npTRPO.agent.trpo" in asked
    assert not FRAMEWORKS & tops(everything + asked)
    finds_nothing(lambda path, tree: FRAMEWORKS & tops(imported(tree, ["npTRPO"])))


def test_importing_the_package_costs_nothing_and_training_needs_no_extra(fresh):
    light, everything, _ = fresh
    assert not {"numpy", "scipy", "gymnasium", "PIL"} & set(light)
    assert not EXTRAS & tops(light + everything)


# --- what no source does ---------------------------------------------------------------------------------

GENERATORS = {"Generator", "SeedSequence", "default_rng"}
REFUSED = {
    *("pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "random"),
    *("yaml", "jsonpickle", "runpy", "code", "codeop", "imp", "ctypes", "tarfile"),
}
RUNNING = {"eval", "exec", "compile", "__import__"}
LOADING = {"load", "fromfile", "loadtxt", "genfromtxt", "memmap"}

# Where the module that is imported, or the environment that is made, isn't named in the source: the package's
# own names, made when they are asked for; and what someone names, whom EnvMaker.trusted tells from a file.
NAMED_ELSEWHERE = {
    "__init__.py": ["importlib.import_module(f'npTRPO.{room}')"],
    "sampling/makers.py": [
        "importlib.import_module(module)",
        "importlib.import_module(module)",  # in a worker, what its parent has imported
        "gymnasium.spec(name)",
        "gymnasium.make(self.env, **kwargs)",
        "gymnasium.make_vec(self.env, n_envs, vectorization_mode=mode, **self.kwargs)",
    ],
    "theory/environments.py": ["gymnasium.make(env, **options)"],
}


def dotted(node):
    """The name that an expression is, such as ``np.random.normal``; of others, what follows the last call."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def refuses_pickles(keyword):
    return keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is False


def forbidden(tree):
    """What a source shouldn't do: run or unpickle code, or draw global random numbers."""
    found = []
    for node in ast.walk(tree):
        name = dotted(node)
        owner, _, last = name.rpartition(".")
        if name in (*RUNNING, "os.system", "os.popen") or owner in ("builtins", "__builtins__"):
            found.append(name)
        if owner in ("np.random", "numpy.random") and last not in GENERATORS:
            found.append(name)
        if isinstance(node, ast.keyword) and node.arg in ("shell", "allow_pickle"):
            found += [] if refuses_pickles(node) else [node.arg]
        if isinstance(node, ast.Call):
            owner, _, called = dotted(node.func).rpartition(".")
            if (
                owner in ("np", "numpy")
                and called in LOADING
                and not any(map(refuses_pickles, node.keywords))
            ):
                found.append(called)
            if called == "default_rng" and not node.args:
                found.append("a generator without a seed")
    for name in imported(tree, ["npTRPO"]):
        if name.split(".")[0] in REFUSED:
            found.append(name)
        if name.startswith("numpy.random.") and name.split(".")[2] not in GENERATORS:
            found.append(name)
    return found


def named_elsewhere(tree):
    """Calls that import a module, or make an environment, of a name that isn't in the source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not all(isinstance(arg, ast.Constant) for arg in node.args[:1]):
            first, last = dotted(node.func).split(".")[0], dotted(node.func).split(".")[-1]
            by_gymnasium = first in ("gym", "gymnasium") and last in ("make", "make_vec", "spec")
            if by_gymnasium or last in ("import_module", "load_module", "spec_from_file_location"):
                yield ast.unparse(node)


def test_no_source_imports_a_name_that_a_file_may_have_given():
    def not_as_known(path, tree):
        found, known = sorted(named_elsewhere(tree)), sorted(NAMED_ELSEWHERE.get(path, []))
        as_known = len(found) == len(known) and all(map(str.startswith, found, known))
        return [] if as_known else found or known

    finds_nothing(not_as_known)


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
    assert len(list(named_elsewhere(ast.parse(source)))) == count


def test_no_source_runs_or_unpickles_code_or_draws_global_random_numbers():
    finds_nothing(lambda path, tree: forbidden(tree))


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "def f():\n    import marshal", "import yaml"),
        *("from ctypes import CDLL", "import random", "from numpy.random import randn"),
        *("eval('1')", "run = exec", "compile(text, '', 'eval')", "builtins.eval(text)", "__import__('os')"),
        *("os.system('ls')", "subprocess.run('ls', shell=True)"),
        *("np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=trusted)"),
        *("np.load(path)", "numpy.fromfile(path)"),
        *("np.random.seed(0)", "x = numpy.random.normal(size=3)", "draw = np.random.rand"),
        "np.random.default_rng()",
    ],
)
def test_the_reader_of_sources_finds_what_no_source_should_do(source):
    assert forbidden(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        *("np.load(path, allow_pickle=False)", "json.load(file)", "subprocess.run(['ls'])"),
        *("rng = np.random.default_rng(seed)", "np.random.SeedSequence(1).spawn(2)"),
        "def f(rng: np.random.Generator): return rng.random(3)",
        *("evaluate(agent)", "re.compile('a')"),
    ],
)
def test_the_reader_of_sources_lets_pass_what_they_may_do(source):
    assert forbidden(ast.parse(source)) == []


# --- names -----------------------------------------------------------------------------------------------


def public_methods(kind):
    """Methods that the class itself writes; not functions that it only gives another name."""
    for name, member in vars(kind).items():
        written = getattr(member, "__name__", name) == name
        if not name.startswith("_") and written and inspect.isroutine(member):
            yield name, member


def test_modules_document_what_they_offer_and_dataclasses_are_frozen():
    for name in MODULES:
        module = importlib.import_module(name)
        assert module.__doc__, name
        for offered, thing in vars(module).items():
            if getattr(thing, "__module__", "") != name:
                continue
            where = f"{name}.{offered}"
            if inspect.isclass(thing) and dataclasses.is_dataclass(thing):
                assert thing.__dataclass_params__.frozen, where
            if not offered.startswith("_"):
                assert inspect.getdoc(thing), where
                for attribute, member in public_methods(thing) if inspect.isclass(thing) else ():
                    assert inspect.getdoc(member), f"{where}.{attribute}"


def test_the_package_offers_its_names_late_and_no_others():
    for name in npTRPO.__all__:
        assert getattr(npTRPO, name) is not None
    assert dir(npTRPO) == sorted(npTRPO.__all__)
    assert {"TRPO", "TRPOConfig", "evaluate_policy", "CheckpointError", "Policy", "gae"} <= set(
        npTRPO.__all__
    )
    with pytest.raises(AttributeError, match="module 'npTRPO' has no attribute 'PPO'"):
        npTRPO.PPO  # noqa: B018
