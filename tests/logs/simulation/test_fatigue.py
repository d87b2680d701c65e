import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from upnext.logs.simulation.fatigue import NOTHING, PastItems, RecentItems
from upnext.logs.simulation.truth import Truth
from upnext.logs.simulation.world import SimulationConfig, draw_world

TRUTH = Truth(draw_world(SimulationConfig(num_users=3, num_items=60, num_days=1)))
EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=40)
CANDIDATES = np.arange(6, dtype=np.int32)[None, :]


def plain_counts(item_rows: list[int], size: int) -> list[int]:
    return [item_rows[-size:].count(item) for item in range(6)]


@given(events=EVENTS, size=st.integers(1, 7))
def test_a_ring_counts_what_a_list_counts(events: list[tuple[int, int]], size: int) -> None:
    recent = RecentItems(3, size)
    for user, item in events:
        recent.add(np.array([user]), np.array([[item]]), np.array([[True]]))
    for user in range(3):
        seen = [item for who, item in events if who == user]
        rows = np.array([user], dtype=np.int32)
        assert recent.count(rows, CANDIDATES)[0].tolist() == plain_counts(seen, size)
        newest_first = (seen[::-1] + [NOTHING] * size)[:size]
        assert recent.last(rows, size)[0].tolist() == newest_first


def test_a_ring_keeps_only_what_is_added_of_a_page() -> None:
    recent = RecentItems(4, 3)
    page = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int32)
    added = np.array([[True, False, True], [False, False, False]])
    recent.add(np.array([2, 0], dtype=np.int32), page, added)
    assert recent.last(np.array([2, 0], dtype=np.int32), 3).tolist() == [
        [3, 1, NOTHING],
        [NOTHING, NOTHING, NOTHING],
    ]


@given(
    events=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 20)),
        max_size=40,
        unique_by=lambda event: (event[0], event[2]),
    ),
    size=st.integers(1, 7),
    at_ms=st.integers(-1, 22),
)
def test_a_log_counts_only_what_came_strictly_before(
    events: list[tuple[int, int, int]], size: int, at_ms: int
) -> None:
    frame = pl.DataFrame(
        {
            "user_id": [f"u{user:05d}" for user, _, _ in events],
            "item_id": [f"v{item:05d}" for _, item, _ in events],
            "started_at_ms": [time for _, _, time in events],
        },
        schema={"user_id": pl.String, "item_id": pl.String, "started_at_ms": pl.Int64},
    )
    past = PastItems.of(TRUTH, frame, "started_at_ms", size)
    for user in range(3):
        before = sorted((time, item) for who, item, time in events if who == user and time < at_ms)
        counts = past.count(np.array([user], dtype=np.int32), CANDIDATES, np.array([at_ms]))
        assert counts[0].tolist() == plain_counts([item for _, item in before], size)
