"""What was shown keeps its order, and items that the release never met keep their age."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.parts import measure_part
from upnext.pipeline.measuring.shown import ScoredImpressions, ShownScores
from upnext.schema import MS_PER_DAY, UNKNOWN_ROW, Impressions, Items

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


@pytest.fixture(scope="module")
def bench(tiny_release: TrainedRelease) -> Bench:
    return Bench.prepare(tiny_release.logs_dir, tiny_release.registry, 1)


def scored(
    bench: Bench, impressions: Impressions, items: Items, num_requests: int = 10_000
) -> ScoredImpressions:
    shown = ShownScores.of_impressions(bench, impressions, items, num_requests=num_requests)
    return shown.scored(measure_part(shown))


@pytest.fixture(scope="module")
def lines(bench: Bench) -> pl.DataFrame:
    """The impressions of the test, request after request."""
    assert bench.split.test.impressions is not None
    order = ["shown_at_ms", "request_id", "user_id", "position"]
    return bench.split.test.impressions.frame.sort(order).join(
        bench.logs.items.frame, on="item_id", how="left", maintain_order="left"
    )


def test_facts_are_those_of_the_logs(bench: Bench, lines: pl.DataFrame) -> None:
    assert bench.split.test.impressions is not None
    found = scored(bench, bench.split.test.impressions, bench.logs.items)
    assert found.shown.watch_time_s.tolist() == lines["watch_time_s"].to_list()
    assert found.facts.position.tolist() == lines["position"].to_list()
    assert found.facts.duration_s.tolist() == lines["duration_s"].to_list()
    age_days = (lines["shown_at_ms"] - lines["published_at_ms"]) / MS_PER_DAY
    np.testing.assert_allclose(found.facts.item_age_days, age_days.to_numpy())
    assert (found.expected_watch_time_s > 0).all()
    watches = bench.logs.watches.frame
    for place in range(0, lines.height, 97):
        user, at_ms = lines["user_id"][place], lines["shown_at_ms"][place]
        before = watches.filter((pl.col("user_id") == user) & (pl.col("started_at_ms") < at_ms))
        assert found.facts.num_watches_before[place] == before.height


def test_the_newest_items_are_unknown_to_the_release_and_still_new(
    bench: Bench, lines: pl.DataFrame
) -> None:
    assert bench.split.test.impressions is not None
    found = scored(bench, bench.split.test.impressions, bench.logs.items)
    is_unknown = found.item_rows == UNKNOWN_ROW
    known = bench.recommender.encoder.catalogue.items.rows(lines["item_id"]) != UNKNOWN_ROW
    assert (is_unknown == ~known).all()
    assert is_unknown.any()
    assert found.facts.item_age_days[is_unknown].min() < 1


def test_nothing_is_known_of_items_that_are_not_listed(bench: Bench) -> None:
    assert bench.split.test.impressions is not None
    frame = bench.logs.items.frame
    undated = frame.with_columns(
        published_at_ms=pl.lit(None, pl.Int64), duration_s=pl.lit(None, pl.Float32)
    )
    for items in (frame.head(0), undated):
        found = scored(bench, bench.split.test.impressions, Items(items))
        is_unknown = found.item_rows == UNKNOWN_ROW
        assert np.isnan(found.facts.item_age_days[is_unknown]).all()
        assert np.isnan(found.facts.duration_s[is_unknown]).all()
        assert not np.isnan(found.facts.duration_s[~is_unknown]).any()


def test_drawn_requests_are_whole(bench: Bench) -> None:
    assert bench.split.test.impressions is not None
    found = scored(bench, bench.split.test.impressions, bench.logs.items, num_requests=7)
    assert np.bincount(found.shown.request_ids).tolist() == [10] * 7
    everything = scored(bench, bench.split.test.impressions, bench.logs.items)
    some = {tuple(page) for page in found.expected_watch_time_s.reshape(7, 10).tolist()}
    pages = everything.expected_watch_time_s.reshape(-1, 10)
    near = [np.isclose(pages, page, rtol=1e-4).all(axis=1).any() for page in some]
    assert all(near)
