"""Watched together: what the users who watched the same items went on to watch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.best import Found, Places, RowSets, best_first
from upnext.config import require
from upnext.schema import NUM_RESERVED_ROWS, PAD_ROW, Floats, Rows, TimesMs
from upnext.sources.by_row import heard_or_popular, heard_rows, scores_of_rows
from upnext.sources.pairs import are_late, falling, pair_keys


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
    """Only the watches of the last so many days count, for pairs and popularity; unset, all do."""

    def __post_init__(self) -> None:
        counts = ("max_gap", "num_neighbours", "num_last_watches")
        may_be_0 = ("shrinkage", "popularity_weight")
        above = {"half_life_watches": 0} | ({} if self.days is None else {"days": 0})
        least = dict.fromkeys(counts, 1) | dict.fromkeys(may_be_0, 0)
        require("sources.together", self, at_least=least, above=above)


@dataclass(frozen=True)
class Heard:
    """What the last watches of B requests say of the items that stand beside them.

    Request b's `rows` and `scores` [T] are those from firsts[b] to firsts[b + 1], where they are
    found by row; see `by_row`.
    """

    firsts: Places
    rows: Rows
    scores: Floats

    def __len__(self) -> int:
        return len(self.firsts) - 1


@dataclass(frozen=True, eq=False)
class WatchedTogether:
    """Item-to-item neighbours, and how their items are scored for a history.

        score(b) = Σ_p 2^(−p / half-life) · sim(a_p → b)  +  weight · n_b / max n

    p counts from 0 for the latest watch a_0 of the history. Popularity, the last term, orders the
    items that are similar to none of the watches, and alone answers an empty history.

    The neighbours of row r are starts[r]:starts[r + 1] of `neighbour_rows`, ascending, and
    `similarities`. `starts` [N + 1] int64; `num_watches` [N]; `popular_rows` are the watched items,
    the most watched first.
    """

    starts: NDArray[np.int64]
    neighbour_rows: Rows
    similarities: Floats
    num_watches: NDArray[np.int64]
    popular_rows: Rows
    config: WatchedTogetherConfig

    def candidates(
        self, history_rows: Rows, k: int, *, excluded_rows: Sequence[Rows] | None = None
    ) -> Found:
        """The k items with the highest score, ties to the smaller row.

        Only the neighbours of the last watches and the most watched items are looked at: any item
        that is no neighbour is behind all that were watched more often.

        Args:
            history_rows: [B, H] newest last, 0 pads.
            excluded_rows: what each request leaves out, such as what its user has watched.

        Returns: rows and scores, [B, k] each; -1 and -inf where too few items score above 0.
        """
        return self.candidates_of(self.heard(history_rows), k, excluded_rows=excluded_rows)

    def candidates_of(
        self, heard: Heard, k: int, *, excluded_rows: Sequence[Rows] | None = None
    ) -> Found:
        """`candidates`, where it is known what the last watches say."""
        excluded = RowSets.of(excluded_rows, len(heard))
        starts, rows, scores = heard_or_popular(
            heard.firsts,
            heard.rows,
            heard.scores,
            self.popular_rows,
            k + excluded.sizes,
            self.num_watches,
            self._of_a_watch,
        )
        return best_first(starts, rows, scores, k, excluded_rows=excluded)

    def scores(
        self, history_rows: Rows, item_rows: NDArray[Any], request_index: NDArray[Any]
    ) -> Floats:
        """The scores of given candidates, [M]; 0 where training never saw the item watched.

        Args:
            history_rows: [B, H] newest last, 0 pads.
            item_rows: [M] the candidates, of all requests.
            request_index: [M] the request that each is for, from 0 to B − 1.
        """
        return self.scores_of(self.heard(history_rows), item_rows, request_index)

    def scores_of(
        self, heard: Heard, item_rows: NDArray[Any], request_index: NDArray[Any]
    ) -> Floats:
        """`scores`, where it is known what the last watches say."""
        return scores_of_rows(
            heard.firsts,
            heard.rows,
            heard.scores,
            np.ascontiguousarray(item_rows, np.int32),
            np.ascontiguousarray(request_index, np.int64),
            self.num_watches,
            self._of_a_watch,
        )

    def heard(self, history_rows: Rows) -> Heard:
        """What the last watches [B, H] say."""
        return Heard(
            *heard_rows(
                np.ascontiguousarray(history_rows, np.int32),
                self.starts,
                self.neighbour_rows,
                self.similarities,
                _loudness(self.config.num_last_watches, self.config.half_life_watches),
                self.num_watches,
                self._of_a_watch,
            )
        )

    def scores_of_all(self, history_rows: Rows) -> Floats:
        """The scores of every row, [B, N]. `history_rows` [B, H]: newest last, 0 pads."""
        heard = self.heard(history_rows)
        popularity = (self._of_a_watch * self.num_watches).astype(np.float32)
        scores = np.tile(popularity, (len(heard), 1))
        requests = np.repeat(np.arange(len(heard)), np.diff(heard.firsts))
        is_heard = heard.rows > PAD_ROW
        scores[requests[is_heard], heard.rows[is_heard]] = heard.scores[is_heard]
        return scores

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release; the config is kept apart."""
        return {
            name: getattr(self, name) for name in type(self).__annotations__ if name != "config"
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], config: WatchedTogetherConfig) -> Self:
        """The inverse of `to_arrays`."""
        names = cls.__annotations__.keys() - {"config"}
        return cls(**{name: arrays[name] for name in names}, config=config)

    @cached_property
    def _of_a_watch(self) -> float:
        """weight / max n: what an item scores for each of its watches, before any other speaks."""
        most = self.num_watches[self.popular_rows[0]] if len(self.popular_rows) else 1
        return self.config.popularity_weight / int(most)


