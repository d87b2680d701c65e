"""The tables and answers that rooms hand on. Each checks itself once, when it is made.

Ids are the owner's own strings or integers; every time is int64 milliseconds since 1970 in UTC;
every duration is float32 seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError

Id = str | int
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
TimesMs = NDArray[np.int64]

PAD_ROW, UNKNOWN_ROW, NUM_RESERVED_ROWS = 0, 1, 2
"""Row 0 pads, row 1 is unknown; the items of a vocabulary stand in rows 2 to N − 1."""

MS_PER_DAY = 86_400_000

ColumnKind = Literal["id", "time_ms", "seconds", "number", "count", "flag", "text", "ids"]
"""id: int64 or string · ids: a list of strings · count: int32 · number: float32."""

KIND_DTYPES: Mapping[ColumnKind, tuple[pl.DataType, ...]] = {
    "id": (pl.Int64(), pl.String()),
    "time_ms": (pl.Int64(),),
    "seconds": (pl.Float32(),),
    "number": (pl.Float32(),),
    "count": (pl.Int32(),),
    "flag": (pl.Boolean(),),
    "text": (pl.String(),),
    "ids": (pl.List(pl.String()),),
}


@dataclass(frozen=True, slots=True)
class Column:
    """What one column holds, whether a table must have it, and whether a value may be missing."""

    kind: ColumnKind
    required: bool = True
    nullable: bool = False


WATCH_COLUMNS: Mapping[str, Column] = {
    "user_id": Column("id"),
    "item_id": Column("id"),
    "started_at_ms": Column("time_ms"),
    "watch_time_s": Column("seconds"),
}
IMPRESSION_COLUMNS: Mapping[str, Column] = {
    "request_id": Column("id"),
    "user_id": Column("id"),
    "item_id": Column("id"),
    "shown_at_ms": Column("time_ms"),
    "position": Column("count"),
    "watched": Column("flag"),
    "watch_time_s": Column("seconds"),
    "source": Column("text", required=False, nullable=True),
    "propensity": Column("number", required=False, nullable=True),
}
SEARCH_COLUMNS: Mapping[str, Column] = {
    "user_id": Column("id"),
    "searched_at_ms": Column("time_ms"),
    "query": Column("text"),
}
ITEM_COLUMNS: Mapping[str, Column] = {
    "item_id": Column("id"),
    "published_at_ms": Column("time_ms", nullable=True),
    "duration_s": Column("seconds", nullable=True),
    "channel_id": Column("id", nullable=True),
    "tags": Column("ids", nullable=True),
    "title": Column("text", nullable=True),
}
USER_COLUMNS: Mapping[str, Column] = {"user_id": Column("id")}


@dataclass(frozen=True, slots=True)
class Watches:
    """Items that users played: user_id, item_id, started_at_ms, watch_time_s; in any order."""

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        _check("Watches", self.frame, WATCH_COLUMNS)


@dataclass(frozen=True, slots=True)
class Impressions:
    """Items that were shown, watched or not; `position` counts from 0 within its request.

    `source` names what nominated the item; `propensity` is the probability with which the
    logging policy chose it for this slot. Both may be absent.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        _check("Impressions", self.frame, IMPRESSION_COLUMNS)


@dataclass(frozen=True, slots=True)
class Searches:
    """What users typed into search: user_id, searched_at_ms, query."""

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        _check("Searches", self.frame, SEARCH_COLUMNS)


@dataclass(frozen=True, slots=True)
class Items:
    """The catalogue, one line an item_id; a missing value means that it is not known."""

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        _check("Items", self.frame, ITEM_COLUMNS, extra_allowed=True, unique="item_id")


@dataclass(frozen=True, slots=True)
class Users:
    """One line a user_id; every other column is a feature that a config may declare."""

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        _check("Users", self.frame, USER_COLUMNS, extra_allowed=True, unique="user_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Clean logs: what a platform knows about who was shown what and what they watched."""

    watches: Watches
    items: Items
    impressions: Impressions | None = None
    searches: Searches | None = None
    users: Users | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items that retrieval proposes for one request, best first: item_rows [K], scores [K]."""

    item_rows: Rows
    scores: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PastWatch:
    """A watch that a request brings along.

    `started_at_ms`: left out, the watches of a request are taken to have ended just now, the
    last one last. `watch_time_s`: left out, the item counts as watched to its end.
    """

    item_id: Id
    started_at_ms: int | None = None
    watch_time_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationRequest:
    """Who asks, and for how many.

    `user_id`: a known user's history is taken from the release; an unknown one is welcome.
    `history`: used in place of the stored history; newest last.
    `searches`: the last queries, newest last. `user_features`: values of declared features.
    `at_ms`: the time of the request; now, unless given.
    `exclude_watched`: leave out what the user has watched.
    """

    user_id: Id | None = None
    history: Sequence[PastWatch] | None = None
    searches: Sequence[str] | None = None
    user_features: Mapping[str, str] = field(default_factory=dict)
    k: int = 10
    at_ms: int | None = None
    exclude_watched: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One recommended item and what each stage thought of it.

    `expected_watch_time_s` is seconds per impression; None where the release has no ranker.
    """

    item_id: Id
    title: str | None
    expected_watch_time_s: float | None
    retrieval_score: float
    retrieval_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendations:
    """The answer to one request: the items, best first, and how it came about.

    `timings_ms`: milliseconds by stage. `degraded`: why the answer is less than it could be,
    one sentence a cause; empty when nothing is amiss.
    """

    items: Sequence[Recommendation]
    release: str
    num_candidates: int
    timings_ms: Mapping[str, float]
    degraded: Sequence[str] = ()


def _check(
    table: str,
    frame: pl.DataFrame,
    columns: Mapping[str, Column],
    *,
    extra_allowed: bool = False,
    unique: str | None = None,
) -> None:
    for name, column in columns.items():
        if name not in frame.columns:
            if column.required:
                got = ", ".join(frame.columns) or "no columns"
                raise DataError(table, expected=f"a column {name}", got=got)
            continue
        dtypes = KIND_DTYPES[column.kind]
        if frame.schema[name] not in dtypes:
            wanted = " or ".join(str(dtype) for dtype in dtypes)
            raise DataError(f"{table}.{name}", expected=wanted, got=str(frame.schema[name]))
        if not column.nullable and (num_missing := frame[name].null_count()):
            raise DataError(f"{table}.{name}", expected="no nulls", got=f"{num_missing} nulls")
    if not extra_allowed and (extra := set(frame.columns) - set(columns)):
        raise DataError(table, expected=f"only {', '.join(columns)}", got=", ".join(sorted(extra)))
    if unique is not None and frame[unique].n_unique() != frame.height:
        raise DataError(f"{table}.{unique}", expected="each id once", got="repeated ids")
