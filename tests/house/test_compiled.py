"""What is compiled is made anew when its own file changes, so it may lean on no other file."""

import ast
import importlib
import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numba.core import caching, config
from numba.core.dispatcher import Dispatcher

from upnext import schema
from upnext.compiled import FLOATS, INT, compiled
from upnext.schema import Floats

SOURCE = Path(__file__).parents[2] / "src"
FILES = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if "\n@compiled(" in path.read_text(encoding="utf-8")
]


def compiled_functions() -> Iterator[tuple[ModuleType, Dispatcher]]:
    for path in FILES:
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        module = importlib.import_module(name)
        for value in vars(module).values():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == name:
                yield module, value


def assigned(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement gives a value."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_what_is_compiled_leans_on_no_other_file_that_changes() -> None:
    """Else a change there would be noticed by nobody who has the machine code kept.

    Functions, and constants, whose values are compiled in; those of the ground stay as they are.
    """
    for module, function in compiled_functions():
        python = function.py_func
        own = {
            name
            for line in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
            for name in assigned(line)
        }
        for name in python.__code__.co_names:
            used = python.__globals__.get(name)
            if isinstance(used, Dispatcher):
                assert used.py_func.__module__ == module.__name__, f"{module.__name__}.{name}"
            elif isinstance(used, int | float | np.generic | tuple):
                is_of_ground = getattr(schema, name, None) == used
                assert name in own or is_of_ground, f"{module.__name__}.{name}"


def test_nothing_is_compiled_after_import() -> None:
    """Types are declared, so that no request waits for a compiler; of parts their callers do."""
    ready = Counter(
        module.__file__
        for module, function in compiled_functions()
        if not function._can_compile  # type: ignore[attr-defined]
        and len(function.nopython_signatures) == 1
    )
    declared = {path: path.read_text(encoding="utf-8").count("\n@compiled(") for path in FILES}
    assert ready == {str(path): count for path, count in declared.items()}


def test_other_types_are_refused_and_not_compiled_for() -> None:
    @compiled(FLOATS, INT)
    def nth(values: Floats, place: int) -> float:
        return float(values[place])

    assert nth(np.arange(3, dtype=np.float32), 2) == 2
    with pytest.raises(TypeError, match="No matching definition"):
        nth(np.arange(3), 2)  # type: ignore[arg-type]


def test_arrays_that_are_not_to_be_written_are_taken() -> None:
    @compiled(FLOATS)
    def total(values: Floats) -> float:
        return float(values.sum())

    values = np.arange(3, dtype=np.float32)
    values.flags.writeable = False
    assert total(values) == 3


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    @compiled(FLOATS)
    def first(values: Floats) -> float:
        return float(values[0])

    assert first(np.ones(1, np.float32)) == 1


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("kept", [b"", b"\0" * 1000])
def test_what_is_kept_and_damaged_is_made_anew(tmp_path: Path, suffix: str, kept: bytes) -> None:
    source = tmp_path / "looped.py"
    source.write_text(
        "from upnext.compiled import FLOATS, compiled\n\n\n"
        "@compiled(FLOATS)\ndef first(values):\n    return values[0]\n"
    )

    def loaded() -> Dispatcher:
        spec = importlib.util.spec_from_file_location("looped", source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.first(np.ones(1, np.float32)) == 1
        found: Dispatcher = module.first
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "CACHE_DIR", str(tmp_path / "kept"))
        loaded()
        files = list(tmp_path.rglob(f"*.{suffix}"))
        assert files
        for path in files:
            path.write_bytes(kept)
        loaded()
        loaded()
        assert loaded().stats.cache_hits
