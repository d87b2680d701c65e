import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import EventLog, History
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import (
    NEVER_DAYS,
    QueryEncoder,
    WatchExamples,
    WatchTargets,
    build_watch_examples,
    idle_days,
    watch_targets,
)
from upnext.schema import MS_PER_DAY, Logs, Watches

MakeLogs = Callable[..., Logs]

SOUP, RICE, TEA = 2, 3, 4
"""Item rows: soup is watched three times, rice twice, tea once."""
ANN, BEN = 2, 3
"""User rows."""


@pytest.fixture
def logs(make_logs: MakeLogs) -> Logs:
    day = MS_PER_DAY
    return make_logs(
        watches=[
            ("ben", "soup", 4 * day, 5.0),
            ("ann", "soup", 0, 100.0),
            ("ann", "rice", day, 40.0),
            ("ann", "soup", 2 * day, 90.0),
            ("ann", "rice", 2 * day, 100.0),
            ("ben", "tea", 2 * day, 1.0),
        ],
        searches=[("ann", day, "slow soup"), ("ann", 2 * day, "tea")],
        items=[
            ("soup", 0, 100.0, "cook", None, None),
            ("rice", 0, 100.0, "cook", None, None),
        ],
    )


users_of_four, items_of_four, moments = st.integers(0, 3), st.integers(1, 4), st.integers(0, 6)


def columns_of(events: list[tuple[int, int, int]]) -> dict[str, Any]:
    user_rows, rows, at_ms = np.array(events, np.int64).reshape(-1, 3).T
    return {"user_rows": user_rows, "rows": rows.astype(np.int32), "at_ms": at_ms}


def encoded(logs: Logs, config: ExamplesConfig) -> tuple[Encoder, Vocabulary, History]:
    encoder, users = build_encoder(logs, config), user_vocabulary(logs)
    return encoder, users, encoder.history(logs, users)


def examples_of(
    logs: Logs, config: ExamplesConfig, *, completed_share: float
) -> tuple[QueryEncoder, WatchExamples]:
    encoder, _, history = encoded(logs, config)
    return build_watch_examples(encoder, history, completed_share=completed_share)


def windows(examples: WatchExamples) -> list[list[int]]:
    queries, rows = examples.queries, examples.history.watches.rows
    bounds = zip(queries.watch_lo, queries.watch_hi, strict=True)
    return [rows[lo:hi].tolist() for lo, hi in bounds]


def test_completed_watches_are_examples_and_all_watches_are_history(logs: Logs) -> None:
    examples = examples_of(logs, ExamplesConfig(), completed_share=0.5)[1]
    assert examples.queries.user_rows.tolist() == [ANN, ANN, ANN, BEN]
    assert examples.item_rows.tolist() == [SOUP, SOUP, RICE, TEA]
    assert examples.watch_time_s.tolist() == [100.0, 90.0, 100.0, 1.0]
    assert examples.at_ms.tolist() == [0, 2 * MS_PER_DAY, 2 * MS_PER_DAY, 2 * MS_PER_DAY]
    assert windows(examples) == [[], [SOUP, RICE], [SOUP, RICE], []]


