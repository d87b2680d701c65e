import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import DataError
from upnext.logs.split import split_by_time, split_last_event
from upnext.schema import MS_PER_DAY, Impressions, Items, Logs, Searches, Watches

Event = tuple[int, int]
"""user_id, time."""

events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=40)


def make_logs(
    watches: list[Event],
    impressions: list[Event] | None = None,
    searches: list[Event] | None = None,
) -> Logs:
    """Logs whose item_id is the row in which a watch stands; times as given."""

    def frame(rows: list[Event], time: str) -> pl.DataFrame:
        frame = pl.DataFrame(rows, schema={"user_id": pl.Int64, time: pl.Int64}, orient="row")
        return frame.with_row_index("item_id").cast({"item_id": pl.Int64})

    zero = pl.lit(0.0, pl.Float32).alias("watch_time_s")
    shown = None
    if impressions is not None:
        shown = frame(impressions, "shown_at_ms").with_columns(
            zero, request_id=pl.lit(1, pl.Int64), position=pl.lit(0), watched=pl.lit(False)
        )
    typed = None
    if searches is not None:
        typed = frame(searches, "searched_at_ms").drop("item_id").with_columns(query=pl.lit("q"))
    items = pl.DataFrame(
        {"item_id": range(len(watches))},
        schema={"item_id": pl.Int64},
    ).with_columns(
        pl.lit(None, pl.Int64).alias("published_at_ms"),
        pl.lit(None, pl.Float32).alias("duration_s"),
        pl.lit(None, pl.String).alias("channel_id"),
        pl.lit(None, pl.List(pl.String)).alias("tags"),
        pl.lit(None, pl.String).alias("title"),
    )
    return Logs(
        watches=Watches(frame(watches, "started_at_ms").with_columns(zero)),
        items=Items(items),
        impressions=Impressions(shown) if shown is not None else None,
        searches=Searches(typed) if typed is not None else None,
    )


def rows_of(logs: Logs) -> list[int]:
    return logs.watches.frame["item_id"].to_list()


def test_split_by_time_counts_back_from_the_end_of_the_last_event() -> None:
    day = MS_PER_DAY
    watches = [(1, 0), (1, 2 * day), (1, 2 * day + 1), (1, 3 * day), (1, 3 * day + 1), (1, 4 * day)]
    split = split_by_time(make_logs(watches), validation_days=1, test_days=1)
    assert (split.validation_from_ms, split.test_from_ms) == (2 * day + 1, 3 * day + 1)
    assert [rows_of(split.train), rows_of(split.validation), rows_of(split.test)] == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]


def test_training_may_be_limited_to_the_last_days_before_validation() -> None:
    day = MS_PER_DAY
    watches = [(1, 0), (1, day), (1, day + 1), (1, 2 * day), (1, 3 * day), (1, 4 * day)]
    logs = make_logs(watches)
    split = split_by_time(logs, validation_days=1, test_days=1, train_days=1)
    assert split.validation_from_ms == 2 * day + 1
    assert [rows_of(split.train), rows_of(split.train_and_validation)] == [[2, 3], [2, 3, 4]]
    assert rows_of(split.test) == [5]


def test_the_last_event_of_any_table_ends_the_logs() -> None:
    day = MS_PER_DAY
    watches = [(1, 0), (1, day), (1, 2 * day)]
    logs = make_logs(watches, impressions=[(1, 0), (1, 3 * day - 1)], searches=[(1, day)])
    split = split_by_time(logs, validation_days=1, test_days=1)
    assert (split.validation_from_ms, split.test_from_ms) == (day, 2 * day)
    assert split.test.impressions is not None
    assert split.test.impressions.frame["shown_at_ms"].to_list() == [3 * day - 1]
    assert split.validation.searches is not None
    assert split.validation.searches.frame.height == 1
    assert split.train.items is split.test.items is logs.items


@given(events, st.integers(1, 12), st.integers(1, 12))
def test_split_by_time_keeps_every_watch_once_and_in_order(
    watches: list[Event], validation_ms: int, test_ms: int
) -> None:
    logs = make_logs(watches)
    try:
        split = split_by_time(
            logs, validation_days=validation_ms / MS_PER_DAY, test_days=test_ms / MS_PER_DAY
        )
    except DataError:
        return
    parts = [split.train, split.validation, split.test]
    assert sorted(row for part in parts for row in rows_of(part)) == list(range(len(watches)))
    times = [part.watches.frame["started_at_ms"].to_list() for part in parts]
    assert max(times[0]) < min(times[1])
    assert max(times[1]) < min(times[2])


@pytest.mark.parametrize(
    ("validation_days", "test_days", "empty"),
    [(1.0, 100.0, "train"), (100.0, 1.0, "train"), (0.1, 0.1, "validation")],
)
def test_an_empty_part_is_an_error(validation_days: float, test_days: float, empty: str) -> None:
    logs = make_logs([(1, 0), (1, 5 * MS_PER_DAY)])
    with pytest.raises(DataError, match=f"split_by_time, {empty}"):
        split_by_time(logs, validation_days=validation_days, test_days=test_days)


@pytest.mark.parametrize("days", [0.0, -1.0, float("nan")])
def test_a_part_takes_time(days: float) -> None:
    with pytest.raises(DataError, match="above 0 days"):
        split_by_time(make_logs([(1, 0)]), validation_days=days, test_days=1)


def test_split_last_event_takes_the_last_two_watches_of_each_user() -> None:
    watches = [(1, 5), (2, 0), (1, 3), (1, 4), (2, 1), (3, 9), (3, 9), (3, 9), (3, 9)]
    split = split_last_event(make_logs(watches))
    assert rows_of(split.test) == [0, 8]
    assert rows_of(split.validation) == [3, 7]
    assert rows_of(split.train) == [1, 2, 4, 5, 6]
    assert split.test_from_ms is split.validation_from_ms is None


def test_train_knows_nothing_from_the_validation_watch_on() -> None:
    watches = [(1, 0), (1, 4), (1, 8), (2, 0)]
    others = [(1, 3), (1, 4), (1, 5), (1, 9), (2, 9), (7, 9)]
    split = split_last_event(make_logs(watches, impressions=others, searches=others))
    assert split.train.impressions is not None
    assert split.train.searches is not None
    kept = split.train.impressions.frame.select("user_id", "shown_at_ms").rows()
    assert kept == [(1, 3), (2, 9), (7, 9)]
    assert split.train.searches.frame.select("user_id", "searched_at_ms").rows() == kept
    assert split.validation.impressions is None
    assert split.test.searches is None


@given(events)
def test_split_last_event_keeps_every_watch_once(watches: list[Event]) -> None:
    per_user = {user: [t for u, t in watches if u == user] for user, _ in watches}
    num_long = sum(len(times) >= 3 for times in per_user.values())
    if num_long == 0:
        with pytest.raises(DataError, match="at least 3 watches"):
            split_last_event(make_logs(watches))
        return
    split = split_last_event(make_logs(watches))
    parts = [split.train, split.validation, split.test]
    assert sorted(row for part in parts for row in rows_of(part)) == list(range(len(watches)))
    assert len(rows_of(split.test)) == len(rows_of(split.validation)) == num_long
    for row in rows_of(split.test):
        user, time = watches[row]
        assert time == max(per_user[user])
