"""What is learned from the training logs by counting, and the one way from tables to arrays.

Training and serving encode with the same object: training builds it, the release keeps it.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import ConfigError, DataError
from upnext.examples.catalogue import Catalogue, build_catalogue, described
from upnext.examples.history import EventLog, History
from upnext.examples.item_features import ItemFeatures, build_item_features
from upnext.examples.searches import explode_tokens
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import (
    MS_PER_DAY,
    MS_PER_HOUR,
    UNKNOWN_ROW,
    Logs,
    Rows,
    TimesMs,
)

NUM_HOURS, NUM_WEEKDAYS = 24, 7
CLOCK_SIZES = {"hour": NUM_HOURS, "weekday": NUM_WEEKDAYS}


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """What of the logs becomes input."""

    max_items: int | None = None
    """Items kept, the most watched first; None keeps all."""
    min_watches: int = 1
    """An item watched less often in training is unknown."""
    max_search_tokens: int = 100_000
    """Unigrams and bigrams kept, the most frequent first."""
    max_tags: int = 4
    """Tags of an item that are used, the first ones."""
    num_watches: int = 50
    """Slots of history for the last watches."""
    num_searches: int = 50
    """Slots of history for the last search tokens."""
    num_watches_ranked: int = 200
    """Slots of history for the last watches as ranking sees them."""
    num_shown: int = 500
    """Slots of history for the last impressions, which ranking alone sees."""
    recent_watches: tuple[int, ...] = (1, 5)
    """Retrieval also averages the last so many watches each, beside all num_watches of them; ()
    leaves the paper's one average."""
    clock: tuple[Literal["hour", "weekday"], ...] = ()
    """What is told of the moment, in UTC. The weekday wants logs of many weeks and the hour of many
    days: in shorter ones they are but another name for the date, and the next has not been seen."""
    user_features: tuple[str, ...] = ()
    """Columns of the users table that are embedded."""
    item_features: tuple[str, ...] = ()
    """Columns of the items table that enter an item's vector, such as "channel_id", "tags" and
    "duration_s", so that a new item gets one without training: text, whole numbers and flags by a
    vector a value, lists by the mean of their first max_tags values, other numbers by quantile."""

    @property
    def watch_windows(self) -> tuple[int, ...]:
        """Lengths of the windows of watches that retrieval averages."""
        return (*self.recent_watches, self.num_watches)

    @property
    def context_names(self) -> tuple[str, ...]:
        """What is told of a request beside the user's past: clock, then user features."""
        return (*self.clock, *self.user_features)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            sizes = value if isinstance(value, tuple) else (value,)
            if any(isinstance(size, int) and size < 1 for size in sizes):
                raise ConfigError(f"[examples] {name}", expected="1 or more", got=str(value))
        for name in self.item_features:
            if name in ("item_id", "title", "published_at_ms"):
                expected = "columns whose values items share"
                raise ConfigError("[examples] item_features", expected=expected, got=repr(name))


