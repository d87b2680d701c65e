"""What a model has to beat: most watched, most watched lately, watched together.

All three are fitted on plain arrays of the training watches (a user, an item row and a time each)
and score every item for a batch of histories, [B, H] → [B, N]. Rows 0 and 1 score 0 like an item
that nobody watched.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, Floats, Rows, TimesMs


@dataclass(frozen=True, slots=True)
class MostWatched:
    """The same list for everyone: `num_watches` [N] of each item."""

    num_watches: NDArray[np.int64]

    def scores(self, history_rows: Rows) -> Floats:
        """Number of watches of each item, [B, N]; a read-only view of one row."""
        one_row = self.num_watches.astype(np.float32)
        return np.broadcast_to(one_row, (len(history_rows), len(one_row)))


def most_watched(item_rows: Rows, *, num_rows: int) -> MostWatched:
    """Counts all training watches.

    >>> most_watched(np.array([2, 4, 4, 1]), num_rows=5).num_watches
    array([0, 0, 1, 0, 2])
    """
    counts = np.bincount(item_rows, minlength=num_rows)
    counts[:NUM_RESERVED_ROWS] = 0
    return MostWatched(counts)


def most_watched_lately(
    item_rows: Rows,
    at_ms: TimesMs,
    *,
    num_rows: int,
    days: float = 7.0,
    until_ms: int | None = None,
) -> MostWatched:
    """Counts the watches in the last `days` before `until_ms`.

    On news a few hours are far better than a week; try some windows on validation. `until_ms`:
    the time before which watches count; just after the last one, unless given.

    >>> at_ms = np.array([0, 5 * MS_PER_DAY, 6 * MS_PER_DAY])
    >>> most_watched_lately(np.array([2, 2, 3]), at_ms, num_rows=4, days=3).num_watches
    array([0, 0, 1, 1])
    """
    return most_watched(item_rows[_are_late(at_ms, days, until_ms)], num_rows=num_rows)


@dataclass(frozen=True, kw_only=True)
class WatchedTogetherConfig:
    """How pairs of watches count, and which of a user's last watches speak.

    The defaults do well on films. On news, let only the last hours count: with `days=0.25` and
    `popularity_weight=0.3` it beat every window of `most_watched_lately` on Globo's clicks.
    """

    max_gap: int = 10
    """Two watches of a user are a pair if at most this many places apart."""
    in_order: bool = True
    """Whether a pair speaks only for the later item given the earlier one."""
    num_neighbours: int = 200
    """Items kept beside each item, the most similar ones."""
    shrinkage: float = 10.0
    """Watches added to both items' geometric mean: distrust of pairs of rare items."""
    num_last_watches: int = 10
    """How many of the last watches of a history speak."""
    half_life_watches: float = 3.0
    """A watch this many places further back speaks half as loud."""
    popularity_weight: float = 0.01
    """How loud the most watched item is; 1 is as loud as a perfect neighbour of the last watch."""
    days: float | None = None
    """Only the watches of the last so many days count, for pairs and popularity; None: all."""


@dataclass(frozen=True, slots=True)
class WatchedTogether:
    """Item-to-item neighbours: those of row r are `starts[r]:starts[r + 1]` of the other two.

    `starts` [N + 1] int64, `neighbour_rows` and `similarities` [starts[-1]], `num_watches` [N].
    """

    starts: NDArray[np.int64]
    neighbour_rows: Rows
    similarities: Floats
    num_watches: NDArray[np.int64]
    config: WatchedTogetherConfig

    def scores(self, history_rows: Rows) -> Floats:
        """Similarity to the last watches, the latest loudest, [B, N].

            score_b = Σ_p 2^(−p / half-life) · sim(a_p → b)  +  weight · n_b / max n

        p counts from 0 for the latest watch a_0. Popularity, the last term, orders the items that
        are similar to none of the watches, and alone answers an empty history.
        `history_rows` [B, H]: newest last, 0 pads.
        """
        num_rows = len(self.num_watches)
        most = max(1, int(self.num_watches.max(initial=0)))
        popularity = self.config.popularity_weight / most * self.num_watches
        scores = np.tile(popularity.astype(np.float32), len(history_rows))
        is_watch = history_rows > 0
        places = np.cumsum(is_watch[:, ::-1], axis=1)[:, ::-1] - 1
        events, slots = np.nonzero(is_watch & (places < self.config.num_last_watches))
        watched = history_rows[events, slots]
        loudness = np.exp2(-places[events, slots] / self.config.half_life_watches)
        sizes = self.starts[watched + 1] - self.starts[watched]
        ends = np.cumsum(sizes)
        entries = np.arange(ends[-1] if len(ends) else 0)
        entries += np.repeat(self.starts[watched] - (ends - sizes), sizes)
        cells = np.repeat(events * num_rows, sizes) + self.neighbour_rows[entries]
        heard = np.repeat(loudness, sizes) * self.similarities[entries]
        np.add.at(scores, cells, heard.astype(np.float32))
        return scores.reshape(len(history_rows), num_rows)


