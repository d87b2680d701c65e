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
from numpy.typing import NDArray

from upnext.recommender import Recommender
from upnext.recommender.plane import NUM_STRATA, stratified_rows
from upnext.registry.release import Release, publish
from upnext.schema import NUM_RESERVED_ROWS

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


def with_map(
    registry: Path, kept: Release, facts: Mapping[str, Any], **arrays: NDArray[Any]
) -> Recommender:
    """The same release with another map, or with none."""

    def write(directory: Path) -> Mapping[str, Any]:
        for name in kept.files:
            if not name.startswith("map/"):
                target = directory / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(kept.file(name).read_bytes())
        for name, array in arrays.items():
            (directory / "map").mkdir(exist_ok=True)
            np.save(directory / "map" / f"{name}.npy", array)
        return {**{k: fact for k, fact in kept.metadata.items() if k != "map"}, **facts}

    return Recommender.open(registry, publish(registry, write).version)


@pytest.fixture(scope="module")
def recommender(
    tiny_release: TrainedRelease, tmp_path_factory: pytest.TempPathFactory
) -> Recommender:
    """Of a release that brings no map along."""
    return with_map(tmp_path_factory.mktemp("registry"), tiny_release.release, {})


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
    points = np.array([[0.5, -1.0], [2.0, 3.0], [0.0, 0.25]], np.float32)
    facts = {"method": "by hand", "trustworthiness": 0.75, "num_items": 9, "num_points": 3}
    rows = np.array([7, 2, 9], np.int32)
    recommender = with_map(
        tmp_path, tiny_release.release, {"map": facts}, points=points, item_rows=rows
    )
    told, items = recommender.insight.map(), recommender.encoder.catalogue.items
    assert (told.method, told.trustworthiness, told.num_points) == ("by hand", 0.75, 3)
    assert told.num_items == items.num_rows - NUM_RESERVED_ROWS
    assert told.item_id == [items.id(7), items.id(2), items.id(9)]
    assert (told.x, told.y) == ([0.5, 2.0, 0.0], [-1.0, 3.0, 0.25])
