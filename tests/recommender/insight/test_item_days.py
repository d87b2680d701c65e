"""Days of an item add up to all that the release has counted of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from upnext.recommender.insight.item_days import watches_by_day, watches_of_row
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, Logs

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

    from upnext.recommender import Recommender


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


def test_days_add_up_to_the_history_of_the_release(recommender: Recommender) -> None:
    items, history = recommender.encoder.catalogue.items, recommender.history
    for row in range(NUM_RESERVED_ROWS, items.num_rows):
        days = recommender.insight.item(items.id(row)).per_day
        is_own = history.watches.rows == row
        assert sum(day.num_watches for day in days) == is_own.sum()
        assert sum(day.num_impressions for day in days) == (history.shown.rows == row).sum()
        watched_s = history.watches.watch_time_s[is_own].sum()
        rounded_s = 0.001 * is_own.sum()  # each watch counts in whole milliseconds
        assert sum(day.watch_time_s for day in days) == pytest.approx(watched_s, abs=rounded_s)


def test_no_day_between_the_first_and_the_last_is_left_out(recommender: Recommender) -> None:
    items = recommender.encoder.catalogue.items
    for row in range(NUM_RESERVED_ROWS, items.num_rows):
        days = [day.day_ms for day in recommender.insight.item(items.id(row)).per_day]
        assert days == list(range(days[0], days[-1] + 1, MS_PER_DAY))
        assert all(day % MS_PER_DAY == 0 for day in days)


def test_impressions_of_a_day_are_those_of_the_logs(
    recommender: Recommender, tiny_logs: Logs
) -> None:
    assert tiny_logs.impressions is not None
    item_id = recommender.encoder.catalogue.items.id(NUM_RESERVED_ROWS)
    shown = tiny_logs.impressions.frame.filter(pl.col("item_id") == item_id)
    days = (shown["shown_at_ms"] // MS_PER_DAY * MS_PER_DAY).to_list()
    told = recommender.insight.item(item_id).per_day
    assert {day.day_ms: day.num_impressions for day in told if day.num_impressions} == {
        day: days.count(day) for day in set(days)
    }


def test_an_item_is_told_with_all_that_the_catalogue_knows(
    recommender: Recommender, tiny_logs: Logs
) -> None:
    for line in tiny_logs.items.frame.iter_rows(named=True):
        if recommender.encoder.catalogue.items.row(line["item_id"]) < NUM_RESERVED_ROWS:
            continue
        card = recommender.insight.item(line["item_id"]).item
        max_tags = recommender.encoder.config.max_tags
        assert (card.item_id, card.title) == (line["item_id"], line["title"])
        assert card.channel_id == line["channel_id"]
        assert card.tags == (line["tags"] or [])[:max_tags]
        assert card.duration_s == line["duration_s"]
        assert card.published_at_ms == line["published_at_ms"]


def test_an_item_without_events_has_no_days(recommender: Recommender) -> None:
    counts = recommender.history.item_counts
    first_hour, ended = watches_of_row(counts, recommender.encoder.catalogue.num_rows + 5)
    assert watches_by_day(first_hour, ended, np.array([0, 24])).tolist() == [0, 0]


def test_days_may_begin_at_any_hour_and_lie_outside() -> None:
    ended = np.arange(1.0, 31.0)
    from_hours = np.array([100 - 24, 100 - 23, 100, 110, 129, 130])
    expected = [0, 1, sum(range(1, 25)), sum(range(11, 31)), 30, 0]
    assert watches_by_day(100, ended, from_hours).tolist() == expected