def watched_together(
    user_rows: NDArray[Any],
    item_rows: Rows,
    at_ms: TimesMs,
    *,
    num_rows: int,
    config: WatchedTogetherConfig | None = None,
) -> WatchedTogether:
    """Finds for each item a the items b that the same users watched soon after it.

        sim(a → b) = Σ_{users with both} gap^(−½) / (√(n_a n_b) + shrinkage)

    where gap is how many places b stands behind a in the user's watches (or before it too, without
    `in_order`), from 1 to `max_gap`. A user's first watch of an item is the one that counts, so no
    user counts twice for a pair. Only the pairs that occur are ever held: no N × N matrix.

    >>> users, rows, at_ms = np.array([1, 1, 2, 2]), np.array([2, 3, 2, 4]), np.arange(4)
    >>> config = WatchedTogetherConfig(shrinkage=0.0, popularity_weight=0.0)
    >>> together = watched_together(users, rows, at_ms, num_rows=5, config=config)
    >>> together.scores(np.array([[0, 2]])).round(2)
    array([[0.  , 0.  , 0.  , 0.71, 0.71]], dtype=float32)
    """
    config = config or WatchedTogetherConfig()
    if config.days is not None:
        late = _are_late(at_ms, config.days)
        user_rows, item_rows, at_ms = user_rows[late], item_rows[late], at_ms[late]
    users, items = _first_watches(user_rows, item_rows, at_ms)
    num_users = np.bincount(items, minlength=num_rows)
    pairs = _pairs(users, items, num_rows=num_rows, config=config)
    row, neighbour = pairs["pair"].to_numpy() // num_rows, pairs["pair"].to_numpy() % num_rows
    expected = np.sqrt(num_users[row].astype(np.float64) * num_users[neighbour])
    similarity = (pairs["closeness"].to_numpy() / (expected + config.shrinkage)).astype(np.float32)
    best_first = np.lexsort((neighbour, -similarity, row))
    row_starts = np.searchsorted(row[best_first], np.arange(num_rows + 1))
    place = np.arange(len(row)) - row_starts[row[best_first]]
    kept = best_first[place < config.num_neighbours]
    return WatchedTogether(
        starts=np.searchsorted(row[kept], np.arange(num_rows + 1)).astype(np.int64),
        neighbour_rows=neighbour[kept].astype(np.int32),
        similarities=similarity[kept],
        num_watches=most_watched(item_rows, num_rows=num_rows).num_watches,
        config=config,
    )


def _are_late(at_ms: TimesMs, days: float, until_ms: int | None = None) -> NDArray[np.bool_]:
    """Which times are in the last days before `until_ms`, else up to the last time itself."""
    end_ms = int(at_ms.max(initial=0)) + 1 if until_ms is None else until_ms
    return (at_ms < end_ms) & (at_ms >= end_ms - days * MS_PER_DAY)


def _first_watches(
    user_rows: NDArray[Any], item_rows: Rows, at_ms: TimesMs
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Users and items of each user's first watch of each item, by user and time."""
    watches = pl.DataFrame({"user": user_rows, "item": item_rows, "at_ms": at_ms})
    first = (
        watches.filter(pl.col("item") >= NUM_RESERVED_ROWS)
        .sort("user", "at_ms", maintain_order=True)
        .unique(["user", "item"], keep="first", maintain_order=True)
    )
    return first["user"].to_numpy(), first["item"].to_numpy().astype(np.int64)


def _pairs(
    users: NDArray[Any],
    items: NDArray[np.int64],
    *,
    num_rows: int,
    config: WatchedTogetherConfig,
) -> pl.DataFrame:
    """Each pair that occurs, as row · N + neighbour, and its summed closeness gap^(−½)."""
    parts = [pl.DataFrame(schema={"pair": pl.Int64, "closeness": pl.Float32})]
    for gap in range(1, min(config.max_gap, len(items) - 1) + 1):
        is_same_user = users[gap:] == users[:-gap]
        earlier, later = items[:-gap][is_same_user], items[gap:][is_same_user]
        pair = earlier * num_rows + later
        if not config.in_order:
            pair = np.concatenate([pair, later * num_rows + earlier])
        closeness = pl.lit(gap**-0.5, pl.Float32).alias("closeness")
        parts.append(pl.DataFrame({"pair": pair}).with_columns(closeness))
    return pl.concat(parts).group_by("pair").agg(pl.col("closeness").sum())
