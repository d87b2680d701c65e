"""Bad rows go to the quarantine with a reason and a count: accepted + quarantined = read.

A row is refused for the first of these that holds: broken line; then column by column in the order
of `schema.py` null, bad UTF-8, null byte, too long, not a number, negative, above the limit, before
1970, in the future; then unknown item_id, watch longer than the item, duplicate. A bad cell that
may be missing (an item's duration or a propensity, say) becomes null instead and is counted as
blanked.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.logs.formats import QUARANTINE, RawFile
from upnext.logs.report import (
    MAX_CELL_CHARS,
    NUM_EXAMPLES,
    DayRows,
    RefusedRow,
    TableReport,
    commonest_first,
    first_of_each_reason,
)
from upnext.logs.sources import TableName
from upnext.schema import MS_PER_DAY, TimesMs

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
        self.codes[(self.codes == 0) & refused.to_numpy()] = self.code(reason)

    def code(self, reason: str) -> int:
        """What stands for a reason in `codes`; a new one is added."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return 1 + self.reasons.index(reason)

    def counts(self, *, num_broken: int) -> dict[str, int]:
        """Reason → number of refused rows, the commonest first; lines that are broken are more."""
        codes = np.bincount(self.codes, minlength=1 + len(self.reasons))
        refused = dict(zip(self.reasons, codes[1:].tolist(), strict=True))
        return commonest_first({BROKEN_LINE: num_broken, **refused})


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
        return self.verdicts.counts(num_broken=sum(file.broken.height for file in self.files))

    def examples(self) -> tuple[RefusedRow, ...]:
        """The first refused rows of each reason."""
        codes = np.zeros_like(self.verdicts.codes)
        for code in range(1, 1 + len(self.verdicts.reasons)):
            codes[np.flatnonzero(self.verdicts.codes == code)[:NUM_EXAMPLES]] = code
        first = replace(
            self,
            verdicts=replace(self.verdicts, codes=codes),
            files=[replace(file, broken=file.broken.head(NUM_EXAMPLES)) for file in self.files],
        )
        return first_of_each_reason(map(_refused_row, _quarantined_rows(first).to_dicts()))

    def report(self) -> TableReport:
        """What became of the rows of this table."""
        quarantined = self.quarantined()
        num_accepted = int(np.count_nonzero(self.verdicts.codes == 0))
        first_ms, last_ms, num_by_day = None, None, Counter[int]()
        if (column := _TIME_COLUMN.get(self.name)) and num_accepted:
            times = self.frame[column].to_numpy()[self.verdicts.codes == 0]
            first_ms, last_ms = int(times.min()), int(times.max())
            num_by_day = rows_by_day(times)
        return TableReport(
            num_read=self.frame.height + sum(file.broken.height for file in self.files),
            num_accepted=num_accepted,
            quarantined=quarantined,
            blanked=dict(self.blanked),
            unused_columns=self.unused_columns,
            first_ms=first_ms,
            last_ms=last_ms,
            per_day=as_days(num_by_day),
            examples=self.examples() if quarantined else (),
        )


def rows_by_day(times_ms: TimesMs) -> Counter[int]:
    """Beginning of a UTC day, in ms → how many of the times lie in it."""
    days, counts = pl.Series(times_ms // MS_PER_DAY).value_counts().get_columns()
    return Counter(dict(zip((days * MS_PER_DAY).to_list(), counts.to_list(), strict=True)))


def as_days(num_by_day: Mapping[int, int]) -> tuple[DayRows, ...]:
    """The days that have a row, in order."""
    days = sorted(num_by_day.items())
    return tuple(DayRows(day_ms=day_ms, num_rows=num_rows) for day_ms, num_rows in days)


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


def _refused_row(row: Mapping[str, Any]) -> RefusedRow:
    """A line of the quarantine."""
    cells = {
        name: text[:MAX_CELL_CHARS]
        for name, text in row.items()
        if name not in ("file", "row", "reason") and text is not None
    }
    return RefusedRow(reason=row["reason"], file=row["file"], row=row["row"], cells=cells)


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
