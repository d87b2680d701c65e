"""Bad rows go to the quarantine with a reason and a count: accepted + quarantined = read.

A row is refused for the first of these that holds: broken line; then column by column in the order
of `schema.py` null, bad UTF-8, null byte, too long, not a number, negative, above the limit, in the
future; then unknown item_id, watch longer than the item, duplicate. A bad cell that may be missing
(an item's duration or a propensity, say) becomes null instead and is counted as blanked.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.logs.formats import QUARANTINE, RawFile
from upnext.logs.sources import TableName

BROKEN_LINE = "broken line"

_TIME_COLUMN: Mapping[TableName, str] = {
    "watches": "started_at_ms",
    "impressions": "shown_at_ms",
    "searches": "searched_at_ms",
}
_KEY: Mapping[TableName, tuple[str, ...]] = {
    "items": ("item_id",),
    "users": ("user_id",),
    "watches": ("user_id", "item_id", "started_at_ms"),
    "impressions": ("user_id", "request_id", "item_id", "position"),
    "searches": ("user_id", "searched_at_ms", "query"),
}


@dataclass(frozen=True, kw_only=True)
class TableReport:
    """What became of the rows of one table.

    `quarantined`: reason → rows. `blanked`: reason → cells that became null in rows that may be
    good. `unused_columns`: in the files, but no part of the table. `first_ms`, `last_ms`: times of
    the first and last accepted event; None for items and users.
    """

    num_read: int
    num_accepted: int
    quarantined: Mapping[str, int]
    blanked: Mapping[str, int]
    unused_columns: Sequence[str] = ()
    first_ms: int | None = None
    last_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class UnreadableFile:
    """A file that was left out because it could not be opened."""

    file: str
    cause: str


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What the check found, table by table.

    `derived`: a sentence for each table that had no files and was made from others.
    """

    tables: Mapping[str, TableReport]
    unreadable_files: Sequence[UnreadableFile] = ()
    derived: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, ready for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """The report as aligned tables for a person to read.

        >>> table = TableReport(num_read=12, num_accepted=11, quarantined={"duplicate": 1},
        ...                     blanked={}, first_ms=0, last_ms=60_000)
        >>> print(CheckReport(tables={"watches": table}).to_text())
        table    read  accepted  quarantined  first event       last event (UTC)
        watches  12    11        1            1970-01-01 00:00  1970-01-01 00:01
        <BLANKLINE>
        quarantined  reason     rows
        watches      duplicate  1
        """
        head = ("table", "read", "accepted", "quarantined", "first event", "last event (UTC)")
        sums = [
            (
                name,
                f"{table.num_read:,}",
                f"{table.num_accepted:,}",
                f"{table.num_read - table.num_accepted:,}",
                _minute(table.first_ms),
                _minute(table.last_ms),
            )
            for name, table in self.tables.items()
        ]
        unused = {
            name: ", ".join(table.unused_columns)
            for name, table in self.tables.items()
            if table.unused_columns
        }
        parts = [
            _aligned([head, *sums]),
            self._counts("quarantined", "rows"),
            self._counts("blanked", "cells"),
            _listed(("table", "columns not used"), unused.items()),
            _listed(
                ("unreadable file", "cause"), ((f.file, f.cause) for f in self.unreadable_files)
            ),
            "\n".join(self.derived),
        ]
        return "\n\n".join(part for part in parts if part)

    def _counts(self, what: str, unit: str) -> str:
        rows = [
            (name, reason, f"{count:,}")
            for name, table in self.tables.items()
            for reason, count in getattr(table, what).items()
        ]
        return _listed((what, "reason", unit), rows)


@dataclass(slots=True)
class Verdicts:
    """Why rows are refused: `codes` [rows] is 0 for a good row, else 1 + its place in `reasons`.

    The files of a table share one list of reasons, so that their codes can be joined.
    """

    codes: NDArray[np.uint8]
    reasons: list[str]

    def refuse(self, reason: str, mask: pl.Series) -> None:
        """Refuses the rows where `mask` is true, but for those that already have a reason."""
        refused = mask.fill_null(False)
        if not refused.any():
            return
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.codes[(self.codes == 0) & refused.to_numpy()] = 1 + self.reasons.index(reason)


@dataclass(slots=True, kw_only=True)
class CheckedTable:
    """All rows of a table, typed, with the verdict on each and the files that they came from."""

    name: TableName
    frame: pl.DataFrame
    verdicts: Verdicts
    files: list[RawFile]
    blanked: Counter[str] = field(default_factory=Counter)
    unused_columns: tuple[str, ...] = ()

    def accepted(self) -> pl.DataFrame:
        """The good rows."""
        is_good = self.verdicts.codes == 0
        return self.frame if is_good.all() else self.frame.filter(pl.Series(is_good))

    def quarantined(self) -> dict[str, int]:
        """Reason → number of refused rows, the commonest first."""
        counts = Counter({BROKEN_LINE: sum(file.broken.height for file in self.files)})
        codes = np.bincount(self.verdicts.codes, minlength=1 + len(self.verdicts.reasons))
        counts.update(dict(zip(self.verdicts.reasons, codes[1:].tolist(), strict=True)))
        return {reason: count for reason, count in counts.most_common() if count}

    def report(self) -> TableReport:
        """The counts of this table."""
        quarantined = self.quarantined()
        num_accepted = int(np.count_nonzero(self.verdicts.codes == 0))
        first_ms = last_ms = None
        if (column := _TIME_COLUMN.get(self.name)) and num_accepted:
            times = self.frame[column].to_numpy()[self.verdicts.codes == 0]
            first_ms, last_ms = int(times.min()), int(times.max())
        return TableReport(
            num_read=self.frame.height + sum(file.broken.height for file in self.files),
            num_accepted=num_accepted,
            quarantined=quarantined,
            blanked=dict(self.blanked),
            unused_columns=self.unused_columns,
            first_ms=first_ms,
            last_ms=last_ms,
        )


