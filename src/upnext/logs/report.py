"""What a check of logs found, table by table: as plain values, and as text for a person."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, get_args

from upnext.logs.sources import TimeUnit

NUM_EXAMPLES = 3
"""Refused rows that a report shows for each reason."""
MAX_CELL_CHARS = 200
"""Of each of their cells, at most."""
SUSPICIOUS_SHARE = 0.05
"""Of a table's rows with one fault, above which the unit is more likely wrong than the rows."""
FIRST_BELIEVABLE_MS = 631_152_000_000
"""1990 begins. Seconds that are read as milliseconds lie before it, whatever the century."""


@dataclass(frozen=True, kw_only=True)
class DayRows:
    """Accepted rows of one UTC day, which begins at `day_ms`."""

    day_ms: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class RefusedRow:
    """A row in the quarantine, as it came.

    `row`: from 1; for text the line of the file. `cells`: column of the file → the beginning of
    its text, without those that are null; of a broken line all of it, as `line`.
    """

    reason: str
    file: str
    row: int
    cells: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TableReport:
    """What became of the rows of one table.

    `quarantined`: reason → rows. `blanked`: reason → cells that became null, or are taken for what
    the settings say, in rows that may be good. `unused_columns`: in the files, but no part of the
    table. `first_ms`, `last_ms`: times of the first and last accepted event; None for items and
    users. `per_day`: accepted events by day, for days that have any. `examples`: a few refused rows
    for each reason.
    """

    num_read: int
    num_accepted: int
    quarantined: Mapping[str, int]
    blanked: Mapping[str, int]
    unused_columns: Sequence[str] = ()
    first_ms: int | None = None
    last_ms: int | None = None
    per_day: Sequence[DayRows] = ()
    examples: Sequence[RefusedRow] = ()

    def hints(self, name: str) -> Iterator[str]:
        """What of the section [logs.`name`] may not fit the files: units that many rows belie."""
        for reason, count in {**self.blanked, **self.quarantined}.items():
            if count <= SUSPICIOUS_SHARE * self.num_read:
                continue
            if reason.startswith("unparsable"):
                column = reason.removeprefix("unparsable ")
                units = ", ".join(get_args(TimeUnit))
                yield f"[logs.{name}] time_unit may not be that of {column}: one of {units}."
            elif reason.startswith("watch_time_s above"):
                yield f"[logs.{name}] duration_unit may have to be 'ms'."
        if self.last_ms is not None and self.last_ms < FIRST_BELIEVABLE_MS:
            yield f"[logs.{name}] time_unit may have to be 's': no event is later than 1989."


@dataclass(frozen=True, kw_only=True)
class UnreadableFile:
    """A file that was left out because it could not be opened, or is empty."""

    file: str
    cause: str


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What the check found, table by table.

    `derived`: a sentence for each table that had no files and was made from others, and for each
    column that impressions do without.
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
        ...                     blanked={},
        ...                     first_ms=1_786_000_000_000,
        ...                     last_ms=1_786_000_060_000)
        >>> print(CheckReport(tables={"watches": table}).to_text())
        table    read  accepted  quarantined  first event       last event (UTC)
        watches  12    11        1            2026-08-06 07:06  2026-08-06 07:07
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
            "\n".join(
                f"Hint: {hint}" for name, table in self.tables.items() for hint in table.hints(name)
            ),
        ]
        return "\n\n".join(part for part in parts if part)

    def _counts(self, what: str, unit: str) -> str:
        rows = [
            (name, reason, f"{count:,}")
            for name, table in self.tables.items()
            for reason, count in getattr(table, what).items()
        ]
        return _listed((what, "reason", unit), rows)


def commonest_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Reason → rows, without reasons that no row has; equally common ones in the order of names.

    So a report does not depend on which bad row was met first.
    """
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {reason: count for reason, count in ordered if count}


def first_of_each_reason(rows: Iterable[RefusedRow]) -> tuple[RefusedRow, ...]:
    """The first `NUM_EXAMPLES` rows of each reason, by reason."""
    by_reason: dict[str, list[RefusedRow]] = {}
    for row in rows:
        kept = by_reason.setdefault(row.reason, [])
        if len(kept) < NUM_EXAMPLES:
            kept.append(row)
    return tuple(row for reason in sorted(by_reason) for row in by_reason[reason])


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
