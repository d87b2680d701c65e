import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.examples.history import EventLog, History

NUM_USERS = 4

CHANNEL_ROWS = np.array([0, 0, 2, 3, 2, 0, 1, 2, 3, 3], np.int32)
"""By item row: three of channel 2, three of channel 3, and some of none or of an unknown one."""
DURATION_S = np.array([0, 0, 5, 0, 16, 8, 4, 2, 1, 9], np.float32)

Event = tuple[int, int, int]
"""user row, item row, time."""

events = st.lists(
    st.tuples(st.integers(0, NUM_USERS - 1), st.integers(1, 9), st.integers(-5, 20)), max_size=40
)
moments = st.lists(st.tuples(st.integers(0, NUM_USERS - 1), st.integers(-6, 22)), max_size=12)
sizes = st.integers(1, 6)


def log_of(events: list[Event]) -> EventLog:
    users, rows, at_ms = (np.array(column) for column in zip(*events, strict=True))
    return EventLog.from_events(
        user_rows=users,
        rows=rows.astype(np.int32),
        at_ms=at_ms.astype(np.int64),
        num_users=NUM_USERS,
        watch_time_s=np.arange(len(events), dtype=np.float32),
    )


def make_log(events: list[Event]) -> EventLog:
    return log_of(events) if events else EventLog.empty(NUM_USERS)


