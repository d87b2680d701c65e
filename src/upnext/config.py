"""A section of `run.toml` becomes a frozen dataclass; an unknown key is an error with a hint."""

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from upnext.errors import ConfigError, ReleaseError

T = TypeVar("T")


def read_config(path: Path, config_type: type[T]) -> T:
    """Reads a TOML file into a dataclass, its sections into the dataclasses inside it.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown, a value has the wrong
            type, or the dataclass refuses the value.
    """
    return config_from_table(read_toml(path), config_type, where=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The plain values of a TOML file. Raises ConfigError: it is missing, or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), expected="a TOML file", got="no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), expected="a TOML file", got=str(error)) from None


def config_from_table(table: Mapping[str, Any], config_type: type[T], *, where: str) -> T:
    """Builds a dataclass from a table of plain values, as TOML and JSON give them.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Oven:
    ...     heat_c: float = 180.0
    >>> config_from_table({"heat_c": 200}, Oven, where="run.toml [oven]")
    Oven(heat_c=200.0)
    >>> config_from_table({"heat": 200}, Oven, where="run.toml [oven]")
    Traceback (most recent call last):
    upnext.errors.ConfigError: run.toml [oven]: expected one of heat_c, got the unknown key 'heat'.
    Hint: did you mean 'heat_c'?
    """
    hints = get_type_hints(config_type)
    names = [field.name for field in dataclasses.fields(config_type)]  # type: ignore[arg-type]
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            raise ConfigError(
                where,
                expected=f"one of {', '.join(names)}",
                got=f"the unknown key {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else "",
            )
    values = {
        key: _converted(value, hints[key], where=f"{where} {key}") for key, value in table.items()
    }
    try:
        return config_type(**values)
    except TypeError as error:
        raise ConfigError(where, expected="all required keys", got=str(error)) from None


def require(
    section: str,
    config: object,
    *,
    at_least: Mapping[str, float] | None = None,
    above: Mapping[str, float] | None = None,
) -> None:
    """Refuses a config whose numbers are out of range; each of a list counts, and nan is no number.

    Raises: ConfigError: names the section, the key, the bound and the value.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Oven:
    ...     num_trays: int = 0
    >>> require("oven", Oven(), at_least={"num_trays": 1})
    Traceback (most recent call last):
    upnext.errors.ConfigError: [oven] num_trays: expected 1 or more, got 0.
    """
    bounds = [(name, bound, True) for name, bound in (at_least or {}).items()]
    bounds += [(name, bound, False) for name, bound in (above or {}).items()]
    for name, bound, may_equal in bounds:
        given = getattr(config, name)
        for value in given if isinstance(given, tuple) else (given,):
            if not (value > bound or (may_equal and value == bound)):
                expected = f"{bound:g} or more" if may_equal else f"above {bound:g}"
                raise ConfigError(f"[{section}] {name}", expected=expected, got=str(value))


def config_of_release(table: Mapping[str, Any], config_type: type[T], *, where: str) -> T:
    """Builds a config that a release has kept.

    Every setting must stand in it, but those that may be None: the default of today need not be
    the one that the release was made with.

    Raises:
        ReleaseError: a setting is missing, unknown or refused.
    """
    hint = "the release was made by another version of upnext; train again."
    for missing in _missing_keys(table, config_type):
        raise ReleaseError(where, expected=f"the key {missing}", got="none", hint=hint)
    try:
        return config_from_table(table, config_type, where=where)
    except ConfigError as error:
        raise ReleaseError(error.where, expected=error.expected, got=error.got, hint=hint) from None


def _missing_keys(table: Mapping[str, Any], config_type: type) -> Iterator[str]:
    for key, hint in get_type_hints(config_type).items():
        if key not in table:
            if type(None) not in get_args(hint):
                yield key
        elif dataclasses.is_dataclass(hint) and isinstance(table[key], Mapping):
            inner = _missing_keys(table[key], hint)  # type: ignore[arg-type]
            yield from (f"{key}.{name}" for name in inner)


def config_to_table(config: object) -> dict[str, Any]:
    """The plain values of a config, without the unset ones: the inverse of `config_from_table`."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
            return {name: plain(inner) for name, inner in pairs if inner is not None}
        if isinstance(value, (tuple, list)):
            return [plain(inner) for inner in value]
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        return value

    table: dict[str, Any] = plain(config)
    return table


def _converted(value: Any, hint: Any, *, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return config_from_table(value, hint, where=where)  # type: ignore[arg-type]
    if origin is Literal:
        if value in args:
            return value
        raise ConfigError(where, expected=f"one of {', '.join(map(repr, args))}", got=repr(value))
    if origin in (Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        return None if value is None else _converted(value, inner[0], where=where)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_converted(v, args[0], where=f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {k: _converted(v, args[1], where=f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint):
        if hint is int and isinstance(value, bool):
            raise ConfigError(where, expected="int", got=repr(value))
        return value
    wanted = "a table" if dataclasses.is_dataclass(hint) else getattr(hint, "__name__", str(hint))
    raise ConfigError(where, expected=wanted, got=repr(value))
