"""Users are found by the beginning of their ids, those of the latest watches first."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from upnext.examples.history import EventLog
from upnext.examples.vocabulary import Vocabulary
from upnext.recommender.insight.users import find_users, last_watches_ms
from upnext.schema import UNKNOWN_ROW

ids = st.one_of(
    st.lists(st.text("ab1ü", min_size=1, max_size=3), min_size=1, max_size=12, unique=True),
    st.lists(st.integers(-30, 300), min_size=1, max_size=12, unique=True),
)
watches = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 9)), max_size=20)


@given(ids, watches, st.text("ab1ü2-", max_size=2), st.integers(1, 15))
def test_users_are_found_as_a_loop_would(
    known: list[str] | list[int], watched: list[tuple[int, int]], text: str, k: int
) -> None:
    users = Vocabulary.by_frequency(pl.Series(known))
    events = [(users.row(known[place % len(known)]), at_ms) for place, at_ms in watched]
    log = EventLog.from_events(
        user_rows=np.array([row for row, _ in events], np.int64),
        rows=np.full(len(events), 2, np.int32),
        at_ms=np.array([at_ms for _, at_ms in events], np.int64),
        num_users=users.num_rows,
    )
    found = find_users(users, log, last_watches_ms(log), text, k)

    def times(user_id: str | int) -> list[int]:
        return [at_ms for row, at_ms in events if row == users.row(user_id)]

    matching = [one for one in known if str(one).startswith(text)]
    assert len(found) == min(k, len(matching))
    for card in found:
        assert card.user_id in matching
        assert card.num_watches == len(times(card.user_id))
        assert card.last_watch_ms == max(times(card.user_id), default=None)
    if users.row(text) != UNKNOWN_ROW:
        assert str(found[0].user_id) == text
        matching.remove(found[0].user_id)
        found = found[1:]
    latest = sorted((max(times(one), default=-1) for one in matching), reverse=True)
    assert [-1 if c.last_watch_ms is None else c.last_watch_ms for c in found] == latest[
        : len(found)
    ]
