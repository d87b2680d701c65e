"""JSON or plain values become a typed body; what is wrong is told by place, in our four parts."""

import difflib
import json
import re
import reprlib
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from upnext.errors import RequestError

T = TypeVar("T")


def decode(body: bytes, into: type[T], *, where: str = "body") -> T:
    """A typed body out of JSON, in which no object may have a field twice.

    Raises:
        RequestError: it is no JSON, a field is unknown or comes twice, or a value has the wrong
            type or size, or does not go with another.
    """
    decoded = decode_part(body, into, where=where)
    _refuse_repeated_fields(body, where)
    return decoded


def decode_part(body: bytes | msgspec.Raw, into: type[T], *, where: str) -> T:
    """As `decode`, for a part of a body in which repeated fields were looked for already."""
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.ValidationError as error:
        raise _wrong_value(str(error), into, body, where) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(where, expected="JSON", got=str(error)) from None


def convert(value: object, into: type[T], *, where: str, are_texts: bool = False) -> T:
    """A typed body out of plain values; `are_texts`: numbers come as text, as in a URL.

    Raises: RequestError: as `decode`.
    """
    try:
        return msgspec.convert(value, into, strict=not are_texts)
    except msgspec.ValidationError as error:
        raise _wrong_value(str(error), into, value, where) from None


def _refuse_repeated_fields(body: bytes, where: str) -> None:
    try:
        _UNIQUE_FIELDS.decode(body.decode())
    except _RepeatedError as error:
        got = f"{reprlib.repr(error.args[0])} twice"
        raise RequestError(where, expected="each field once", got=got) from None
    except (ValueError, RecursionError) as error:  # in a part that is still to be decoded
        raise RequestError(where, expected="JSON", got=str(error)) from None


class _RepeatedError(Exception):
    """A field came twice; msgspec would keep the last one and say nothing."""


def _refuse_repeated(pairs: list[tuple[str, object]]) -> None:
    names = set()
    for name, _ in pairs:
        if name in names:
            raise _RepeatedError(name)
        names.add(name)


_UNIQUE_FIELDS = json.JSONDecoder(
    object_pairs_hook=_refuse_repeated, parse_int=len, parse_float=len
)


def _wrong_value(message: str, into: type, value: object, where: str) -> RequestError:
    """Tells a `msgspec.ValidationError` in our own four parts.

    Its messages read "Expected `int`, got `str` - at `$.k`" or "Object contains unknown field
    `kk`"; the value itself is looked up where the message leaves it out.
    """
    what, _, path = message.partition(" - at ")
    path = path.strip("`") or "$"
    where = path.replace("$", where, 1)
    if unknown := re.fullmatch("Object contains unknown field `(.*)`", what, re.DOTALL):
        names = _fields_at(path, into)
        near = difflib.get_close_matches(unknown[1], names, n=1)
        return RequestError(
            where,
            expected=f"one of {', '.join(names)}",
            got=f"the unknown field {reprlib.repr(unknown[1])}",
            hint=f"did you mean {near[0]!r}?" if near else "",
        )
    if invalid := re.fullmatch("Invalid (?:enum )?value (.*)", what, re.DOTALL):
        expected = f"one of {', '.join(map(str, _values_at(path, into)))}"
        return RequestError(where, expected=expected, got=reprlib.repr(invalid[1].strip("'")))
    if missing := re.fullmatch("Object missing required field `(.*)`", what):
        return RequestError(where, expected=f"a field {missing[1]}", got="none")
    expected, _, got = what.replace("`", "").removeprefix("Expected ").partition(", got ")
    return RequestError(where, expected=expected, got=got or _value_at(path, value))


def _fields_at(path: str, into: type) -> Sequence[str]:
    """The fields that an object may have at a place such as "$.history[0]"."""
    fields = [field for kind in _kinds_at(path, into) for field in getattr(kind, "fields", ())]
    return list(dict.fromkeys(field.encode_name for field in fields))


def _values_at(path: str, into: type) -> Sequence[Any]:
    """The values that a field of few may have: a literal, or which of some structs an object is."""
    literals = [v for kind in _kinds_at(path, into) for v in getattr(kind, "values", ())]
    parents = _kinds_at(path.rpartition(".")[0], into)
    return literals or [tag for kind in parents if (tag := getattr(kind, "tag", None))]


def _kinds_at(path: str, into: type) -> Sequence[inspect.Type]:
    kinds = _alternatives(inspect.type_info(into))
    for name in re.findall(r"\.(\w+)|\[[^\]]*\]", path):
        kinds = [inner for kind in kinds for inner in _inside(kind, name)]
    return kinds


def _inside(kind: inspect.Type, name: str) -> Sequence[inspect.Type]:
    """The types of a struct's field, or of an array's elements."""
    match kind:
        case inspect.StructType(fields=fields):
            inner = [field.type for field in fields if field.encode_name == name]
        case inspect.ListType(item_type=item_type):
            inner = [item_type]
        case _:
            inner = []
    return [one for alternatives in map(_alternatives, inner) for one in alternatives]


def _alternatives(kind: inspect.Type) -> Sequence[inspect.Type]:
    return kind.types if isinstance(kind, inspect.UnionType) else [kind]


def _value_at(path: str, value: Any) -> str:
    try:
        if isinstance(value, bytes | msgspec.Raw):
            value = msgspec.json.decode(value)
        for name, position in re.findall(r"\.(\w+)|\[(\d+)\]", path):
            value = value[name] if name else value[int(position)]
        return reprlib.repr(value)
    except (ValueError, LookupError, TypeError, RecursionError):
        return "another value"
