"""A past holds every event once, whether the release, the live store or both know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.examples.searches import query_tokens
from upnext.schema import UNKNOWN_ROW, Id, LivePast, Logs

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

    from upnext.recommender import Recommender

USER = "u00033"


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


def of_user(frame: pl.DataFrame, time: str) -> pl.DataFrame:
    return frame.filter(pl.col("user_id") == USER).sort(time, descending=True)


def live_watches(*watched: tuple[Id, int]) -> LivePast:
    return LivePast(
        watched=[item_id for item_id, _ in watched],
        started_at_ms=[at_ms for _, at_ms in watched],
        watch_time_s=[7.5] * len(watched),
    )


def test_a_past_without_live_events_is_that_of_the_logs(
    recommender: Recommender, tiny_logs: Logs
) -> None:
    past = recommender.insight.past(USER, 10_000, None)
    watches = of_user(tiny_logs.watches.frame, "started_at_ms")
    assert [watch.started_at_ms for watch in past.watches] == watches["started_at_ms"].to_list()
    assert [watch.watch_time_s for watch in past.watches] == watches["watch_time_s"].to_list()
    items = recommender.encoder.catalogue.items
    known = [one if items.row(one) != UNKNOWN_ROW else None for one in watches["item_id"]]
    assert [watch.item_id for watch in past.watches] == known
    assert past.num_watches == watches.height
    assert tiny_logs.impressions is not None
    assert past.num_shown == of_user(tiny_logs.impressions.frame, "shown_at_ms").height
    assert past.is_known
    assert not any(watch.is_live for watch in past.watches)
    assert not any(search.is_live for search in past.searches)


def test_the_share_is_of_the_items_duration(recommender: Recommender) -> None:
    for watch in recommender.insight.past(USER, 50, None).watches:
        if watch.duration_s is not None:
            expected = min(1, watch.watch_time_s / watch.duration_s)
            assert watch.watch_share == pytest.approx(expected)


def test_searches_are_told_by_the_words_that_the_release_knows(
    recommender: Recommender, tiny_logs: Logs
) -> None:
    assert tiny_logs.searches is not None
    searches = of_user(tiny_logs.searches.frame, "searched_at_ms")
    assert searches.height > 0
    past = recommender.insight.past(USER, 10_000, None)
    assert [one.searched_at_ms for one in past.searches] == searches["searched_at_ms"].to_list()
    tokens = recommender.encoder.search_tokens
    for told, query in zip(past.searches, searches["query"], strict=True):
        known = [token for token in query_tokens(query) if tokens.row(token) != UNKNOWN_ROW]
        assert (told.query, sorted(told.tokens)) == (None, sorted(known))


@given(st.data())
def test_what_both_hold_counts_once_and_what_is_new_is_live(
    recommender: Recommender, data: st.DataObject
) -> None:
    """The live store begins before the logs end; some of its events are in the logs as well."""
    stored = recommender.insight.past(USER, 10_000, None)
    known = [(w.item_id, w.started_at_ms) for w in stored.watches if w.item_id is not None]
    both = data.draw(st.lists(st.sampled_from(known), max_size=5, unique=True))
    last_ms = known[0][1]
    new_times = st.integers(last_ms - 10**7, last_ms + 10**7)
    new_items = st.sampled_from(["brand new", *(item for item, _ in known)])
    new = data.draw(st.lists(st.tuples(new_items, new_times), max_size=5, unique=True))
    new = [one for one in new if one not in known]
    live = live_watches(*sorted([*both, *new], key=lambda event: event[1]))
    past = recommender.insight.past(USER, 10_000, live)
    assert past.num_watches == stored.num_watches + len(new)
    told = [(watch.item_id, watch.started_at_ms) for watch in past.watches if watch.is_live]
    assert sorted(map(str, told)) == sorted(map(str, new))
    assert [w for w in past.watches if not w.is_live] == list(stored.watches)
    times = [watch.started_at_ms for watch in past.watches]
    assert times == sorted(times, reverse=True)
    fewer = recommender.insight.past(USER, 3, live)
    assert list(fewer.watches) == list(past.watches)[:3]
    assert fewer.num_watches == past.num_watches


def test_an_item_that_training_did_not_know_keeps_its_own_id(recommender: Recommender) -> None:
    end_ms = recommender.known_until_ms + 1
    past = recommender.insight.past(USER, 1, live_watches(("brand new", end_ms)))
    (watch,) = past.watches
    assert (watch.item_id, watch.title, watch.num_watches) == ("brand new", None, 0)
    assert (watch.watch_share, watch.published_at_ms, watch.is_live) == (None, None, True)


def test_the_live_store_still_knows_the_query_of_a_search_that_both_hold(
    recommender: Recommender, tiny_logs: Logs
) -> None:
    assert tiny_logs.searches is not None
    latest = of_user(tiny_logs.searches.frame, "searched_at_ms").row(0, named=True)
    at_ms = latest["searched_at_ms"]
    live = LivePast(searched=[latest["query"], "Something New"], searched_at_ms=[at_ms, at_ms + 5])
    new, both, *_ = recommender.insight.past(USER, 50, live).searches
    assert (new.query, new.searched_at_ms, new.is_live) == ("Something New", at_ms + 5, True)
    assert (both.query, both.searched_at_ms, both.is_live) == (latest["query"], at_ms, False)


def test_what_was_shown_counts_once_as_well(recommender: Recommender, tiny_logs: Logs) -> None:
    assert tiny_logs.impressions is not None
    latest = of_user(tiny_logs.impressions.frame, "shown_at_ms").row(0, named=True)
    live = LivePast(
        shown=[latest["item_id"], latest["item_id"]],
        shown_at_ms=[latest["shown_at_ms"], latest["shown_at_ms"] + 1],
    )
    before = recommender.insight.past(USER, 1, None).num_shown
    assert recommender.insight.past(USER, 1, live).num_shown == before + 1


def test_a_stranger_has_what_the_live_store_knows(recommender: Recommender) -> None:
    nobody = recommender.insight.past("a stranger", 50, None)
    assert (nobody.is_known, nobody.num_watches, nobody.num_shown) == (False, 0, 0)
    assert (nobody.watches, nobody.searches) == ([], [])
    item_id = recommender.encoder.catalogue.items.id(2)
    somebody = recommender.insight.past("a stranger", 50, live_watches((item_id, 1)))
    assert (somebody.is_known, somebody.num_watches) == (False, 1)
    assert somebody.watches[0].item_id == item_id


def test_ids_are_told_in_the_owners_type(recommender: Recommender) -> None:
    assert recommender.insight.user_id("17") == "17"
    assert recommender.insight.user_id(17) == "17"
