import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import upnext.examples.sorting
from upnext.examples.history import EventLog
from upnext.examples.sorting import (
    WATCH_RECORD,
    ArrayFile,
    Numbering,
    bucket_bounds,
    sort_watches,
)

NUM_USERS, NUM_ITEMS = 6, 4

Watch = tuple[int, int, int]
"""user number, item number, time."""

watches = st.lists(
    st.tuples(st.integers(0, NUM_USERS - 1), st.integers(0, NUM_ITEMS - 1), st.integers(-3, 5)),
    max_size=40,
)
orders = st.permutations(range(NUM_USERS))


def records_of(watches: list[Watch]) -> np.ndarray:
    """Places 10, 20, … and watch times 1, 2, … tell which watch is which."""
    records = np.zeros(len(watches), WATCH_RECORD)
    for name, column in zip(("user", "item", "at_ms"), zip(*watches, strict=True), strict=False):
        records[name] = column
    records["watch_time_s"] = np.arange(len(watches)) + 1
    records["place"] = 10 * (np.arange(len(watches)) + 1)
    return records


def is_first(watches: list[Watch]) -> list[bool]:
    return [watch not in watches[:place] for place, watch in enumerate(watches)]


@given(watches, orders, st.integers(1, 9), st.integers(1, NUM_USERS))
def test_watches_are_sorted_as_in_memory_and_repeats_told(
    watches: list[Watch], user_rows: list[int], at_once: int, users_per_bucket: int
) -> None:
    records, rows = records_of(watches), np.array(user_rows, np.int32)
    item_codes = np.arange(NUM_ITEMS, dtype=np.int32)[::-1]
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnext.examples.sorting, "RECORDS_AT_ONCE", at_once)
        patch.setattr(upnext.examples.sorting, "USERS_PER_BUCKET", users_per_bucket)
        folder = Path(directory)
        records.tofile(folder / "records")
        num_events = np.bincount(rows[records["user"]], minlength=NUM_USERS)
        numbering = Numbering(user_rows=rows, item_codes=item_codes)
        repeats = sort_watches(folder / "records", folder, numbering, num_events)
        found = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    kept = np.array(is_first(watches), bool)
    expected = EventLog.from_events(
        user_rows=rows[records["user"][kept]],
        rows=item_codes[records["item"][kept]],
        at_ms=records["at_ms"][kept],
        num_users=NUM_USERS,
        watch_time_s=records["watch_time_s"][kept],
    )
    told = sorted(zip(repeats["place"], repeats["at_ms"], strict=True))
    assert told == sorted(zip(records["place"][~kept], records["at_ms"][~kept], strict=True))
    assert found["places"].tolist() == (10 * found["watch_time_s"]).tolist()
    found["rows"] = found.pop("item_codes")
    for name, values in vars(expected).items():
        assert found[name].dtype == values.dtype
        assert found[name].tolist() == values.tolist()


@given(
    st.lists(st.integers(0, 9), max_size=20).map(np.array),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_buckets_are_as_large_as_they_may_be(
    num_events: np.ndarray, max_users: int, max_events: int
) -> None:
    bounds = bucket_bounds(num_events, max_users=max_users, max_events=max_events)
    assert bounds[0] == 0
    assert bounds[-1] == len(num_events)
    for first, end in itertools.pairwise(bounds):
        assert 1 <= end - first <= max_users
        assert end - first == 1 or num_events[first:end].sum() <= max_events
        could_be_larger = end < len(num_events) and end - first < max_users
        assert not could_be_larger or num_events[first : end + 1].sum() > max_events


@given(st.lists(st.lists(st.integers(-5, 5), max_size=4), max_size=5))
def test_an_array_in_pieces_is_the_array(pieces: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.npy"
        with ArrayFile(path, np.int32) as file:
            for piece in pieces:
                file.append(np.array(piece, np.int64))
        array = np.load(path, allow_pickle=False)
    assert array.dtype == np.int32
    assert array.tolist() == [value for piece in pieces for value in piece]
