"""Watched together: what the users who watched the same items went on to watch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.config import require
from upnext.schema import NUM_RESERVED_ROWS, PAD_ROW, Floats, Rows, TimesMs
from upnext.sources.best import (
    ROW_BITS,
    Found,
    Places,
    are_items,
    are_late,
    best_first,
    falling,
    find,
    most_excluded,
    pair_keys,
    ranges,
    rows_of_keys,
)


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
    """What the last watches of B requests say: `scores` [P] of the items that stand beside them.

    `pairs` [P] int64 are ascending keys of a request and a row.
    """

    num_requests: int
    pairs: Places
    scores: Floats


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
        self, heard: "Heard", k: int, *, excluded_rows: Sequence[Rows] | None = None
    ) -> Found:
        """`candidates`, where it is known what the last watches say."""
        head = self.popular_rows[: k + most_excluded(excluded_rows)]
        everyone = np.repeat(np.arange(heard.num_requests), len(head))
        pairs = pair_keys(everyone, np.tile(head, heard.num_requests))
        unheard = pairs[~find(heard.pairs, pairs)[1]]
        pairs = np.concatenate([heard.pairs, unheard])
        return best_first(
            pairs >> ROW_BITS,
            rows_of_keys(pairs),
            np.concatenate([heard.scores, self._popularity(rows_of_keys(unheard))]),
            k,
            num_requests=heard.num_requests,
            excluded_rows=excluded_rows,
        )

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
        self, heard: "Heard", item_rows: NDArray[Any], request_index: NDArray[Any]
    ) -> Floats:
        """`scores`, where it is known what the last watches say."""
        rows = np.where(are_items(item_rows, len(self.num_watches)), item_rows, PAD_ROW)
        scores = self._popularity(rows)
        found, is_there = find(heard.pairs, pair_keys(request_index, rows))
        scores[is_there] = heard.scores[found[is_there]]
        return scores

    def heard(self, history_rows: Rows) -> "Heard":
        """What the last watches [B, H] say."""
        requests, rows, heard = self._spoken(history_rows)
        pairs, pair_of = np.unique(pair_keys(requests, rows), return_inverse=True)
        scores = self._popularity(rows_of_keys(pairs))
        np.add.at(scores, pair_of, heard)
        return Heard(len(history_rows), pairs, scores)

    def scores_of_all(self, history_rows: Rows) -> Floats:
        """The scores of every row, [B, N]. `history_rows` [B, H]: newest last, 0 pads."""
        num_rows = len(self.num_watches)
        scores = np.tile(self._popularity(np.arange(num_rows)), len(history_rows))
        requests, rows, heard = self._spoken(history_rows)
        np.add.at(scores, requests * num_rows + rows, heard)
        return scores.reshape(len(history_rows), num_rows)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release; the config is kept apart."""
        return {name: value for name, value in vars(self).items() if name != "config"}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], config: WatchedTogetherConfig) -> Self:
        """The inverse of `to_arrays`."""
        names = cls.__annotations__.keys() - {"config"}
        return cls(**{name: arrays[name] for name in names}, config=config)

    @property
    def _loudness(self) -> Floats:
        """2^(−p / half-life) of the last watches, [P], the latest first."""
        places = np.arange(self.config.num_last_watches)
        loudness: Floats = np.exp2(-places / self.config.half_life_watches).astype(np.float32)
        return loudness

    def _spoken(self, history_rows: Rows) -> tuple[Places, Rows, Floats]:
        """Request, row and loudness times similarity of all that the last watches say.

        Sums add them in this order, so that they are the same to the bit in whatever batch.
        """
        entries, list_of = self._neighbours(history_rows)
        requests, places = np.divmod(list_of, self.config.num_last_watches)
        heard = self._loudness[places] * self.similarities[entries]
        return requests, self.neighbour_rows[entries], heard

    def _neighbours(self, history_rows: Rows) -> tuple[Places, Places]:
        """Places of the neighbours of all last watches; request b's p-th is list b · P + p."""
        num_lists = self.config.num_last_watches
        is_watch = history_rows > PAD_ROW
        places = np.cumsum(is_watch[:, ::-1], axis=1)[:, ::-1] - 1
        requests, slots = np.nonzero(is_watch & (places < num_lists))
        rows = history_rows[requests, slots]
        watched = np.full(len(history_rows) * num_lists, PAD_ROW)
        known = np.where(are_items(rows, len(self.num_watches)), rows, PAD_ROW)
        watched[requests * num_lists + places[requests, slots]] = known
        return ranges(self.starts[watched], self.starts[watched + 1])

    def _popularity(self, item_rows: NDArray[Any]) -> Floats:
        """weight · n_b / max n, what is scored before any watch speaks."""
        most = self.num_watches[self.popular_rows[0]] if len(self.popular_rows) else 1
        popularity = self.config.popularity_weight / most * self.num_watches[item_rows]
        scores: Floats = popularity.astype(np.float32)
        return scores


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