def test_example_age_counts_back_from_the_last_watch_of_training(logs: Logs) -> None:
    examples = examples_of(logs, ExamplesConfig(), completed_share=0.5)[1]
    assert examples.example_age_days.tolist() == [4.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(("share", "num_examples"), [(0.0, 6), (0.05, 6), (0.9, 4), (1.0, 3)])
def test_completed_share_decides_and_unknown_durations_count_as_completed(
    logs: Logs, share: float, num_examples: int
) -> None:
    examples = examples_of(logs, ExamplesConfig(), completed_share=share)[1]
    assert len(examples.queries) == num_examples
    assert TEA in examples.item_rows


def test_unknown_items_are_history_and_no_examples(logs: Logs) -> None:
    config = ExamplesConfig(min_watches=3, num_watches=1)
    examples = examples_of(logs, config, completed_share=0.0)[1]
    assert examples.item_rows.tolist() == [SOUP, SOUP, SOUP]
    assert windows(examples) == [[], [1], [1]]


def test_shares_of_filled_slots_are_context(logs: Logs) -> None:
    config = ExamplesConfig(num_watches=4, num_searches=6)
    values = examples_of(logs, config, completed_share=0.5)[1].queries.context_values
    assert values.dtype == np.float32
    assert values[:, 3].tolist() == [0.0, 0.5, 0.5, 0.0]
    assert values[:, 4].tolist() == [0.0, 0.5, 0.5, 0.0]


def test_idle_days_are_those_since_the_last_watch_started(logs: Logs) -> None:
    _, _, history = encoded(logs, ExamplesConfig())
    at_ms = np.array([0, 1, 3, 4, 6]) * MS_PER_DAY // 2
    users = np.array([ANN, ANN, ANN, ANN, 1])
    days = idle_days(history, *history.watches.window_before(users, at_ms, 50), at_ms)
    assert days.tolist() == [NEVER_DAYS, 0.5, 0.5, 1.0, NEVER_DAYS]


def test_idleness_is_context_between_0_and_1_and_rises_with_the_days(tiny_logs: Logs) -> None:
    query_encoder, examples = examples_of(tiny_logs, ExamplesConfig(), completed_share=0.5)
    history, user = examples.history, int(examples.queries.user_rows[-1])
    last_ms = int(history.watches.of_user(user).at_ms[-1])
    at_ms = last_ms + np.array([1_000, MS_PER_DAY // 4, MS_PER_DAY, 3 * MS_PER_DAY])
    values = query_encoder.queries(history, np.full(4, user), at_ms).context_values
    assert ((values >= 0) & (values <= 1)).all()
    assert all(earlier < later for earlier, later in pairwise(values[:, 0]))
    assert values[:, 1] == pytest.approx(values[:, 0] ** 2)
    assert values[:, 2] == pytest.approx(values[:, 0] ** 0.5)


def test_queries_are_chosen_by_slice_and_by_index(logs: Logs) -> None:
    queries = examples_of(logs, ExamplesConfig(), completed_share=0.5)[1].queries
    assert queries[1:3].user_rows.tolist() == [ANN, ANN]
    chosen = queries[np.array([3, 0])]
    assert len(chosen) == 2
    for name, column in vars(chosen).items():
        assert (column == vars(queries)[name][[3, 0]]).all()


def test_logs_without_watches_have_no_examples(make_logs: MakeLogs) -> None:
    config = ExamplesConfig(clock=("hour",))
    examples = examples_of(make_logs(), config, completed_share=0.5)[1]
    assert len(examples.queries) == len(examples.item_rows) == 0
    assert examples.queries.context_rows.shape == (0, 1)


def targets_of(logs: Logs, later: Logs) -> tuple[WatchTargets, Encoder, Vocabulary]:
    encoder, users, history = encoded(logs, ExamplesConfig())
    return watch_targets(encoder, history, users, later.watches), encoder, users


def test_targets_stand_in_order_of_time_and_none_is_left_out(
    logs: Logs, make_logs: MakeLogs
) -> None:
    day = MS_PER_DAY
    later = make_logs(
        watches=[
            ("ben", "soup", 6 * day, 1.0),
            ("ann", "cake", 5 * day, 1.0),
            ("eve", "tea", 7 * day, 1.0),
        ]
    )
    targets, _, _ = targets_of(logs, later)
    assert targets.at_ms.tolist() == [5 * day, 6 * day, 7 * day]
    assert targets.user_rows.tolist() == [ANN, BEN, 1]
    assert targets.item_rows.tolist() == [1, SOUP, TEA]
    assert targets.history_rows(3).tolist() == [[RICE, SOUP, RICE], [0, TEA, SOUP], [0, 0, 0]]


def test_first_watches_are_those_of_items_new_to_the_user(tiny_logs: Logs) -> None:
    targets, encoder, users = targets_of(tiny_logs, tiny_logs)
    first = targets.first_watches()
    expected = (
        tiny_logs.watches.frame.sort("started_at_ms", maintain_order=True)
        .filter(pl.col("started_at_ms") == pl.col("started_at_ms").min().over("user_id", "item_id"))
        .select("user_id", "item_id", "started_at_ms")
    )
    assert 0 < len(first) < len(targets)
    assert first.at_ms.tolist() == expected["started_at_ms"].to_list()
    assert (first.user_rows == users.rows(expected["user_id"])).all()
    assert (first.item_rows == encoder.catalogue.items.rows(expected["item_id"])).all()


def test_an_unknown_item_is_always_watched_for_the_first_time(
    logs: Logs, make_logs: MakeLogs
) -> None:
    config = ExamplesConfig(min_watches=2)
    encoder, users, history = encoded(logs, config)
    tea = logs.watches.frame.filter(pl.col("item_id") == "tea")
    again = Watches(tea.with_columns(pl.col("started_at_ms") + MS_PER_DAY))
    targets = watch_targets(encoder, history, users, again)
    assert targets.watched_before()[1].tolist() == [1]
    assert len(targets.first_watches()) == 1


@given(
    events=st.lists(st.tuples(users_of_four, items_of_four, moments), max_size=30),
    asked=st.lists(st.tuples(users_of_four, items_of_four, moments), max_size=15),
)
def test_first_watches_are_those_without_an_earlier_event_of_user_and_item(
    events: list[tuple[int, int, int]], asked: list[tuple[int, int, int]]
) -> None:
    """Events and targets are (user, item, time)."""
    log = EventLog.from_events(**columns_of(events), num_users=4)
    nothing = EventLog.empty(4)
    history = History(log, nothing, nothing, np.zeros((4, 0), np.int32))
    targets = columns_of(asked)
    first = WatchTargets(
        history, targets["user_rows"], targets["at_ms"], targets["rows"]
    ).first_watches()
    expected = [
        (user, item, at_ms)
        for user, item, at_ms in asked
        if item == 1 or not any(then < at_ms for *pair, then in events if pair == [user, item])
    ]
    kept = zip(first.user_rows, first.item_rows, first.at_ms, strict=True)
    assert [tuple(map(int, target)) for target in kept] == expected


def test_the_first_watches_of_one_long_past_need_little_memory() -> None:
    """One user's 20,000 watches: all pasts together hold 200 million."""
    rows = np.arange(20_000, dtype=np.int32) % 3_000 + 2
    at_ms = np.arange(20_000)
    user_rows = np.zeros(20_000, np.int64)
    log = EventLog.from_events(user_rows=user_rows, rows=rows, at_ms=at_ms, num_users=1)
    nothing = EventLog.empty(1)
    history = History(log, nothing, nothing, np.zeros((1, 0), np.int32))
    targets = WatchTargets(history, user_rows, at_ms, rows)
    tracemalloc.start()
    try:
        assert targets.first_watches().at_ms.tolist() == list(range(3_000))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10_000_000


def test_a_sample_is_some_of_the_targets_in_their_order(tiny_logs: Logs) -> None:
    targets, _, _ = targets_of(tiny_logs, tiny_logs)
    sample = targets.sample(40, seed=3)
    assert len(sample) == 40
    assert (np.diff(sample.at_ms) >= 0).all()
    everything = set(zip(targets.user_rows, targets.at_ms, targets.item_rows, strict=True))
    drawn = set(zip(sample.user_rows, sample.at_ms, sample.item_rows, strict=True))
    assert drawn < everything
    assert len(drawn) == 40
    assert (targets.sample(40, seed=3).at_ms == sample.at_ms).all()
    assert (targets.sample(40, seed=4).at_ms != sample.at_ms).any()
    assert targets.sample(len(targets), seed=3) is targets
