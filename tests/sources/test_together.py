"""Watched together on logs small enough to count by hand, and on MovieLens 100K where at hand."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.config import config_from_table
from upnext.errors import ConfigError
from upnext.evaluation.metrics import recall_at_k
from upnext.evaluation.ranks import SeenRows, rank_targets
from upnext.schema import MS_PER_DAY, Floats, Rows
from upnext.sources import WatchedTogether, WatchedTogetherConfig, most_watched, watched_together

PLAIN = WatchedTogetherConfig(shrinkage=0.0, popularity_weight=0.0)
NUM_ROWS = 9

few = settings(max_examples=100)
item_rows = st.integers(0, NUM_ROWS - 1)
watches = st.lists(st.tuples(st.integers(0, 3), item_rows, st.integers(0, 20)), max_size=25)
histories = st.lists(
    st.lists(st.integers(0, NUM_ROWS + 1), min_size=5, max_size=5), min_size=1, max_size=4
)
configs = st.builds(
    WatchedTogetherConfig,
    max_gap=st.integers(1, 4),
    in_order=st.booleans(),
    num_neighbours=st.integers(1, 5),
    shrinkage=st.sampled_from([0.0, 2.0]),
    num_last_watches=st.integers(1, 6),
    half_life_watches=st.sampled_from([0.5, 3.0]),
    popularity_weight=st.sampled_from([0.0, 0.01, 0.5]),
)


def test_similarity_is_closeness_over_the_mean_count() -> None:
    users = np.array([1, 1, 1, 2, 2])
    rows = np.array([2, 3, 4, 2, 3], np.int32)
    together = watched_together(users, rows, np.arange(5), num_rows=6, config=PLAIN)
    after_2 = together.scores_of_all(np.array([[2]], np.int32))[0]
    assert after_2 == pytest.approx([0, 0, 0, 2 / 2, 2**-0.5 / 2**0.5, 0])
    after_3 = together.scores_of_all(np.array([[3]], np.int32))[0]
    assert after_3 == pytest.approx([0, 0, 0, 0, 1 / 2**0.5, 0])


def test_without_order_both_items_of_a_pair_speak() -> None:
    config = WatchedTogetherConfig(in_order=False, shrinkage=0.0, popularity_weight=0.0)
    users, rows = np.array([1, 1]), np.array([2, 3], np.int32)
    together = watched_together(users, rows, np.arange(2), num_rows=4, config=config)
    assert together.scores_of_all(np.array([[3]], np.int32))[0].tolist() == [0, 0, 1, 0]


def test_time_orders_watches_and_a_repeated_one_counts_once() -> None:
    users = np.array([5, 5, 5, 5])
    rows = np.array([3, 2, 2, 3], np.int32)
    at_ms = np.array([20, 10, 30, 40])
    together = watched_together(users, rows, at_ms, num_rows=4, config=PLAIN)
    assert together.scores_of_all(np.array([[2]], np.int32))[0].tolist() == [0, 0, 0, 1]
    assert together.scores_of_all(np.array([[3]], np.int32))[0].tolist() == [0, 0, 0, 0]


def test_the_latest_watch_speaks_loudest_wherever_the_padding_is() -> None:
    config = WatchedTogetherConfig(
        shrinkage=0.0, popularity_weight=0.0, half_life_watches=1.0, num_last_watches=2
    )
    users = np.array([1, 1, 2, 2, 3, 3])
    rows = np.array([2, 5, 3, 6, 4, 7], np.int32)
    together = watched_together(users, rows, np.arange(6), num_rows=8, config=config)
    history = np.array([[0, 4, 3, 2], [4, 3, 2, 0], [0, 0, 1, 2]], np.int32)
    scores = together.scores_of_all(history)
    assert scores[0, 5:].tolist() == [1.0, 0.5, 0.0]
    assert scores[1].tolist() == scores[0].tolist()
    assert scores[2, 5:].tolist() == [1.0, 0.0, 0.0]


def test_neighbours_beyond_the_gap_and_the_most_similar_few_are_left_out() -> None:
    users = np.zeros(4, np.int64)
    rows = np.array([2, 3, 4, 5], np.int32)
    config = WatchedTogetherConfig(max_gap=2, shrinkage=0.0, popularity_weight=0.0)
    near = watched_together(users, rows, np.arange(4), num_rows=6, config=config)
    assert np.flatnonzero(near.scores_of_all(np.array([[2]]))[0]).tolist() == [3, 4]
    config = WatchedTogetherConfig(num_neighbours=1, shrinkage=0.0, popularity_weight=0.0)
    one = watched_together(users, rows, np.arange(4), num_rows=6, config=config)
    assert np.flatnonzero(one.scores_of_all(np.array([[2]]))[0]).tolist() == [3]


def test_an_empty_history_gets_what_is_popular() -> None:
    users = np.array([1, 1, 2, 3])
    rows = np.array([2, 3, 3, 3], np.int32)
    together = watched_together(users, rows, np.arange(4), num_rows=5)
    scores = together.scores_of_all(np.array([[0, 0], [0, 2]], np.int32))
    assert np.argsort(-scores[0])[:2].tolist() == [3, 2]
    assert scores.shape == (2, 5)
    assert together.scores_of_all(np.zeros((0, 3), np.int32)).shape == (0, 5)


def test_only_the_last_days_count_when_asked() -> None:
    users = np.array([1, 1, 2, 2])
    rows = np.array([2, 3, 2, 4], np.int32)
    at_ms = np.array([0, 1, 9 * MS_PER_DAY, 9 * MS_PER_DAY + 1])
    config = WatchedTogetherConfig(days=1.0, shrinkage=0.0, popularity_weight=0.0)
    together = watched_together(users, rows, at_ms, num_rows=5, config=config)
    assert np.flatnonzero(together.scores_of_all(np.array([[2]]))[0]).tolist() == [4]


def test_no_watches_at_all_is_an_ordinary_log() -> None:
    none = np.zeros(0, np.int32)
    together = watched_together(none, none, none.astype(np.int64), num_rows=4)
    assert together.scores_of_all(np.array([[2, 3]], np.int32)).tolist() == [[0, 0, 0, 0]]


Watch = tuple[int, int, int]


def fitted(lines: Sequence[Watch], config: WatchedTogetherConfig) -> WatchedTogether:
    users, rows, at_ms = np.array(lines, np.int64).reshape(-1, 3).T
    return watched_together(users, rows.astype(np.int32), at_ms, num_rows=NUM_ROWS, config=config)


def counted(
    lines: Sequence[Watch], history: Sequence[int], config: WatchedTogetherConfig
) -> NDArray[np.float64]:
    """The scores of all rows, [N], as the docstrings tell them, pair by pair; none is cut off."""
    by_user: dict[int, list[int]] = defaultdict(list)
    num_watches = np.zeros(NUM_ROWS)
    for user, row, _ in sorted(lines, key=lambda line: line[2]):
        if row >= 2:
            num_watches[row] += 1
            if row not in by_user[user]:
                by_user[user].append(row)
    num_users = np.zeros(NUM_ROWS)
    closeness: dict[tuple[int, int], float] = defaultdict(float)
    for rows in by_user.values():
        for place, row in enumerate(rows):
            num_users[row] += 1
            for gap, other in enumerate(rows[place + 1 : place + 1 + config.max_gap], 1):
                closeness[row, other] += gap**-0.5
                if not config.in_order:
                    closeness[other, row] += gap**-0.5
    scores: NDArray[np.float64] = config.popularity_weight / max(1, num_watches.max()) * num_watches
    latest_first = [row for row in reversed(history) if row > 0]
    for place, watched in enumerate(latest_first[: config.num_last_watches]):
        for (row, other), close in closeness.items():
            if row == watched:
                expected = (num_users[row] * num_users[other]) ** 0.5 + config.shrinkage
                scores[other] += 2 ** (-place / config.half_life_watches) * close / expected
    return scores


@few
@given(watches, histories, configs)
def test_scores_are_what_counting_pair_by_pair_gives(
    lines: list[Watch], asked: list[list[int]], config: WatchedTogetherConfig
) -> None:
    config = replace(config, num_neighbours=NUM_ROWS)
    scores = fitted(lines, config).scores_of_all(np.array(asked, np.int32))
    for line, history in zip(scores, asked, strict=True):
        np.testing.assert_allclose(line, counted(lines, history, config), rtol=1e-5, atol=1e-7)


@few
@given(watches, histories, configs, st.integers(1, 12), st.data())
def test_candidates_are_the_best_of_all_without_what_is_excluded(
    lines: list[Watch],
    asked: list[list[int]],
    config: WatchedTogetherConfig,
    k: int,
    data: st.DataObject,
) -> None:
    together, history_rows = fitted(lines, config), np.array(asked, np.int32)
    excluded = [np.array(data.draw(st.lists(item_rows, max_size=6)), np.int32) for _ in asked]
    rows, scores = together.candidates(history_rows, k, excluded_rows=excluded)
    everything = together.scores_of_all(history_rows)
    for line, left_out in zip(everything, excluded, strict=True):
        line[left_out] = 0
    best = np.argsort(-everything, axis=1, kind="stable")[:, :k]
    is_there = np.take_along_axis(everything, best, axis=1) > 0
    missing = k - best.shape[1]
    best = np.pad(np.where(is_there, best, -1), ((0, 0), (0, max(0, missing))), constant_values=-1)
    assert rows.tolist() == best.tolist()
    requests, places = np.nonzero(rows >= 0)
    given_rows = rows[requests, places]
    assert scores[requests, places].tolist() == everything[requests, given_rows].tolist()
    assert np.isneginf(scores[rows < 0]).all()


@few
@given(watches, histories, configs)
def test_given_candidates_score_to_the_bit_as_all_do(
    lines: list[Watch], asked: list[list[int]], config: WatchedTogetherConfig
) -> None:
    together, history_rows = fitted(lines, config), np.array(asked, np.int32)
    everything = together.scores_of_all(history_rows)
    requests, rows = np.indices(everything.shape).reshape(2, -1)[:, ::-1]
    scores = together.scores(history_rows, rows, requests)
    assert scores.tolist() == everything[requests, rows].tolist()


def test_rows_that_training_never_saw_score_nothing_and_say_nothing() -> None:
    together = fitted([(1, 2, 0), (1, 3, 1)], WatchedTogetherConfig())
    later_rows = np.array([NUM_ROWS, NUM_ROWS + 7, 0, 1, -1])
    history = np.array([[2, NUM_ROWS + 7]], np.int32)
    assert together.scores(history, later_rows, np.zeros(5, np.int64)).tolist() == [0.0] * 5
    rows, _ = together.candidates(history, 4)
    assert rows.tolist() == [[3, 2, -1, -1]]


@few
@given(watches, st.lists(st.tuples(st.integers(0, 3), item_rows, st.integers(20, 30))), configs)
def test_what_happens_later_changes_nothing(
    lines: list[Watch], later: list[Watch], config: WatchedTogetherConfig
) -> None:
    def arrays(all_lines: list[Watch]) -> dict[str, list[float]]:
        users, rows, at_ms = np.array(all_lines, np.int64).reshape(-1, 3).T
        together = watched_together(
            users, rows.astype(np.int32), at_ms, num_rows=NUM_ROWS, config=config, until_ms=20
        )
        return {name: array.tolist() for name, array in together.to_arrays().items()}

    assert arrays(lines + later) == arrays([line for line in lines if line[2] < 20])


@pytest.mark.parametrize("key", ["max_gap", "num_neighbours", "half_life_watches", "days"])
def test_settings_that_count_nothing_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        config_from_table({key: 0}, WatchedTogetherConfig, where="run.toml")


def test_watched_together_is_strong_on_movielens() -> None:
    folder = Path(os.environ.get("UPNEXT_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = folder / "ml-100k" / "u.data"
    if not path.exists():
        pytest.skip("MovieLens 100K is not at hand: set UPNEXT_DATA to the folder with ml-100k")
    columns = ["user", "item", "rating", "at_s"]
    watches = pl.read_csv(path, separator="\t", has_header=False, new_columns=columns)
    watches = watches.sort("user", "at_s", "item").with_columns(
        is_last=pl.col("user") != pl.col("user").shift(-1).fill_null(0)
    )
    train, test = watches.filter(~pl.col("is_last")), watches.filter("is_last")
    ids = train["item"].value_counts().sort("count", "item", descending=[True, False])["item"]
    row_of = dict(zip(ids, range(2, len(ids) + 2), strict=True))
    rows = train["item"].replace_strict(row_of, return_dtype=pl.Int32).to_numpy()
    targets = test["item"].replace_strict(row_of, default=1, return_dtype=pl.Int32).to_numpy()
    users = train["user"].to_numpy()
    ends = np.searchsorted(users, test["user"].to_numpy(), "right")
    histories = rows[ends[:, None] + np.arange(-10, 0)]
    num_rows = len(ids) + 2
    together = watched_together(users, rows, train["at_s"].to_numpy() * 1000, num_rows=num_rows)
    popular = most_watched(rows).scores_of_all(num_rows)
    seen = SeenRows(np.concatenate([[0], ends]), rows)

    def hit_rate(scores: Callable[[Rows], Floats]) -> float:
        ranked = rank_targets(
            lambda events: scores(histories[events]), targets, num_rows=num_rows, seen=seen
        )
        return float(recall_at_k(ranked.ranks, 50).mean())

    found = hit_rate(together.scores_of_all)
    assert found > 0.4
    assert found > 2.5 * hit_rate(lambda rows: np.broadcast_to(popular, (len(rows), num_rows)))


def test_a_neighbour_that_is_no_item_is_refused() -> None:
    config = WatchedTogetherConfig(shrinkage=0.0)
    users, rows = np.array([1, 1]), np.array([2, 3], np.int32)
    together = watched_together(users, rows, np.arange(2), num_rows=4, config=config)
    for beyond in (-1, 4, 2**31 - 1):
        neighbours = np.full_like(together.neighbour_rows, beyond)
        with pytest.raises(IndexError):
            replace(together, neighbour_rows=neighbours).heard(np.array([[0, 2]]))
