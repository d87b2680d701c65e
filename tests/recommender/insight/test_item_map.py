"""The map shows rare items too, and is the release's own where it brings one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.recommender import Recommender
from upnext.recommender.plane import NUM_STRATA, stratified_rows
from upnext.registry.release import publish
from upnext.schema import NUM_RESERVED_ROWS

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


@given(st.lists(st.integers(0, 50), min_size=1, max_size=80), st.integers(10, 100))
def test_every_stratum_has_as_many_points(counts: list[int], num_points: int) -> None:
    rows = stratified_rows(np.array([0, 0, *counts], np.int64), num_points)
    assert len(set(rows.tolist())) == len(rows)
    if len(counts) <= num_points:
        assert rows.tolist() == list(range(NUM_RESERVED_ROWS, len(counts) + NUM_RESERVED_ROWS))
        return
    by_watches = NUM_RESERVED_ROWS + np.argsort(np.array(counts), kind="stable")
    strata = np.array_split(by_watches, NUM_STRATA)
    assert {int(np.isin(rows, stratum).sum()) for stratum in strata} == {num_points // NUM_STRATA}


def test_a_release_without_a_map_is_mapped_by_components(recommender: Recommender) -> None:
    told, catalogue = recommender.insight.map(), recommender.encoder.catalogue
    assert (told.method, told.trustworthiness) == ("principal components", None)
    assert told.num_items == catalogue.num_rows - NUM_RESERVED_ROWS
    assert told.num_points == told.num_items == len(set(told.item_id))
    for place, item_id in enumerate(told.item_id):
        card = recommender.insight.item(item_id).item
        assert told.title[place] == card.title
        assert told.channel_id[place] == card.channel_id
        assert told.tag[place] == (card.tags[0] if card.tags else None)
        assert told.published_at_ms[place] == card.published_at_ms
        assert told.num_watches[place] == card.num_watches
    assert all(map(math.isfinite, [*told.x, *told.y]))
    assert recommender.insight.map() is told


def test_the_map_of_a_release_is_told_as_it_lies_there(
    tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    kept = tiny_release.release
    points = np.array([[0.5, -1.0], [2.0, 3.0], [0.0, 0.25]], np.float32)
    made = {"method": "by hand", "trustworthiness": 0.75, "num_items": 9, "num_points": 3}

    def write(directory: Path) -> Mapping[str, Any]:
        for name in kept.files:
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(kept.file(name).read_bytes())
        (directory / "map").mkdir()
        np.save(directory / "map" / "points.npy", points)
        np.save(directory / "map" / "item_rows.npy", np.array([7, 2, 9], np.int32))
        return {**kept.metadata, "map": made}

    release = publish(tmp_path, write)
    recommender = Recommender.open(tmp_path, release.version)
    told, items = recommender.insight.map(), recommender.encoder.catalogue.items
    assert (told.method, told.trustworthiness, told.num_points) == ("by hand", 0.75, 3)
    assert told.num_items == items.num_rows - NUM_RESERVED_ROWS
    assert told.item_id == [items.id(7), items.id(2), items.id(9)]
    assert (told.x, told.y) == ([0.5, 2.0, 0.0], [-1.0, 3.0, 0.25])
