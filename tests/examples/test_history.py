import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.examples.history import EventLog, History

NUM_USERS = 4

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


@given(events, moments, sizes)
def test_take_reads_every_column_alike(
    events: list[Event], moments: list[tuple[int, int]], size: int
) -> None:
    log = make_log(events)
    index, filled = log.slots(*log.window_before(*split(moments), size), size)
    for values in (log.rows, log.at_ms, log.watch_time_s):
        taken = log.take(values, index, filled)
        assert taken.dtype == values.dtype
        assert taken[filled].tolist() == [values[place] for place in index[filled]]
        assert not taken[~filled].any()


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
    arrays = history.to_arrays()
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
