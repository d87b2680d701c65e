"""Where raw logs lie and how their owner writes them: files, column names, units and limits."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from upnext.errors import ConfigError
from upnext.schema import (
    IMPRESSION_COLUMNS,
    ITEM_COLUMNS,
    SEARCH_COLUMNS,
    USER_COLUMNS,
    WATCH_COLUMNS,
    Column,
)

TableName = Literal["watches", "impressions", "searches", "items", "users"]
TimeUnit = Literal["ms", "s", "us", "ns", "iso8601"]
DurationUnit = Literal["s", "ms"]

TABLE_COLUMNS: Mapping[TableName, Mapping[str, Column]] = {
    "items": ITEM_COLUMNS,
    "users": USER_COLUMNS,
    "watches": WATCH_COLUMNS,
    "impressions": IMPRESSION_COLUMNS,
    "searches": SEARCH_COLUMNS,
}
TABLES_WITH_FEATURES = frozenset[TableName]({"items", "users"})


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """The files of one table and what is particular about them.

    >>> TableSource(files="export/plays-*.csv", columns={"user_id": "uid"}, time_unit="s").time_unit
    's'
    """

    files: str | None = None
    """A file, a directory or a glob, relative to the logs directory. None: the table's own place,
    `watches/` or `watches.parquet` (or .csv, .tsv, .jsonl, .ndjson; text may end in .gz)."""

    columns: dict[str, str] = field(default_factory=dict)
    """Our column name → the name in the files. A column not named here keeps its own name."""

    time_unit: TimeUnit = "ms"
    """What times are counted in since 1970 (UTC). `iso8601`: text; without a zone it is UTC.
    Parquet timestamps carry their own unit and need none."""

    duration_unit: DurationUnit = "s"
    """What watch times and durations are counted in."""

    separator: str | None = None
    """What stands between two fields of a CSV line. None: a comma, in .tsv files a tab."""

    tags_separator: str = "|"
    """What stands between two tags where they are written as text; JSON lists need none."""

    def __post_init__(self) -> None:
        for name in ("separator", "tags_separator"):
            value = getattr(self, name)
            if value is not None and (len(value) != 1 or value in '"\r\n'):
                raise ConfigError(
                    f"[logs.<table>] {name}", expected="one character, no quote", got=repr(value)
                )


@dataclass(frozen=True, kw_only=True)
class LogsConfig:
    """The section [logs] of `run.toml`: the source of each table and what counts as a bad row."""

    watches: TableSource = TableSource()
    """Where the watches lie; without any, the watched impressions are the watches."""

    impressions: TableSource = TableSource()
    """Where the impressions lie; they may be absent."""

    searches: TableSource = TableSource()
    """Where the searches lie; they may be absent."""

    items: TableSource = TableSource()
    """Where the catalogue lies; without one, the ids that occur are the items."""

    users: TableSource = TableSource()
    """Where the users lie; they may be absent."""

    max_watch_time_s: float = 86_400.0
    """Longest believable watch, in seconds; a longer one is quarantined."""

    missing_watch_time_s: float | None = None
    """What a watch counts of which nobody wrote down how long it was. None: it is quarantined, and
    files without such a column are refused. Where only clicks are known, 1 counts each alike; where
    revenue stands in place of seconds, 0 fits a click that sold nothing."""

    max_watch_share: float | None = None
    """Longest believable watch as a multiple of its item's duration. None: no such limit,
    because players loop."""

    ids_max_bytes: int = 256
    """Longest believable id, in UTF-8 bytes."""

    skip_unreadable_files: bool = False
    """True: a file that cannot be opened is left out and reported. False: it is an error. A text
    file without a line is left out and reported either way."""

    def __post_init__(self) -> None:
        for name in ("max_watch_time_s", "max_watch_share", "ids_max_bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"[logs] {name}", expected="more than 0", got=repr(value))
        missing_s = self.missing_watch_time_s
        if missing_s is not None and not 0 <= missing_s <= self.max_watch_time_s:
            expected = f"0 to max_watch_time_s, {self.max_watch_time_s:g}"
            raise ConfigError("[logs] missing_watch_time_s", expected=expected, got=repr(missing_s))
        for table, columns in TABLE_COLUMNS.items():
            if table not in TABLES_WITH_FEATURES:
                _refuse_unknown_columns(table, self.source(table), columns)

    def source(self, table: TableName) -> TableSource:
        """The source of one table."""
        source: TableSource = getattr(self, table)
        return source


def _refuse_unknown_columns(table: str, source: TableSource, columns: Mapping[str, Column]) -> None:
    for name, name_in_files in source.columns.items():
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else "our name comes first: ours = 'file's'."
            )
            if name_in_files in columns:
                hint = f"our name comes first: {name_in_files} = {name!r}."
            raise ConfigError(
                f"[logs.{table}] columns",
                expected=f"one of {', '.join(columns)}",
                got=f"the unknown column {name!r}",
                hint=hint,
            )
