"""An event of the live store counts as if the logs had held it, and once if both hold it."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import EventLog, History
from upnext.examples.past import past_of
from upnext.schema import LivePast, Logs, PastWatch, RecommendationRequest

MakeLogs = Callable[..., Logs]

NOW_MS = 1_800_000_000_000
AT_NOON = RecommendationRequest(at_ms=NOW_MS)
ITEMS = ["soup", "rice", "cake"]


@pytest.fixture(scope="module")
def logs(make_logs: MakeLogs) -> Logs:
    return make_logs(
        watches=[
            ("ann", "soup", 1_000, 50.0),
            ("ann", "rice", 90_000, 4.0),
            ("ben", "cake", 2_000, 4.0),
        ],
        impressions=[("r1", "ann", "cake", 20_000, 0, False, 0.0)],
        searches=[("ann", 15_000, "slow rice")],
    )


@pytest.fixture(scope="module")
def encoder(logs: Logs) -> Encoder:
    return build_encoder(logs, ExamplesConfig())


def in_order(events: list[tuple[int, str]]) -> tuple[list[str], list[int]]:
    events = sorted(events)
    return [item for _, item in events], [at_ms for at_ms, _ in events]


def told(log: EventLog) -> list[tuple[int, int, float]]:
    return sorted(
        zip(log.at_ms.tolist(), log.rows.tolist(), log.watch_time_s.tolist(), strict=True)
    )


moments = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(ITEMS)), max_size=8, unique=True)


@given(logged=moments, lived=moments, both=moments)
def test_an_event_counts_once_whoever_holds_it(
    encoder: Encoder,
    logged: list[tuple[int, str]],
    lived: list[tuple[int, str]],
    both: list[tuple[int, str]],
) -> None:
    def log(events: list[tuple[int, str]]) -> EventLog:
        items, at_ms = in_order(events)
        rows = encoder.catalogue.items.rows(items)
        return EventLog.of_one(rows, np.array(at_ms, np.int64))

    known = sorted(set(logged + both))
    nothing = EventLog.empty(1)
    stored = History(log(known), nothing, log(known), np.zeros((1, 0), np.int32))
    items, at_ms = in_order(list(set(lived + both)))
    live = LivePast(
        watched=items,
        started_at_ms=at_ms,
        watch_time_s=[0.0] * len(items),
        shown=items,
        shown_at_ms=at_ms,
    )
    past = past_of(encoder, stored, 0, AT_NOON, live, NOW_MS)
    assert told(past.watches) == told(past.shown) == told(log(list({*known, *lived, *both})))
    for merged in (past.watches, past.shown):
        assert (np.diff(merged.at_ms) >= 0).all()
        assert merged.starts.tolist() == [0, len(merged.rows)]


def test_what_a_live_store_tells_is_encoded_as_the_logs_are(encoder: Encoder, logs: Logs) -> None:
    users = user_vocabulary(logs)
    stored = encoder.history(logs, users)
    live = LivePast(
        watched=["soup", "rice"],
        started_at_ms=[1_000, 90_000],
        watch_time_s=[50.0, 4.0],
        shown=["cake"],
        shown_at_ms=[20_000],
        searched=["slow rice"],
        searched_at_ms=[15_000],
    )
    of_a_stranger = past_of(encoder, stored, 1, AT_NOON, live, NOW_MS)
    of_ann = stored.of_user(users.row("ann"))
    for name in ("watches", "searches", "shown"):
        ours, theirs = getattr(of_a_stranger, name), getattr(of_ann, name)
        for part, array in vars(theirs).items():
            assert getattr(ours, part).dtype == array.dtype
            assert getattr(ours, part).tolist() == array.tolist(), (name, part)


def test_what_a_live_store_knows_has_happened_before_a_request_of_this_moment(
    encoder: Encoder,
) -> None:
    """Unless the request tells its own time: then what is later has not happened yet."""
    live = LivePast(
        watched=["soup", "rice"],
        started_at_ms=[NOW_MS - 10, NOW_MS + 5_000],
        watch_time_s=[1.0, 2.0],
    )
    nobody = History.empty(2, 0)
    at_once = past_of(encoder, nobody, 1, RecommendationRequest(), live, NOW_MS)
    assert at_once.watches.at_ms.tolist() == [NOW_MS - 10, NOW_MS - 1]
    as_told = past_of(encoder, nobody, 1, AT_NOON, live, NOW_MS)
    assert as_told.watches.window_before(np.array([0]), np.array([NOW_MS]), 9)[1].tolist() == [1]


def test_a_history_that_is_told_takes_the_place_of_what_is_known(encoder: Encoder) -> None:
    live = LivePast(
        watched=["soup"], started_at_ms=[5], watch_time_s=[1.0], shown=["cake"], shown_at_ms=[6]
    )
    request = RecommendationRequest(history=[PastWatch(item_id="rice")], at_ms=NOW_MS)
    past = past_of(encoder, History.empty(2, 0), 1, request, live, NOW_MS)
    assert past.watches.rows.tolist() == [encoder.catalogue.items.row("rice")]
    assert past.shown.rows.tolist() == [encoder.catalogue.items.row("cake")]
