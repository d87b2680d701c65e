"""The plan of the house, held: who may import whom, and what no file may hold."""

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src" / "upnext"

GROUND = {"schema", "errors", "config", "insight", "metric_names", "compiled", "best"}
DOORS = {"__init__", "__main__", "cli", "demo"}
"""From here everything may be imported, and nothing imports these but each other."""
ALSO_MAY_IMPORT: Mapping[str, set[str]] = {
    "logs": set(),
    "examples": set(),
    "index": set(),
    "sources": set(),
    "evaluation": set(),
    "registry": set(),
    "events": set(),
    "pictures": set(),
    "console": {"pictures"},
    "features": {"examples"},
    "training": {"examples"},
    "retrieval": {"examples", "evaluation", "training"},
    "ranking": {"examples", "evaluation", "features", "training"},
    "recommender": {"examples", "features", "index", "registry", "sources"},
    "cluster": {
        "logs",
        "examples",
        "index",
        "evaluation",
        "registry",
        "events",
        "training",
        "retrieval",
        "ranking",
        "recommender",
        "pipeline",
        "serving",
    },
    "export": {"examples", "index", "recommender", "registry"},
    "serving": {"events", "examples", "recommender", "registry"},
    "pipeline": {
        "logs",
        "examples",
        "features",
        "index",
        "sources",
        "evaluation",
        "registry",
        "training",
        "retrieval",
        "ranking",
        "recommender",
    },
}
"""Rooms by room, beside the ground and itself."""
TRAINING_ROOMS = {"training", "retrieval", "ranking", "pipeline", "cluster"}
TRAINING_LIBRARIES = {"torch", "onnx", "onnxscript", "sklearn"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BETWEEN_PROCESSES_OF_A_RUN = {"upnext.cluster.shipping"}
"""What workers are told never lies in a file; Ray itself pickles all that travels."""


@dataclass(frozen=True)
class Import:
    """`target` is one of our files, or the top-level name of a library."""

    target: str
    is_ours: bool
    runs_at_import: bool


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else "__init__"


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    return found


@cache
def imports_of(name: str) -> tuple[Import, ...]:
    return tuple(_imports(modules()[name].tree, runs_at_import=True))


def _imports(node: ast.AST, *, runs_at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for full_name in _imported_names(child):
            is_ours = full_name.split(".")[0] == "upnext"
            target = _file_of(full_name) if is_ours else full_name.split(".")[0]
            yield Import(target, is_ours, runs_at_import)
        runs = runs_at_import and not _waits_for_a_call_or_a_type_checker(child)
        yield from _imports(child, runs_at_import=runs)


def _waits_for_a_call_or_a_type_checker(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are written in full"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _file_of(full_name: str) -> str:
    """`upnext.index.files.Header` is in the file `upnext.index.files`."""
    while full_name not in modules():
        full_name = full_name.rpartition(".")[0]
    return full_name


def loaded_by(name: str) -> set[str]:
    """Our files and the libraries that importing one file runs, packages' own files included."""
    loaded, waiting = set[str](), [name]
    while waiting:
        current = waiting.pop()
        if current in loaded:
            continue
        loaded.add(current)
        if current in modules():
            waiting.extend(i.target for i in imports_of(current) if i.runs_at_import)
            waiting.append(current.rpartition(".")[0] or current)
    return loaded


def test_the_plan_knows_every_room() -> None:
    rooms = {module.room for module in modules().values()}
    assert rooms <= GROUND | DOORS | ALSO_MAY_IMPORT.keys()
    assert len(modules()) > 50


def test_rooms_import_only_the_rooms_below_them() -> None:
    broken = [
        f"{module.name} imports {found.target}"
        for module in modules().values()
        if module.room not in DOORS
        for found in imports_of(module.name)
        if found.is_ours
        and modules()[found.target].room
        not in GROUND | {module.room} | ALSO_MAY_IMPORT.get(module.room, set())
    ]
    assert broken == []


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: {i.target for i in imports_of(name) if i.is_ours} for name in modules()}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == graph.keys()


def test_only_training_rooms_import_training_libraries() -> None:
    broken = [
        f"{module.name} imports {found.target}"
        for module in modules().values()
        for found in imports_of(module.name)
        if found.target in TRAINING_LIBRARIES and module.room not in TRAINING_ROOMS
    ]
    assert broken == []


def test_what_serves_loads_only_what_a_serving_machine_installs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[^\w-]", one)[0] for one in project["dependencies"]]
    installed = {"faiss", *(name.replace("-", "_") for name in names)}  # faiss-cpu's own name
    serving = [
        name
        for name, m in modules().items()
        if m.room in {"serving", "recommender", "export", "cli"} or name == "upnext.events.store"
    ]
    libraries = {
        loaded
        for name in serving
        for loaded in loaded_by(name)
        if loaded not in modules() and loaded not in sys.stdlib_module_names
    }
    assert {"numpy", "onnxruntime", "faiss"} <= libraries
    assert libraries - installed == set()
    loaded_rooms = {
        modules()[m].room for name in serving for m in loaded_by(name) if m in modules()
    }
    assert loaded_rooms.isdisjoint(TRAINING_ROOMS)


def test_files_and_functions_are_short() -> None:
    too_long = [
        f"{module.name} has {num_lines} lines"
        for module in modules().values()
        if (num_lines := len(module.path.read_text(encoding="utf-8").splitlines())) > 400
    ]
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if num_lines > 60:
                    too_long.append(f"{module.name}.{node.name} has {num_lines} lines")
    assert too_long == []


def test_no_room_is_a_drawer_for_everything() -> None:
    parts = {part for name in modules() for part in name.split(".")}
    assert parts.isdisjoint({"utils", "util", "helpers", "common", "misc"})


def test_nothing_is_pickled_or_unpickled() -> None:
    broken = [
        f"{module.name} imports {found.target}"
        for module in modules().values()
        for found in imports_of(module.name)
        if found.target in UNSAFE_MODULES and module.name not in BETWEEN_PROCESSES_OF_A_RUN
    ]
    broken += [
        f"{module.name}, line {call.lineno}"
        for module in modules().values()
        for call in ast.walk(module.tree)
        if isinstance(call, ast.Call) and _may_unpickle(call)
    ]
    assert broken == []


def _may_unpickle(call: ast.Call) -> bool:
    """torch.load and torch.save, and any allow_pickle that is not plainly False."""
    return ast.unparse(call.func) in {"torch.load", "torch.save"} or any(
        keyword.arg == "allow_pickle"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        for keyword in call.keywords
    )