def refuse_unknown_items(table: CheckedTable, items: pl.DataFrame) -> None:
    """Refuses rows whose item_id the items table does not have."""
    ids, known = _comparable(table.frame["item_id"], items["item_id"])
    table.verdicts.refuse("unknown item_id", ~ids.is_in(known.implode()))


def refuse_longer_than_item(table: CheckedTable, items: pl.DataFrame, max_share: float) -> None:
    """Refuses watches above `max_share` times their item's duration, where that is known."""
    ids, known = _comparable(table.frame["item_id"], items["item_id"])
    durations = pl.DataFrame({"item_id": known, "duration_s": items["duration_s"]})
    joined = ids.to_frame("item_id").join(
        durations, on="item_id", how="left", maintain_order="left"
    )
    too_long = table.frame["watch_time_s"] > max_share * joined["duration_s"]
    table.verdicts.refuse("watch longer than the item", too_long)


def refuse_duplicates(table: CheckedTable) -> None:
    """Refuses all but the first of the good rows with one key.

    Hashes find the few rows that may be repeats, which are then compared exactly: a table of many
    millions is never held a second time.
    """
    good = np.flatnonzero(table.verdicts.codes == 0)
    keys = table.frame.select(_KEY[table.name])
    hashes = (keys if good.size == keys.height else keys[good]).hash_rows()
    ordered = hashes.sort()
    repeated = ordered.filter(ordered == ordered.shift()).unique()
    if repeated.is_empty():
        return
    suspects = good[hashes.is_in(repeated.implode()).to_numpy()]
    is_repeat = keys[suspects].select(~pl.struct(pl.all()).is_first_distinct()).to_series()
    mask = np.zeros(keys.height, np.bool_)
    mask[suspects[is_repeat.to_numpy()]] = True
    table.verdicts.refuse("duplicate", pl.Series(mask))


def write_quarantine(directory: Path, tables: Mapping[TableName, CheckedTable]) -> None:
    """Writes refused rows to quarantine/<table>.parquet and removes what an earlier check left.

    Columns: `file`, `row` (from 1; for text the line of the file), `reason`, the file's own columns
    as text, and `line`, the whole of a broken line.

    Raises:
        DataError: the directory cannot be written.
    """
    folder = directory / QUARANTINE
    try:
        for old in folder.glob("*.parquet"):
            if old.stem not in tables or not tables[old.stem].quarantined():  # type: ignore[index]
                old.unlink()
        for name, table in tables.items():
            if table.quarantined():
                folder.mkdir(exist_ok=True)
                unfinished = folder / f".{name}.parquet.unfinished"
                _quarantined_rows(table).write_parquet(unfinished, compression="zstd")
                os.replace(unfinished, folder / f"{name}.parquet")
    except OSError as error:
        raise DataError(
            str(folder),
            expected="a directory that can be written, for the rows that were refused",
            got=str(error),
            hint="make the logs directory writable, or read a copy of it.",
        ) from error


def _quarantined_rows(table: CheckedTable) -> pl.DataFrame:
    """The refused rows of all files, as they came."""
    parts, offset = [], 0
    reasons = pl.Series(["", *table.verdicts.reasons])
    for file in table.files:
        codes = table.verdicts.codes[offset : offset + file.frame.height]
        offset += file.frame.height
        refused = np.flatnonzero(codes)
        rows = pl.Series(refused + 1) if file.row_numbers is None else file.row_numbers[refused]
        ours = pl.DataFrame({"row": rows.cast(pl.Int64), "reason": reasons.gather(codes[refused])})
        raw = file.frame[refused].select(_as_text(column) for column in file.frame.get_columns())
        clashing = {"file", "row", "reason", "line"} & set(raw.columns)
        raw = raw.rename({name: f"raw_{name}" for name in clashing})
        broken = file.broken.with_columns(reason=pl.lit(BROKEN_LINE))
        both = pl.concat([pl.concat([ours, raw], how="horizontal"), broken], how="diagonal")
        parts.append(both.select(pl.lit(file.name).alias("file"), pl.all()))
    return pl.concat(parts, how="diagonal")


def _as_text(column: pl.Series) -> pl.Expr:
    expression = pl.col(column.name)
    if column.dtype == pl.Binary:
        return expression.bin.encode("hex")
    if column.dtype.is_nested():
        return pl.struct(expression).struct.json_encode().alias(column.name)
    return expression.cast(pl.String)


def _comparable(ids: pl.Series, known: pl.Series) -> tuple[pl.Series, pl.Series]:
    if ids.dtype == known.dtype:
        return ids, known
    return ids.cast(pl.String), known.cast(pl.String)


def _minute(time_ms: int | None) -> str:
    if time_ms is None:
        return ""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M")


def _listed(head: tuple[str, ...], rows: Any) -> str:
    lines = [tuple(row) for row in rows]
    return _aligned([head, *lines]) if lines else ""


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
