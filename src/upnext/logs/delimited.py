"""CSV taken apart line by line, so that a broken line costs that line and not the file."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl

MAX_RECORD_LINES = 50
"""Lines that one quoted field may span. A quote left open would else swallow the file's rest."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Rows that could be taken apart, their row numbers, and `row`, `line` of those that not."""

    frame: pl.DataFrame
    row_numbers: pl.Series
    broken: pl.DataFrame


def read_delimited(
    lines: pl.Series, separator: str, wanted: Collection[str] | None = None
) -> tuple[tuple[str, ...], Fields]:
    r"""The names in the header and the fields below it, all as text.

    A line is broken when it has more or fewer fields than the header or bad quotes. Quotes follow
    RFC 4180; one inside an unquoted field stands for itself. Empty lines are no rows. Row numbers
    count lines, the header being line 1.

    Raises:
        ValueError: there is no header, or it names a column twice.

    >>> names, fields = read_delimited(pl.Series(["a,b", '1,"x,y"', "2", '3,5" wide']), ",")
    >>> fields.frame.rows(), fields.broken.rows()
    ([('1', 'x,y'), ('3', '5" wide')], [(3, '2')])
    """
    names = _header(lines, separator)
    records = _records(lines.slice(1), separator, len(names))
    is_quoted = pl.col("line").str.contains('"', literal=True)
    plain, quoted = records.filter(~is_quoted), records.filter(is_quoted)
    split = pl.concat(
        [
            plain.with_columns(fields=pl.col("line").str.split(separator)),
            quoted.with_columns(fields=_split_quoted(quoted["line"], separator)),
        ]
    ).with_columns(is_whole=(pl.col("fields").list.len() == len(names)).fill_null(False))
    if quoted.height:
        split = split.sort("row")
    good, broken = split.filter("is_whole"), split.filter(~pl.col("is_whole"))
    frame = good.select(
        pl.col("fields").list.get(i).alias(name)
        for i, name in enumerate(names)
        if wanted is None or name in wanted
    )
    return names, Fields(frame, good["row"], broken.select("row", "line"))


def _header(lines: pl.Series, separator: str) -> tuple[str, ...]:
    fields = _split_quoted(lines.head(1), separator)
    if lines.is_empty() or fields[0] is None or lines[0].strip() == "":
        raise ValueError("no header line")
    names = [name.strip() for name in fields[0]]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the header names {', '.join(repeated)} more than once")
    return tuple(names)


def _split_quoted(lines: pl.Series, separator: str) -> pl.Series:
    """The fields of each line, quotes undone; null where the line is not well formed."""
    text = pl.col("line")
    field = pl.element().str.slice(1)
    is_quoted = field.str.starts_with('"')
    unquoted = (
        field.str.strip_prefix('"').str.strip_suffix('"').str.replace_all('""', '"', literal=True)
    )
    return (
        pl.DataFrame({"line": separator + lines})
        .with_columns(parts=text.str.extract_all(_field_pattern(separator)))
        .select(
            pl.when(pl.col("parts").list.join("").str.len_bytes() == text.str.len_bytes()).then(
                pl.col("parts").list.eval(pl.when(is_quoted).then(unquoted).otherwise(field))
            )
        )
        .to_series()
    )


def _field_pattern(separator: str) -> str:
    mark = re.escape(separator)
    return rf'{mark}(?:"(?:[^"]|"")*"|[^"{mark}][^{mark}]*|)'


def _records(lines: pl.Series, separator: str, num_fields: int) -> pl.DataFrame:
    """Lines below the header as `row`, `line`; those of one quoted field are joined to one."""
    starts, ends, texts = _joined(lines, separator, num_fields)
    table = pl.DataFrame({"line": lines}).with_row_index("row", offset=2).cast({"row": pl.Int64})
    if starts.size:
        steps = np.zeros(lines.len() + 1, np.int32)
        np.add.at(steps, starts + 1, 1)
        np.add.at(steps, ends + 1, -1)
        follows = np.cumsum(steps[:-1]) > 0
        table = table.with_columns(lines.scatter(starts, texts).alias("line"))
        table = table.filter(pl.Series(~follows))
    return table.filter(pl.col("line").str.strip_chars() != "")


def _joined(
    lines: pl.Series, separator: str, num_fields: int
) -> tuple[np.ndarray, np.ndarray, pl.Series]:
    """First line, last line and text of each record that spans several lines.

    A line whose last field opens a quote takes on the next lines until the record is whole, and
    is given up (so: broken, alone) when they make no well-formed record.
    """
    field = _field_pattern(separator)
    opens = rf'^(?:{field})*{re.escape(separator)}"(?:[^"]|"")*$'
    numbers = np.flatnonzero((separator + lines).str.contains(opens).to_numpy())
    waiting = pl.DataFrame({"start": numbers, "text": lines.gather(numbers)})
    whole = [waiting.head(0).with_columns(end=pl.col("start"))]
    for num_more in range(1, MAX_RECORD_LINES):
        waiting = waiting.filter(pl.col("start") + num_more < lines.len())
        if waiting.is_empty():
            break
        following = lines.gather(waiting["start"] + num_more)
        waiting = waiting.with_columns(text=waiting["text"] + "\n" + following)
        is_whole = _split_quoted(waiting["text"], separator).list.len() == num_fields
        is_whole = is_whole.fill_null(False)
        whole.append(waiting.filter(is_whole).with_columns(end=pl.col("start") + num_more))
        is_open = (separator + waiting["text"]).str.contains(opens)
        waiting = waiting.filter(~is_whole & is_open)
    found = _without_inner(pl.concat(whole).sort("start"))
    return found["start"].to_numpy(), found["end"].to_numpy(), found["text"]


def _without_inner(records: pl.DataFrame) -> pl.DataFrame:
    """Leaves out what seems to begin on a line that an earlier record has taken already."""
    kept, taken_to = [], -1
    for i, (start, end) in enumerate(records.select("start", "end").iter_rows()):
        if start > taken_to:
            kept.append(i)
            taken_to = end
    return records[kept]
