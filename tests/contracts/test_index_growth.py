"""What every index must show when items come and go without a new build."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from upnext.errors import DataError
from upnext.index import Index, IndexConfig, build_index, load_index
from upnext.index.exact import ExactIndex
from upnext.schema import Floats

CONFIGS = [
    IndexConfig(kind="exact"),
    IndexConfig(kind="approximate"),
    IndexConfig(kind="hashing", num_bits=64, num_compared=300),
    IndexConfig(kind="exact", num_shards=3),
    IndexConfig(kind="approximate", num_shards=2),
]
Build = Callable[[Floats], Index]


def vectors(num_vectors: int, num_dimensions: int = 8, *, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_vectors, num_dimensions)).astype(np.float32)


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.kind}-{config.num_shards}")
def build(request: pytest.FixtureRequest) -> Build:
    return lambda item_vectors: build_index(item_vectors, request.param)


def recall(index: Index, items: Floats, users: Floats) -> float:
    truth, _ = ExactIndex.build(items).search(users, 100)
    found, _ = index.search(users, 100)
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def test_a_grown_index_finds_as_much_as_a_new_one(build: Build) -> None:
    items, users = vectors(3000), vectors(100, seed=1)
    grown = build(items[:2000]).with_items(items[:2400]).with_items(items)
    assert recall(grown, items, users) >= recall(build(items), items, users) - 0.05


def test_a_new_item_is_found_by_who_looks_its_way(build: Build) -> None:
    items = vectors(1000)
    items[900:] *= 3
    grown = build(items[:900]).with_items(items)
    found, _ = grown.search(items[900:], 1)
    assert (found[:, 0] == ExactIndex.build(items).search(items[900:], 1)[0][:, 0]).mean() > 0.95


def test_the_index_that_grew_answers_as_before(build: Build) -> None:
    items, users = vectors(1500), vectors(10, seed=1)
    index = build(items[:1000])
    rows, scores = index.search(users, 30)
    grown = index.with_items(items).without_rows(rows[0])
    grown.search(users, 30)
    assert type(grown) is type(index)
    assert (index.search(users, 30)[0] == rows).all()
    assert (index.search(users, 30)[1] == scores).all()
    assert index.facts == grown.facts


def test_a_loaded_index_grows_and_is_saved_again(build: Build, tmp_path: Path) -> None:
    items, users = vectors(1500), vectors(10, seed=1)
    index = build(items[:1000]).without_rows(np.arange(40, dtype=np.int32))
    index.save(tmp_path / "old")
    expected, _ = index.with_items(items).search(users, 30)
    assert (expected >= 1000).any()
    np.save(tmp_path / "items.npy", items)
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r", allow_pickle=False)
    grown = load_index(tmp_path / "old", mapped[:1000]).with_items(mapped)
    grown.save(tmp_path / "new")
    for twin in (grown, load_index(tmp_path / "new", mapped)):
        assert (twin.search(users, 30)[0] == expected).all()


def test_growing_by_nothing_changes_nothing(build: Build) -> None:
    items, users = vectors(300), vectors(5, seed=1)
    index = build(items)
    assert (index.with_items(items).search(users, 9)[0] == index.search(users, 9)[0]).all()


def test_a_catalogue_of_a_handful_doubles(build: Build) -> None:
    items, users = vectors(14), vectors(20, seed=1)
    rows, _ = build(items[:8]).with_items(items).search(users, 12)
    assert (np.sort(rows, axis=1) == np.arange(2, 14)).all()


@pytest.mark.parametrize(
    ("grown", "complaint"),
    [
        (vectors(299), "N of 300 or more"),
        (vectors(400, 9), "N of 300 or more"),
        (vectors(300).ravel(), "N of 300 or more"),
        (vectors(400, seed=1), "row 0"),
        (np.concatenate([vectors(300), np.full((2, 8), np.nan, np.float32)]), "row 300"),
    ],
)
def test_what_is_no_growth_is_refused(build: Build, grown: Floats, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        build(vectors(300)).with_items(grown)
