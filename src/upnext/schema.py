"""The tables and answers that rooms hand on. Each checks itself once, when it is made.

Ids are the owner's own strings or integers; every time is int64 milliseconds since 1970 in UTC;
every duration is float32 seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError, RequestError

Id = str | int
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
TimesMs = NDArray[np.int64]

PAD_ROW, UNKNOWN_ROW, NUM_RESERVED_ROWS = 0, 1, 2
"""Row 0 pads, row 1 is unknown; the items of a vocabulary stand in rows 2 to N − 1."""
NO_ROW = -1
"""Stands where fewer items were found than were asked for."""

MS_PER_HOUR, MS_PER_DAY = 3_600_000, 86_400_000

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
    """Items that are proposed for one request: item_rows [K], retrieval's best ones first.

    scores [K]: retrieval's; nominated_by [K, 1 + S]: by whom, in the order of `sources.NOMINATORS`.
    """

    item_rows: Rows
    scores: Floats
    nominated_by: NDArray[np.bool_]


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
class ItemRules:
    """Which items may be recommended at all; every rule that is set must hold.

    Ids and tags are the owner's. `allowed_…`: an item, a channel, or one tag of the item must be
    among these; None allows all, an empty list none. `blocked_…`: it must not be. What a release
    does not know of an item keeps to no rule: an item of unknown duration is left out once a bound
    of the duration is set, and one of an unknown channel or tag once such a one is blocked. Of an
    item's tags a release knows the first `[examples] max_tags`.

    `published_since_ms`: published then or later.

    Raises: RequestError: a duration below 0, or the shortest above the longest.
    """

    allowed_items: Sequence[Id] | None = None
    blocked_items: Sequence[Id] | None = None
    allowed_channels: Sequence[Id] | None = None
    blocked_channels: Sequence[Id] | None = None
    allowed_tags: Sequence[str] | None = None
    blocked_tags: Sequence[str] | None = None
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    published_since_ms: int | None = None

    def __post_init__(self) -> None:
        least_s = 0.0 if self.min_duration_s is None else self.min_duration_s
        _require(least_s >= 0, "rules.min_duration_s", "0 or more", self.min_duration_s)
        if self.max_duration_s is not None:
            expected = f"{least_s:g} or more"
            holds = self.max_duration_s >= least_s
            _require(holds, "rules.max_duration_s", expected, self.max_duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePast:
    """What one user did lately, as the live store knows it.

    Each kind in order of time, oldest first. `started_at_ms` and `watch_time_s` go with `watched`,
    item by item, as the other times go with `shown` and with `searched`.
    """

    watched: Sequence[Id] = ()
    started_at_ms: Sequence[int] = ()
    watch_time_s: Sequence[float] = ()
    shown: Sequence[Id] = ()
    shown_at_ms: Sequence[int] = ()
    searched: Sequence[str] = ()
    searched_at_ms: Sequence[int] = ()

    def __bool__(self) -> bool:
        """Whether anything happened."""
        return bool(self.watched or self.shown or self.searched)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """What a page shall be beside long watched; all is off unless set, and then costs watch time.

    `diversity`: from 0, watch time alone, to 1, unlikeness alone: the λ of maximal marginal
    relevance. `max_per_channel`: slots that a channel may have; unknown channels have no limit.
    `num_fresh`: slots that hold at least so many items published within `fresh_days` before the
    request. `num_explored`: slots, the last ones, that are drawn by chance, with probability
    proportional to (expected watch time) ^ (1 / exploration_temperature). `seed`: the same seed
    draws the same; left out, each request draws anew, which is what propensities suppose.

    How they go together is told in `upnext.recommender.page`.

    Raises: RequestError: a value out of its range.
    """

    diversity: float = 0.0
    max_per_channel: int | None = None
    num_fresh: int = 0
    fresh_days: float = 7.0
    num_explored: int = 0
    exploration_temperature: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        limit, seed = self.max_per_channel, self.seed
        _require(0 <= self.diversity <= 1, "page.diversity", "0 to 1", self.diversity)
        _require(limit is None or limit >= 1, "page.max_per_channel", "1 or more", limit)
        _require(self.num_fresh >= 0, "page.num_fresh", "0 or more", self.num_fresh)
        _require(self.fresh_days > 0, "page.fresh_days", "above 0", self.fresh_days)
        _require(self.num_explored >= 0, "page.num_explored", "0 or more", self.num_explored)
        temperature = self.exploration_temperature
        _require(temperature >= 0.01, "page.exploration_temperature", "0.01 or more", temperature)
        _require(seed is None or seed >= 0, "page.seed", "0 or more", seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationRequest:
    """Who asks, and for how many.

    `user_id`: a known user's history is taken from the release; an unknown one is welcome.
    `history`: used in place of the stored history; newest last.
    `searches`: the last queries, newest last. `user_features`: values of declared features.
    `at_ms`: the time of the request; now, unless given.
    `exclude_watched`: leave out what the user has watched.
    `page`: what the page shall be beside long watched. `rules`: which items may stand on it.
    `num_reasons`: reasons that each item is given; above 0 an answer takes some times as long.

    Raises: RequestError: no slots, or fewer than the page's options fill.
    """

    user_id: Id | None = None
    history: Sequence[PastWatch] | None = None
    searches: Sequence[str] | None = None
    user_features: Mapping[str, str] = field(default_factory=dict)
    k: int = 10
    at_ms: int | None = None
    exclude_watched: bool = True
    page: PageOptions = field(default_factory=PageOptions)
    rules: ItemRules = field(default_factory=ItemRules)
    num_reasons: int = 0

    def __post_init__(self) -> None:
        _require(self.k >= 1, "k", "1 or more", self.k)
        _require(self.num_reasons >= 0, "num_reasons", "0 or more", self.num_reasons)
        num_told = self.page.num_fresh + self.page.num_explored
        expected = f"num_fresh and num_explored to be at most k = {self.k} together"
        _require(num_told <= self.k, "page", expected, num_told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What moved an expected watch time, and by `watch_time_s`: above 0 upwards.

    `about`: a sentence part; where it is "watching", `item_id` is the item watched.
    """

    about: str
    item_id: Id | None
    watch_time_s: float


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """One recommended item and what each stage thought of it.

    `expected_watch_time_s` is seconds per impression; None where the release has no ranker.
    `retrieval_score`: the inner product of the user's and the item's vector, and the release's
    bonus where the user has watched the item and may watch it again; a cosine of similar items.
    `retrieval_rank` counts from 1; None where retrieval did not propose the item. `sources`: who
    did, such as "retrieval" and "fresh". `reasons`: why so long, if that was asked.
    `explored`: the item was drawn by chance. `propensity`: the probability that it came to this
    slot, given the slots above, as `Impressions` has it; 1 where nothing was drawn.
    """

    item_id: Id
    title: str | None
    expected_watch_time_s: float | None
    retrieval_score: float
    retrieval_rank: int | None
    sources: Sequence[str] = ()
    reasons: Sequence[Reason] = ()
    propensity: float = 1.0
    explored: bool = False


class Recommendations(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one request: the items, best first, and how it came about.

    `timings_ms`: milliseconds by stage. `degraded`: why the answer is less than it could be,
    one sentence a cause; empty when nothing is amiss.
    """

    items: Sequence[Recommendation]
    release: str
    num_candidates: int
    timings_ms: Mapping[str, float]
    degraded: Sequence[str] = ()


def _require(holds: bool, where: str, expected: str, got: object) -> None:
    if not holds:
        raise RequestError(where, expected=expected, got=str(got))


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
