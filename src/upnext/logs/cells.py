"""Cells as their owner wrote them become the types of `schema.py`; what cannot is named a fault.

Each function takes one column of one file and works on it whole.
"""

from dataclasses import dataclass, replace

import polars as pl

from upnext.errors import DataError
from upnext.logs.sources import DurationUnit, TableSource, TimeUnit
from upnext.schema import ColumnKind

Fault = tuple[str, pl.Series]

FIRST_TIME_MS, LAST_TIME_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999; a number outside them is no time in any unit that people use."""

_DAMAGED = "\ufffd"
_MAX_WHOLE_FLOAT = 2.0**53
_NANOSECONDS_PER = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_ISO_8601 = (
    r"^(?<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?<minute>[0-9]{2}:[0-9]{2})(?<second>:[0-9]{2}(?:\.[0-9]+)?)?)?"
    r" ?(?<zone>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?$"
)
_FLAT_JSON_LIST = r'^\s*\[(?:\s*(?:"(?:[^"\\]|\\.)*"|[^"\[\]{}]))*\]\s*$'
_ROUNDED = r"^-?[0-9](\.[0-9]+)?[eE]\+[0-9]+$"
_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """A column in the type that `schema.py` wants.

    `values`: null where nothing came or what came is faulty. `missing`: where nothing came.
    `faults`: a reason and the cells that it holds for, in the order in which they count.
    """

    values: pl.Series
    missing: pl.Series
    faults: tuple[Fault, ...]


def clean_cells(
    raw: pl.Series, kind: ColumnKind, *, where: str, source: TableSource, ids_max_bytes: int
) -> Cells:
    """Turns one raw column into the type of its kind.

    Args:
        raw: text, or any type that a Parquet column of this kind may have.
        where: the file and the column, for the error.
        source: the units in which times and durations are written.

    Raises:
        DataError: the column's type can never hold this kind, such as a list of watch times.

    >>> raw = pl.Series("watch_time_s", ["12.5", "", "long", "-3"])
    >>> cells = clean_cells(raw, "seconds", where="a.csv", source=TableSource(), ids_max_bytes=9)
    >>> cells.values.to_list()
    [12.5, None, None, None]
    >>> [(reason, mask.arg_true().to_list()) for reason, mask in cells.faults]
    [('watch_time_s is not a number', [2]), ('negative watch_time_s', [3])]
    """
    _refuse_type(raw.dtype, kind, where, source.time_unit)
    if _is_textual(raw.dtype):
        raw = _decoded(raw)
    match kind:
        case "id":
            values, faults = _ids(raw, ids_max_bytes)
        case "time_ms":
            values, faults = _times(raw, source.time_unit)
        case "seconds":
            values, faults = _seconds(raw, source.duration_unit)
        case "number":
            values, faults = _probabilities(raw)
        case "count":
            values, faults = _counts(raw)
        case "flag":
            values, faults = _flags(raw)
        case "text":
            values, faults = _texts(raw)
        case "ids":
            values, faults = _id_lists(raw, source.tags_separator)
    return _as_cells(raw, values, faults)


def clean_feature(raw: pl.Series, *, is_text: bool) -> Cells:
    """A declared feature keeps its type; a text file's column of numbers becomes numbers.

    A column of text formats becomes int64 if every value is written as an integer, float64 if
    every value is a number, and stays text otherwise, as it does with a leading zero ("02139").
    """
    if not _is_textual(raw.dtype):
        return Cells(values=raw, missing=raw.is_null(), faults=())
    raw = _decoded(raw)
    cells = _as_cells(raw, *_texts(raw))
    return replace(cells, values=_numbers_if_all_are(cells.values)) if is_text else cells


def are_integers(values: pl.Series) -> bool:
    """Whether every value is an int64, or text that writes one in its only way: no "007", "+7".

    >>> are_integers(pl.Series(["7", "-3", None])), are_integers(pl.Series(["7", "007"]))
    (True, False)
    """

    def survive(part: pl.Series) -> bool:
        back = part.cast(pl.Int64, strict=False).cast(pl.String)
        return bool((back == part).fill_null(part.is_null()).all())

    return values.dtype == pl.Int64 or (survive(values.head(1_000)) and survive(values))


def _as_cells(raw: pl.Series, values: pl.Series, faults: list[Fault]) -> Cells:
    missing = raw.is_null()
    if raw.dtype.is_float() and values.dtype == pl.Int64:
        missing = missing | raw.is_nan()  # pandas writes a missing integer as NaN
    present = ~missing
    found = [(reason, mask.fill_null(False) & present) for reason, mask in faults]
    found = [(reason, mask) for reason, mask in found if mask.any()]
    for _, mask in found:
        values = _without(values, mask)
    return Cells(values=values.alias(raw.name), missing=missing, faults=tuple(found))


def _is_textual(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Null)


def _refuse_type(dtype: pl.DataType, kind: ColumnKind, where: str, time_unit: TimeUnit) -> None:
    is_number = dtype.is_numeric()
    allowed, expected = {
        "id": (dtype.is_integer() or dtype.is_float(), "integers or text"),
        "time_ms": (
            dtype in (pl.Datetime, pl.Date) or (is_number and time_unit != "iso8601"),
            "text or timestamps" if time_unit == "iso8601" else "numbers, text or timestamps",
        ),
        "seconds": (is_number or dtype == pl.Duration, "numbers or text"),
        "number": (is_number, "numbers or text"),
        "count": (is_number, "numbers or text"),
        "flag": (is_number or dtype == pl.Boolean, "true and false, 0 and 1, or text"),
        "text": (is_number, "text"),
        "ids": (
            isinstance(dtype, pl.List) and not dtype.inner.is_nested(),
            "lists of text, or text",
        ),
    }[kind]
    if not (allowed or _is_textual(dtype)):
        raise DataError(
            where,
            expected=expected,
            got=f"a column of type {dtype}",
            hint="the column map may name another column: [logs.<table>] columns = "
            "{ ours = 'name in the file' }.",
        )


def _decoded(raw: pl.Series) -> pl.Series:
    """Text with "" as null; bytes that are not UTF-8 become U+FFFD."""
    try:
        text = raw.cast(pl.String)
    except pl.exceptions.ComputeError:
        text = pl.Series(
            raw.name,
            [None if value is None else value.decode("utf-8", "replace") for value in raw],
            pl.String,
        )
    is_empty = (text == "").fill_null(False)
    return _without(text, is_empty) if is_empty.any() else text


def _without(values: pl.Series, mask: pl.Series) -> pl.Series:
    return pl.select(pl.when(~mask).then(values)).to_series().alias(values.name)


def _damage(text: pl.Series) -> list[Fault]:
    return [
        (f"bad UTF-8 in {text.name}", text.str.contains(_DAMAGED, literal=True)),
        (f"null byte in {text.name}", text.str.contains("\0", literal=True)),
    ]


def _ids(raw: pl.Series, max_bytes: int) -> tuple[pl.Series, list[Fault]]:
    name = raw.name
    if raw.dtype == pl.String:
        return raw, [
            *_damage(raw),
            (f"{name} too long", raw.str.len_bytes() > max_bytes),
            # A spreadsheet or JSON reader has rounded a long number; other ids look the same now.
            (f"{name} is a rounded number", raw.str.contains(_ROUNDED)),
        ]
    values = raw.cast(pl.Int64, strict=False)
    if raw.dtype.is_float():
        is_whole = (raw == raw.floor()) & (raw.abs() <= _MAX_WHOLE_FLOAT)
        return values, [(f"{name} is not a whole number", ~is_whole)]
    if values.null_count() > raw.null_count():
        values = raw.cast(pl.String)
    return values, []


def _times(raw: pl.Series, unit: TimeUnit) -> tuple[pl.Series, list[Fault]]:
    if raw.dtype in (pl.Datetime, pl.Date):
        # A stored time with a zone counts from 1970 in UTC already; one without is taken as UTC.
        values = (raw.cast(pl.Datetime("ms")) if raw.dtype == pl.Date else raw).dt.timestamp("ms")
    elif unit == "iso8601":
        values = _iso_8601_ms(raw.str.strip_chars())
    elif raw.dtype == pl.String:
        text = raw.str.strip_chars()
        values = _scaled_ms(text.cast(pl.Int64, strict=False), unit)
        if values.null_count() > raw.null_count():
            fractions = _scaled_ms(text.cast(pl.Float64, strict=False), unit)
            values = values.zip_with(values.is_not_null(), fractions)
    else:
        values = _scaled_ms(raw, unit)
    is_time = values.is_between(FIRST_TIME_MS, LAST_TIME_MS).fill_null(False)
    return values, [(f"unparsable {raw.name}", ~is_time)]


def _scaled_ms(values: pl.Series, unit: str) -> pl.Series:
    """Counted in `unit` → whole milliseconds, null where they cannot be told."""
    factor = _NANOSECONDS_PER[unit] / _NANOSECONDS_PER["ms"]
    if not values.dtype.is_integer():
        values = values.cast(pl.Float64, strict=False) * factor
        return values.round().cast(pl.Int64, strict=False)
    values = values.cast(pl.Int64, strict=False)
    if factor < 1:
        return values // round(1 / factor)
    if factor == 1:
        return values
    is_safe = values.is_between(FIRST_TIME_MS, LAST_TIME_MS).fill_null(False)
    return _without(values, ~is_safe) * round(factor)


def _iso_8601_ms(text: pl.Series) -> pl.Series:
    part = text.str.extract_groups(_ISO_8601).struct
    minute, second = part.field("minute").fill_null("00:00"), part.field("second").fill_null(":00")
    local = part.field("date") + "T" + minute + second
    local_ms = local.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    zone = part.field("zone").str.replace(":", "", literal=True)
    hours = zone.str.slice(0, 3).cast(pl.Int64, strict=False).fill_null(0)
    minutes = zone.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    west = zone.str.starts_with("-").fill_null(False)
    offset_minutes = hours * 60 + minutes.zip_with(~west, -minutes)
    return local_ms.dt.timestamp("ms") - offset_minutes * 60_000


def _numbers(raw: pl.Series) -> pl.Series:
    if raw.dtype == pl.Duration:
        return raw.dt.total_microseconds() / 1e6
    text_or_number = raw.str.strip_chars() if raw.dtype == pl.String else raw
    return text_or_number.cast(pl.Float64, strict=False)


def _seconds(raw: pl.Series, unit: DurationUnit) -> tuple[pl.Series, list[Fault]]:
    values = _numbers(raw)
    if unit == "ms" and raw.dtype != pl.Duration:
        values = values / 1_000
    values = values.cast(pl.Float32)
    return values, [
        (f"{raw.name} is not a number", ~values.is_finite().fill_null(False)),
        (f"negative {raw.name}", values < 0),
    ]


def _probabilities(raw: pl.Series) -> tuple[pl.Series, list[Fault]]:
    values = _numbers(raw).cast(pl.Float32)
    return values, [
        (f"{raw.name} is not a number", ~values.is_finite().fill_null(False)),
        (f"{raw.name} is not above 0 and up to 1", ~values.is_between(0, 1, closed="right")),
    ]


def _counts(raw: pl.Series) -> tuple[pl.Series, list[Fault]]:
    numbers = _numbers(raw)
    is_whole = ((numbers == numbers.floor()) & (numbers.abs() < 2**31)).fill_null(False)
    values = numbers.cast(pl.Int32, strict=False)
    return values, [
        (f"{raw.name} is not a whole number", ~is_whole),
        (f"negative {raw.name}", numbers < 0),
    ]


def _flags(raw: pl.Series) -> tuple[pl.Series, list[Fault]]:
    if raw.dtype == pl.Boolean:
        return raw, []
    text = raw.cast(pl.String).str.strip_chars().str.to_lowercase()
    values = text.replace_strict(_FLAGS, default=None, return_dtype=pl.Boolean)
    return values, [(f"{raw.name} is not true or false", values.is_null())]


def _texts(raw: pl.Series) -> tuple[pl.Series, list[Fault]]:
    text = raw.cast(pl.String)
    return text, _damage(text)


def _id_lists(raw: pl.Series, separator: str) -> tuple[pl.Series, list[Fault]]:
    faults: list[Fault] = []
    if raw.dtype == pl.String:
        is_json = raw.str.strip_chars().str.starts_with("[").fill_null(False)
        is_list = raw.str.contains(_FLAT_JSON_LIST) & raw.str.json_path_match("$").is_not_null()
        is_broken = is_json & ~is_list.fill_null(False)
        as_json = _without(raw, ~is_json | is_broken).str.json_decode(pl.List(pl.String))
        lists = as_json.zip_with(is_json, raw.str.split(separator))
        faults.append((f"{raw.name} is not a list", is_broken))
    else:
        lists = raw.cast(pl.List(pl.String))
    tag = pl.element()
    named = lists.list.eval(tag.filter(tag.is_not_null() & (tag != "")))
    is_damaged = named.list.eval(tag.str.contains(f"[{_DAMAGED}\0]")).list.any()
    return named, [*faults, (f"bad UTF-8 in {raw.name}", is_damaged)]


def _numbers_if_all_are(text: pl.Series) -> pl.Series:
    if text.null_count() == text.len():
        return text
    if are_integers(text):
        return text.cast(pl.Int64)
    numbers = text.cast(pl.Float64, strict=False)
    is_number = numbers.is_finite() & ~text.str.contains("^[+-]?0[0-9]")
    return numbers if is_number.fill_null(text.is_null()).all() else text