@lru_cache
def _loudness(num_last_watches: int, half_life_watches: float) -> Floats:
    """2^(−p / half-life) of the last watches, [P], the latest first."""
    loudness: Floats = np.exp2(-np.arange(num_last_watches) / half_life_watches).astype(np.float32)
    loudness.flags.writeable = False  # it is everybody's
    return loudness


def watched_together(
    user_rows: NDArray[Any],
    item_rows: Rows,
    at_ms: TimesMs,
    *,
    num_rows: int,
    config: WatchedTogetherConfig | None = None,
    until_ms: int | None = None,
) -> WatchedTogether:
    """Finds for each item a the items b that the same users watched soon after it.

        sim(a → b) = Σ_{users with both} gap^(−½) / (√(n_a n_b) + shrinkage)

    where gap is how many places b stands behind a in the user's watches (or before it too, without
    `in_order`), from 1 to `max_gap`. A user's first watch of an item is the one that counts, so no
    user counts twice for a pair. Only the pairs that occur are ever held: no N × N matrix.
    `until_ms`: the time before which watches count; just after the last one, unless given.

    >>> users, rows, at_ms = np.array([1, 1, 2, 2]), np.array([2, 3, 2, 4]), np.arange(4)
    >>> config = WatchedTogetherConfig(shrinkage=0.0, popularity_weight=0.0)
    >>> together = watched_together(users, rows, at_ms, num_rows=5, config=config)
    >>> together.scores_of_all(np.array([[0, 2]])).round(2)
    array([[0.  , 0.  , 0.  , 0.71, 0.71]], dtype=float32)
    """
    config = config or WatchedTogetherConfig()
    late = are_late(at_ms, config.days, until_ms)
    user_rows, item_rows, at_ms = user_rows[late], item_rows[late], at_ms[late]
    users, items = _first_watches(user_rows, item_rows, at_ms)
    num_users = np.bincount(items, minlength=num_rows)
    pairs = _pairs(users, items, num_rows=num_rows, config=config)
    row, neighbour = np.divmod(pairs["pair"].to_numpy(), num_rows)
    expected = np.sqrt(num_users[row].astype(np.float64) * num_users[neighbour])
    similarity = (pairs["closeness"].to_numpy() / (expected + config.shrinkage)).astype(np.float32)
    order = np.argsort(pair_keys(row, falling(similarity)), kind="stable")
    row_starts = np.searchsorted(row, np.arange(num_rows + 1))
    place = np.arange(len(row)) - row_starts[row]  # sorting leaves each row's pairs in their range
    kept = np.sort(order[place < config.num_neighbours])
    num_watches = np.bincount(item_rows, minlength=num_rows)
    num_watches[:NUM_RESERVED_ROWS] = 0
    popular = np.argsort(-num_watches, kind="stable")[: np.count_nonzero(num_watches)]
    return WatchedTogether(
        starts=np.searchsorted(row[kept], np.arange(num_rows + 1)).astype(np.int64),
        neighbour_rows=neighbour[kept].astype(np.int32),
        similarities=similarity[kept],
        num_watches=num_watches,
        popular_rows=popular.astype(np.int32),
        config=config,
    )


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
    """Each pair that occurs, as row · N + neighbour, ascending, and its summed gap^(−½)."""
    parts = [pl.DataFrame(schema={"pair": pl.Int64, "closeness": pl.Float32})]
    for gap in range(1, min(config.max_gap, len(items) - 1) + 1):
        is_same_user = users[gap:] == users[:-gap]
        earlier, later = items[:-gap][is_same_user], items[gap:][is_same_user]
        pair = earlier * num_rows + later
        if not config.in_order:
            pair = np.concatenate([pair, later * num_rows + earlier])
        closeness = pl.lit(gap**-0.5, pl.Float32).alias("closeness")
        parts.append(pl.DataFrame({"pair": pair}).with_columns(closeness))
    return pl.concat(parts).group_by("pair").agg(pl.col("closeness").sum()).sort("pair")
