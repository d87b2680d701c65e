import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import upnext

TREE = ast.parse(Path(upnext.__file__).read_text(encoding="utf-8"))
IMPORTED_FOR_TYPES = {
    alias.asname: node.module
    for block in TREE.body
    if isinstance(block, ast.If)
    for node in block.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


@pytest.mark.parametrize("name", upnext.__all__)
def test_each_name_is_what_type_checkers_take_it_for(name: str) -> None:
    home = IMPORTED_FOR_TYPES[name]
    assert home is not None
    assert getattr(upnext, name) is getattr(import_module(home), name)


def test_type_checkers_see_the_same_names() -> None:
    assert IMPORTED_FOR_TYPES.keys() == set(upnext.__all__) <= set(dir(upnext))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'upnext' has no attribute 'recomend'"):
        upnext.__getattr__("recomend")


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import upnext", ["torch", "onnxruntime", "polars", "jinja2"]),
        ("from upnext import Recommender, read_logs, move_label, simulate", ["torch"]),
    ],
)
def test_what_serves_loads_nothing_that_trains(statement: str, absent: list[str]) -> None:
    program = f"{statement}; import sys; print(sorted(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert set(ast.literal_eval(told.stdout)).isdisjoint(absent)