def split(moments: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pairs = np.array(moments, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def past(events: list[Event], user: int, at_ms: int) -> list[int]:
    """Item rows of a user's events strictly before a time, oldest first, ties in log order."""
    mine = sorted((event for event in events if event[0] == user), key=lambda event: event[2])
    return [row for _, row, started_ms in mine if started_ms < at_ms]


@given(events, moments, sizes)
def test_a_window_holds_the_last_events_strictly_before(
    events: list[Event], moments: list[tuple[int, int]], size: int
) -> None:
    log = make_log(events)
    lo, hi = log.window_before(*split(moments), size)
    windows = [log.rows[start:end].tolist() for start, end in zip(lo, hi, strict=True)]
    assert windows == [past(events, *moment)[-size:] for moment in moments]


@given(events, moments, sizes, st.integers(1, 8))
def test_slots_hold_the_window_newest_last_behind_zeros(
    events: list[Event], moments: list[tuple[int, int]], size: int, num_slots: int
) -> None:
    log = make_log(events)
    lo, hi = log.window_before(*split(moments), size)
    rows = log.rows_in(lo, hi, num_slots)
    assert rows.shape == (len(moments), num_slots)
    assert rows.dtype == np.int32
    expected = [past(events, *moment)[-size:][-num_slots:] for moment in moments]
    assert rows.tolist() == [[0] * (num_slots - len(line)) + line for line in expected]


@given(events, moments)
def test_all_before_is_the_whole_past(events: list[Event], moments: list[tuple[int, int]]) -> None:
    starts, rows = make_log(events).all_before(*split(moments))
    assert len(starts) == len(moments) + 1
    pasts = [rows[a:b].tolist() for a, b in itertools.pairwise(starts)]
    assert pasts == [past(events, *moment) for moment in moments]
    assert starts[-1] == len(rows)


@given(events)
def test_every_event_is_kept_with_its_user_and_time(events: list[Event]) -> None:
    log = make_log(events)
    kept = zip(log.user_rows(), log.rows, log.at_ms, log.watch_time_s, strict=True)
    assert sorted(kept) == sorted((*event, place) for place, event in enumerate(events))
    assert log.num_users == NUM_USERS


@given(events, st.integers(0, NUM_USERS - 1), st.integers(-6, 22), sizes)
def test_one_user_alone_has_the_same_past(
    events: list[Event], user: int, at_ms: int, size: int
) -> None:
    log = make_log(events)
    alone, moment = log.of_user(user), np.array([at_ms])
    assert alone.num_users == 1
    in_company = log.rows_in(*log.window_before(np.array([user]), moment, size), size)
    on_its_own = alone.rows_in(*alone.window_before(np.array([0]), moment, size), size)
    assert (in_company == on_its_own).all()


def test_events_at_one_time_keep_their_order_and_are_before_none_of_each_other() -> None:
    log = log_of([(0, 5, 10), (0, 3, 10), (0, 4, 10), (0, 2, 9)])
    at_ms = np.array([10, 11])
    rows = log.rows_in(*log.window_before(np.array([0, 0]), at_ms, 4), 4)
    assert rows.tolist() == [[0, 0, 0, 2], [2, 5, 3, 4]]


def test_a_log_without_events_answers_every_question() -> None:
    log = EventLog.empty(3)
    users, at_ms = np.array([0, 2]), np.array([5, 5])
    assert log.rows_in(*log.window_before(users, at_ms, 2), 2).tolist() == [[0, 0], [0, 0]]
    starts, rows = log.all_before(users, at_ms)
    assert (starts.tolist(), rows.tolist()) == ([0, 0, 0], [])
    assert log.user_rows().tolist() == []
    assert EventLog.empty(0).num_users == 0


@given(events)
def test_history_survives_as_arrays(events: list[Event]) -> None:
    features = np.arange(NUM_USERS * 2, dtype=np.int32).reshape(NUM_USERS, 2)
    history = History(make_log(events), EventLog.empty(NUM_USERS), make_log(events[:3]), features)
    arrays = history.counted(CHANNEL_ROWS, DURATION_S).to_arrays()
    again = History.from_arrays(arrays).to_arrays()
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        assert (again[name] == array).all()


def test_one_users_history_is_that_of_the_user() -> None:
    log = log_of([(0, 5, 1), (1, 6, 2), (1, 7, 3)])
    features = np.arange(NUM_USERS, dtype=np.int32)[:, None]
    alone = History(log, EventLog.empty(NUM_USERS), log, features).of_user(1)
    assert alone.watches.rows.tolist() == alone.shown.rows.tolist() == [6, 7]
    assert alone.searches.rows.tolist() == []
    assert alone.feature_rows.tolist() == [[1]]


@given(events, events)
def test_a_channel_counts_the_events_of_its_items(watched: list[Event], shown: list[Event]) -> None:
    logs = [
        make_log([(user, row, at_ms + 5) for user, row, at_ms in log]) for log in (shown, watched)
    ]
    nothing, features = EventLog.empty(NUM_USERS), np.zeros((NUM_USERS, 0), np.int32)
    history = History(logs[1], nothing, logs[0], features).counted(CHANNEL_ROWS, DURATION_S)
    tomorrow = np.full(10, 86_400_000)
    of_items = history.item_counts.before(np.arange(10), tomorrow)
    of_channels = history.channel_counts.before(np.arange(10), tomorrow)
    known = [sum(row > 1 for _, row, _ in log) for log in (shown, watched)]
    assert of_items[:, :2].sum(axis=0).tolist() == known
    for channel in (2, 3):
        its_items = of_items[channel == CHANNEL_ROWS].sum(axis=0)
        np.testing.assert_allclose(of_channels[channel], its_items, atol=1e-5)
    assert not of_channels[[0, 1, *range(4, 10)]].any()


def test_one_users_history_keeps_the_counts_of_all() -> None:
    log = log_of([(0, 5, 1), (1, 5, 2), (1, 7, 3)])
    features = np.arange(NUM_USERS, dtype=np.int32)[:, None]
    history = History(log, EventLog.empty(NUM_USERS), log, features).counted(
        CHANNEL_ROWS, DURATION_S
    )
    counts = history.of_user(0).item_counts
    assert counts.before(np.array([5, 7]), np.full(2, 86_400_000))[:, 1].tolist() == [2.0, 1.0]


def test_the_share_of_a_watch_is_at_most_all_and_all_where_no_duration_is_known() -> None:
    """Watches of 0, 1 and 2 s, of items of 5 s, of unknown length, and of 1 s."""
    log = log_of([(0, 2, 1), (0, 3, 2), (1, 8, 3)])
    features = np.zeros((NUM_USERS, 0), np.int32)
    history = History(log, EventLog.empty(NUM_USERS), log, features).counted(
        CHANNEL_ROWS, DURATION_S
    )
    told = history.item_counts.before(np.array([2, 3, 8]), np.full(3, 86_400_000))
    assert told[:, 2:].tolist() == [[0.0, 0.0], [1.0, 1.0], [2.0, 1.0]]


@given(events, st.integers(-6, 22))
def test_the_past_until_a_time_is_what_was_before_it(events: list[Event], at_ms: int) -> None:
    features = np.zeros((NUM_USERS, 0), np.int32)
    log = make_log(events)
    cut = History(log, log, log, features).until(at_ms)
    for part in (cut.watches, cut.searches, cut.shown):
        assert part.num_users == NUM_USERS
        for user in range(NUM_USERS):
            assert part.of_user(user).rows.tolist() == past(events, user, at_ms)


@given(events, st.integers(-6, 22))
def test_a_log_until_a_time_is_that_of_the_earlier_events(events: list[Event], at_ms: int) -> None:
    """All that is known of each event, and of users without one too; watched as long as by then."""
    log = make_log(events)
    kept = log.at_ms < at_ms
    ran_s = ((at_ms - log.at_ms[kept]) / 1000).astype(np.float32)
    expected = EventLog.from_events(
        user_rows=log.user_rows()[kept],
        rows=log.rows[kept],
        at_ms=log.at_ms[kept],
        num_users=NUM_USERS,
        watch_time_s=np.minimum(log.watch_time_s[kept], ran_s),
    )
    cut = log.until(at_ms)
    for name, column in vars(expected).items():
        assert getattr(cut, name).dtype == column.dtype
        assert getattr(cut, name).tolist() == column.tolist()
    assert cut.until(at_ms + 1).rows.tolist() == cut.rows.tolist()


@given(events, events, events, st.integers(-6, 22))
def test_a_past_until_a_time_keeps_each_log_apart_and_counts_on(
    watched: list[Event], searched: list[Event], shown: list[Event], at_ms: int
) -> None:
    features = np.arange(NUM_USERS, dtype=np.int32)[:, None]
    logs = [make_log(lines) for lines in (watched, searched, shown)]
    history = History(logs[0], logs[1], logs[2], features).counted(CHANNEL_ROWS, DURATION_S)
    cut = history.until(at_ms)
    for part, log in zip((cut.watches, cut.searches, cut.shown), logs, strict=True):
        assert part.at_ms.tolist() == log.at_ms[log.at_ms < at_ms].tolist()
    assert cut.feature_rows.tolist() == features.tolist()
    assert cut.item_counts is history.item_counts
    assert cut.channel_counts is history.channel_counts


@pytest.mark.parametrize("user", [-1, NUM_USERS, 10**9])
def test_of_nobody_there_is_no_past(user: int) -> None:
    with pytest.raises(IndexError):
        make_log([(1, 2, 3)]).window_before(np.array([1, user]), np.array([9, 9]), 5)