@dataclass(frozen=True)
class Encoder:
    """Vocabularies and item arrays; turns logs into a `History`."""

    config: ExamplesConfig
    catalogue: Catalogue
    search_tokens: Vocabulary
    user_features: Mapping[str, Vocabulary]
    item_features: ItemFeatures

    @property
    def context_sizes(self) -> tuple[int, ...]:
        """Rows of each context table: those of the clock, then the declared user features."""
        features = (vocabulary.num_rows for vocabulary in self.user_features.values())
        return (*(CLOCK_SIZES[name] for name in self.config.clock), *features)

    @property
    def context_names(self) -> tuple[str, ...]:
        """What the columns of `context_rows` tell."""
        return self.config.context_names

    def user_feature_column(self, name: str) -> int:
        """Where a declared user feature stands in `History.feature_rows`."""
        return list(self.user_features).index(name)

    def context_rows(self, feature_rows: Rows, at_ms: TimesMs) -> Rows:
        """[B, C]: hour of the day, weekday of each time in UTC as declared; the user features."""
        clock = {
            "hour": lambda: (at_ms // MS_PER_HOUR) % NUM_HOURS,
            "weekday": lambda: (at_ms // MS_PER_DAY + 3) % NUM_WEEKDAYS,  # 1970 began on a Thursday
        }
        declared = self.config.clock
        rows = np.empty((len(at_ms), len(declared) + feature_rows.shape[1]), np.int32)
        for column, name in enumerate(declared):
            rows[:, column] = clock[name]()
        rows[:, len(declared) :] = feature_rows
        return rows

    def history(self, logs: Logs, users: Vocabulary) -> History:
        """The past of all `users`, from row 0 on; the reserved rows have none.

        Events of users that are not in the vocabulary belong to nobody and stay out; build it from
        the same logs.
        """
        watches = logs.watches.frame
        tokens = explode_tokens(logs.searches.frame) if logs.searches else None
        shown = logs.impressions.frame if logs.impressions else None
        return History(
            watches=self._events(watches, "started_at_ms", "item_id", self.catalogue.items, users),
            searches=self._events(tokens, "searched_at_ms", "token", self.search_tokens, users),
            shown=self._events(shown, "shown_at_ms", "item_id", self.catalogue.items, users),
            feature_rows=self._feature_rows(logs, users),
        ).counted(self.catalogue.channel_rows, self.catalogue.duration_s)

    def with_items(self, lines: pl.DataFrame, *, first_seen_ms: int) -> "Encoder":
        """The same rows, and after them one for each new item; see `Catalogue.with_items`.

        Raises: DataError: a declared item feature is no column of the table, or of another type.
        """
        return replace(
            self,
            catalogue=self.catalogue.with_items(lines, first_seen_ms=first_seen_ms),
            item_features=self.item_features.with_items(lines),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release; the config is kept apart."""
        vocabularies = {"search_tokens": self.search_tokens} | {
            f"user_features.{name}": vocabulary for name, vocabulary in self.user_features.items()
        }
        arrays = {f"catalogue.{name}": value for name, value in self.catalogue.to_arrays().items()}
        of_items = self.item_features.to_arrays()
        arrays |= {f"item_features.{name}": value for name, value in of_items.items()}
        for name, vocabulary in vocabularies.items():
            arrays |= {f"{name}.ids": vocabulary.ids, f"{name}.order": vocabulary.order}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], config: ExamplesConfig) -> "Encoder":
        """The inverse of `to_arrays`."""

        def vocabulary(name: str) -> Vocabulary:
            return Vocabulary(arrays[f"{name}.ids"], arrays[f"{name}.order"])

        def part(prefix: str) -> dict[str, NDArray[Any]]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        return cls(
            config=config,
            catalogue=Catalogue.from_arrays(part("catalogue.")),
            search_tokens=vocabulary("search_tokens"),
            user_features={
                name: vocabulary(f"user_features.{name}") for name in config.user_features
            },
            item_features=ItemFeatures.from_arrays(part("item_features."), config.item_features),
        )

    def _events(
        self,
        frame: pl.DataFrame | None,
        time: str,
        key: str,
        vocabulary: Vocabulary,
        users: Vocabulary,
    ) -> EventLog:
        if frame is None:
            return EventLog.empty(users.num_rows)
        user_rows = users.rows(frame["user_id"])
        known = user_rows > UNKNOWN_ROW
        is_watch = time == "started_at_ms"
        return EventLog.from_events(
            user_rows=user_rows[known],
            rows=vocabulary.rows(frame[key])[known],
            at_ms=frame[time].to_numpy()[known],
            num_users=users.num_rows,
            watch_time_s=frame["watch_time_s"].to_numpy()[known] if is_watch else None,
        )

    def _feature_rows(self, logs: Logs, users: Vocabulary) -> Rows:
        feature_rows = np.full((users.num_rows, len(self.user_features)), UNKNOWN_ROW, np.int32)
        if logs.users is None or not self.user_features:
            return feature_rows
        places = users.rows(logs.users.frame["user_id"])
        known = places > UNKNOWN_ROW
        for column, (name, vocabulary) in enumerate(self.user_features.items()):
            values = _feature_column(logs, name).cast(pl.String)
            feature_rows[places[known], column] = vocabulary.rows(values)[known]
        return feature_rows


def build_encoder(logs: Logs, config: ExamplesConfig) -> Encoder:
    """Counts the training logs.

    Raises:
        DataError: a declared feature is no column of the users or the items table.
    """
    catalogue = build_catalogue(
        logs,
        max_items=config.max_items,
        min_watches=config.min_watches,
        max_tags=config.max_tags,
    )
    tokens = (
        explode_tokens(logs.searches.frame)["token"]
        if logs.searches
        else pl.Series([], dtype=pl.String)
    )
    return Encoder(
        config=config,
        catalogue=catalogue,
        search_tokens=Vocabulary.by_frequency(tokens, max_ids=config.max_search_tokens),
        user_features={
            name: Vocabulary.by_frequency(_feature_column(logs, name).cast(pl.String))
            for name in config.user_features
        },
        item_features=build_item_features(
            described(catalogue.items, logs.items),
            config.item_features,
            max_values=config.max_tags,
        ),
    )


def user_vocabulary(logs: Logs) -> Vocabulary:
    """Every user with an event of any kind, or a line in the users table."""
    frames = [logs.watches, logs.impressions, logs.searches, logs.users]
    ids = [table.frame["user_id"].unique() for table in frames if table is not None]
    return Vocabulary.by_frequency(pl.concat(ids))


def now_ms() -> int:
    """This moment, in milliseconds since 1970 in UTC."""
    return time.time_ns() // 1_000_000


def _feature_column(logs: Logs, name: str) -> pl.Series:
    columns = logs.users.frame.columns if logs.users else []
    if logs.users is None or name not in columns:
        raise DataError(
            "users",
            expected=f"a column {name}",
            got=", ".join(columns) or "no users table",
            hint="[examples] user_features names columns of the users table.",
        )
    return logs.users.frame[name]
