import polars as pl
import pytest

from upnext.errors import DataError
from upnext.logs.public.tables import first_features, to_items, to_users, to_watches


def test_watches_get_the_types_of_the_schema_and_nothing_else() -> None:
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([1], dtype=pl.Int16),
            "item_id": ["a"],
            "started_at_ms": pl.Series([5], dtype=pl.Int32),
            "watch_time_s": [2.5],
            "rating": [4],
        }
    )
    watches = to_watches(frame).frame
    assert watches.rows(named=True) == [
        {"user_id": 1, "item_id": "a", "started_at_ms": 5, "watch_time_s": 2.5}
    ]


def test_a_time_that_is_missing_is_refused() -> None:
    frame = pl.DataFrame({"user_id": 1, "item_id": 2, "started_at_ms": None, "watch_time_s": 1.0})
    with pytest.raises(DataError, match="started_at_ms"):
        to_watches(frame)


def test_every_item_seen_is_in_the_catalogue_once() -> None:
    known = pl.DataFrame({"item_id": [3, 1], "title": ["c", "a"], "release_year": ["1995", None]})
    items = to_items(known, pl.Series([2, 3, 2]), pl.Series([9])).frame
    assert items["item_id"].to_list() == [1, 2, 3, 9]
    assert items["title"].to_list() == ["a", None, "c", None]
    assert items["release_year"].to_list() == [None, None, "1995", None]
    assert items["published_at_ms"].null_count() == 4


def test_user_features_are_text() -> None:
    users = to_users(pl.DataFrame({"user_id": [1], "age": [24]}), pl.Series([1, 2])).frame
    assert users.rows() == [(1, "24"), (2, None)]


def test_features_are_those_of_the_first_event() -> None:
    events = pl.DataFrame(
        {"user_id": [1, 2, 1, 1], "at": [30, 20, 10, 20], "os": ["new", "b", "first", "later"]}
    )
    features = first_features(events, {"system": "os"}, by="at")
    assert sorted(features.rows()) == [(1, "first"), (2, "b")]
