"""docs/configuration.md is made from the config dataclasses; `make docs` writes it anew."""

import ast
import inspect
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from upnext.logs.simulation.world import SimulationConfig
from upnext.logs.sources import TABLE_COLUMNS, TABLES_WITH_FEATURES
from upnext.pipeline.config import RunConfig
from upnext.serving.config import ServingConfig

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
HEAD = """\
# Configuration

<!-- Made by `make docs` from the config dataclasses; edit those. -->

`upnext train LOGS REGISTRY --config run.toml` reads the first part, `upnext check` its section
`[logs]`, `upnext serve REGISTRY --config serve.toml` the second, and `upnext simulate LOGS --config
world.toml` the third. Every key may be left out. An unknown key is an error that names the nearest
known one. A key whose default is "–" is unset; to leave it so, leave it out. The whole of
`run.toml` is kept in the release.
"""
COLUMNS_HEAD = """\
## Columns of the logs

Under these names, or those that `columns` maps to them. `_ms` ends a time, `_s` a length of time;
files may count both in other units. Ids are text or whole numbers; `watched` is true or false, or 1
or 0; `position` counts from 0 on a page, whose impressions have one `request_id`. Without a column
of these, positions are 0, unless there are propensities, and what a user is shown at one time is
one page. Where `watched` is false, `watch_time_s` may be empty. Columns on the right may lack a
value, or be absent.

A shop has no seconds: `[logs] missing_watch_time_s = 1` counts its clicks, and with 0, a column of
revenue mapped to `watch_time_s` makes upnext expect revenue where it says seconds.

"""
KINDS: dict[type, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
}


def reference() -> str:
    """The whole page."""
    run = "".join(_sections(RunConfig, "run.toml"))
    serving = "".join(_sections(ServingConfig, "serve.toml"))
    world = "".join(_sections(SimulationConfig, "world.toml"))
    return (
        f"{HEAD}\n## run.toml\n{run}\n{COLUMNS_HEAD}{''.join(_columns())}"
        f"\n## serve.toml\n{serving}\n## world.toml\n{world}"
    )


def _columns() -> Iterator[str]:
    """A line for each table of the logs."""
    yield "| table | columns | may be missing |\n|---|---|---|\n"
    for table, columns in TABLE_COLUMNS.items():
        must = ", ".join(f"`{name}`" for name in columns if not columns[name].nullable)
        may = [f"`{name}`" for name in columns if columns[name].nullable]
        more = ["any other, as a feature"] if table in TABLES_WITH_FEATURES else []
        yield f"| {table} | {must} | {', '.join(may + more)} |\n"


def _sections(config: type, file: str, path: str = "") -> Iterator[str]:
    """The plain keys of a config, then its sections; those of one type are told once."""
    meanings = field_docstrings(config)
    hints = get_type_hints(config)
    plain = [field for field in fields(config) if not is_dataclass(hints[field.name])]
    if plain:
        titles = ", ".join(f"[{title}]" for title in path.split()) or f"Top of {file}"
        yield f"\n### {titles}\n\n{_first_paragraph(config)}\n\n"
        yield "| key | | default | |\n|---|---|---|---|\n"
        for field in plain:
            kind, default = _kind(hints[field.name]), _as_toml(_default(field))
            yield f"| `{field.name}` | {kind} | {default} | {meanings[field.name]} |\n"
    names_of: dict[type, list[str]] = {}
    for field in fields(config):
        if is_dataclass(hints[field.name]):
            names_of.setdefault(hints[field.name], []).append(field.name)
    for inner, names in names_of.items():
        yield from _sections(inner, file, " ".join(f"{path}.{n}".lstrip(".") for n in names))


def field_docstrings(config: type) -> dict[str, str]:
    """The literal under each field, in one line; a field without one is an error."""
    body = ast.parse(dedent(inspect.getsource(config))).body[0]
    assert isinstance(body, ast.ClassDef)
    told = {}
    for field, below in zip(body.body, [*body.body[1:], ast.Pass()], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            literal = below.value if isinstance(below, ast.Expr) else None
            said = isinstance(literal, ast.Constant) and isinstance(literal.value, str)
            assert said, f"{config.__name__}.{field.target.id} has no docstring under it"
            told[field.target.id] = " ".join(str(literal.value).split())  # type: ignore[union-attr]
    return told


def _first_paragraph(config: type) -> str:
    return " ".join((config.__doc__ or "").partition("\n\n")[0].split())


def _kind(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(f"`{_literal(value)}`" for value in args)
    if origin in (Union, types.UnionType):
        return _kind(next(arg for arg in args if arg is not type(None)))
    if origin is tuple:
        return f"list of {_kind(args[0])}{'' if get_origin(args[0]) is Literal else 's'}"
    if origin is dict:
        return "table"
    return KINDS[hint]


def _default(field: "Field[Any]") -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _as_toml(value: Any) -> str:
    return "–" if value is None else f"`{_literal(value)}`".replace("|", "\\|")


def _literal(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return str(round(value, 4))
        case str():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case dict() if not value:
            return "{}"
        case _:
            return str(value)


def _configs(config: type) -> Iterator[type]:
    yield config
    for hint in get_type_hints(config).values():
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _configs(hint)


FILES = (RunConfig, ServingConfig, SimulationConfig)
EVERY_CONFIG = list(dict.fromkeys(config for file in FILES for config in _configs(file)))


def test_the_page_is_what_the_dataclasses_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "`make docs` writes it anew"


@pytest.mark.parametrize("config", EVERY_CONFIG, ids=lambda config: config.__name__)
def test_every_key_is_explained_in_a_sentence(config: type) -> None:
    told = field_docstrings(config)
    assert told.keys() == {field.name for field in fields(config)}
    assert all(text.endswith(".") for text in told.values())


@pytest.mark.parametrize("config", EVERY_CONFIG, ids=lambda config: config.__name__)
def test_a_config_is_frozen_and_takes_keywords_alone(config: type) -> None:
    assert config.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in fields(config))


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
