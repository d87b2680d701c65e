"""The map of a release: neighbours stay together, and the same seed draws the same map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness

from upnext.errors import ConfigError
from upnext.pipeline.item_map import ItemMap, MapConfig, draw_item_map
from upnext.recommender.plane import directions, principal_components, stratified_rows
from upnext.schema import Floats

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

NUM_GROUPS = 12


def drawn(tiny_release: TrainedRelease, vectors: Floats, **config: int) -> ItemMap:
    catalogue = tiny_release.recommender.encoder.catalogue
    item_map = draw_item_map(catalogue, vectors, MapConfig(**config))
    assert item_map is not None
    return item_map


@pytest.fixture(scope="module")
def grouped(tiny_release: TrainedRelease) -> Floats:
    """Vectors of the tiny release's items that lie in groups, of which two axes show two."""
    num_rows = tiny_release.recommender.encoder.catalogue.num_rows
    rng = np.random.default_rng(0)
    centres = np.eye(NUM_GROUPS)[np.arange(num_rows) % NUM_GROUPS]
    return np.asarray(centres + 0.1 * rng.normal(size=centres.shape), np.float32)


def test_neighbours_stay_together(tiny_release: TrainedRelease, grouped: Floats) -> None:
    item_map = drawn(tiny_release, grouped)
    assert item_map.method == "t-SNE"
    assert item_map.trustworthiness is not None
    vectors = directions(grouped[item_map.item_rows])
    shuffled = np.random.default_rng(0).permutation(item_map.points)
    by_chance = trustworthiness(vectors, shuffled, n_neighbors=10)
    plain = trustworthiness(vectors, principal_components(vectors), n_neighbors=10)
    assert by_chance < 0.6
    assert item_map.trustworthiness > plain > by_chance
    nearest = np.linalg.norm(item_map.points[:, None] - item_map.points, axis=2)
    np.fill_diagonal(nearest, np.inf)
    group = item_map.item_rows % NUM_GROUPS
    assert (group[nearest.argmin(axis=1)] == group).mean() > 0.95


def test_the_same_seed_draws_the_same_map_to_the_bit(
    tiny_release: TrainedRelease, grouped: Floats
) -> None:
    first, again = (drawn(tiny_release, grouped, num_points=80, seed=4) for _ in range(2))
    assert first.item_rows.tobytes() == again.item_rows.tobytes()
    assert first.points.tobytes() == again.points.tobytes()
    assert first.facts() == again.facts()
    other = drawn(tiny_release, grouped, num_points=80, seed=5)
    assert other.item_rows.tolist() != first.item_rows.tolist()


def test_a_release_holds_the_map_that_its_config_asks_for(tiny_release: TrainedRelease) -> None:
    release, recommender = tiny_release.release, tiny_release.recommender
    points, rows = release.array("map/points.npy"), release.array("map/item_rows.npy")
    num_points = tiny_release.config.map.num_points
    num_items = recommender.encoder.catalogue.num_rows - 2
    assert num_points < num_items
    assert (points.dtype.name, points.shape) == ("float32", (num_points, 2))
    assert (rows.dtype.name, rows.shape) == ("int32", (num_points,))
    watches = recommender.encoder.catalogue.num_watches
    assert rows.tolist() == stratified_rows(watches, num_points).tolist()
    assert len(np.unique(points, axis=0)) == num_points
    facts = dict(release.metadata["map"])
    vectors = directions(recommender.retriever.item_vectors[rows])
    assert facts.pop("trustworthiness") == pytest.approx(
        trustworthiness(vectors, points, n_neighbors=10), abs=1e-3
    )
    assert facts == {"method": "t-SNE", "num_items": num_items, "num_points": num_points}


@pytest.mark.parametrize("num_points", [10, 40])
def test_a_few_items_lie_along_their_principal_components(
    tiny_release: TrainedRelease, grouped: Floats, num_points: int
) -> None:
    item_map = drawn(tiny_release, grouped, num_points=num_points)
    vectors = directions(grouped[item_map.item_rows])
    assert item_map.method == "principal components"
    np.testing.assert_allclose(item_map.points, principal_components(vectors), atol=1e-6)
    assert item_map.trustworthiness is not None


def test_a_catalogue_of_two_has_a_map_of_which_nothing_is_told(
    plain_release: TrainedRelease,
) -> None:
    catalogue = plain_release.recommender.encoder.catalogue
    two = replace(catalogue, items=replace(catalogue.items, ids=catalogue.items.ids[:2]))
    watches, vectors = catalogue.num_watches[:4], np.eye(4, dtype=np.float32)
    item_map = draw_item_map(replace(two, num_watches=watches), vectors, MapConfig())
    assert item_map is not None
    assert item_map.facts() == {
        "method": "principal components",
        "trustworthiness": None,
        "num_items": 2,
        "num_points": 2,
    }


def test_items_that_are_all_alike_stand_on_one_point(tiny_release: TrainedRelease) -> None:
    alike = np.ones((tiny_release.recommender.encoder.catalogue.num_rows, 8), np.float32)
    item_map = drawn(tiny_release, alike)
    assert item_map.method == "principal components"
    np.testing.assert_allclose(item_map.points, 0, atol=1e-6)


def test_whoever_wants_no_map_has_none(tiny_release: TrainedRelease, grouped: Floats) -> None:
    catalogue = tiny_release.recommender.encoder.catalogue
    assert draw_item_map(catalogue, grouped, MapConfig(num_points=0)) is None


def test_a_map_leaves_torch_its_threads(tiny_release: TrainedRelease, grouped: Floats) -> None:
    before = torch.get_num_threads()
    drawn(tiny_release, grouped, num_points=50)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "wrong", [{"num_points": -1}, {"num_points": 9}, {"num_points": 5_001}, {"seed": -1}]
)
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"\[map\] {next(iter(wrong))}"):
        MapConfig(**wrong)
