"""What every index must show when not every item may be returned."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upnext.errors import ReleaseError
from upnext.index import Index, IndexConfig, build_index, load_index
from upnext.index.exact import ExactIndex
from upnext.index.files import FACTS_NAME
from upnext.schema import Floats, Rows

CONFIGS = [
    IndexConfig(kind="exact"),
    IndexConfig(kind="approximate"),
    IndexConfig(kind="hashing", num_bits=64, num_compared=120),
    IndexConfig(kind="exact", num_shards=3),
    IndexConfig(kind="approximate", num_shards=2),
]
Build = Callable[[Floats], Index]


def vectors(num_vectors: int, num_dimensions: int = 8, *, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_vectors, num_dimensions)).astype(np.float32)


def rows(*numbers: int) -> Rows:
    return np.array(numbers, np.int32)


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.kind}-{config.num_shards}")
def build(request: pytest.FixtureRequest) -> Build:
    return lambda item_vectors: build_index(item_vectors, request.param)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    num_items=st.integers(1, 300),
    k=st.integers(0, 30),
    num_drawn=st.tuples(st.integers(0, 400), st.integers(0, 40), st.integers(0, 40)),
    seed=st.integers(0, 1000),
)
def test_only_what_is_allowed_and_neither_removed_nor_excluded(
    build: Build, num_items: int, k: int, num_drawn: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    items, users = vectors(num_items + 2, seed=seed), vectors(3, seed=seed + 1)
    items[:2] = 100.0
    allowed, removed, *excluded = (
        rng.integers(-1, num_items + 2, num).astype(np.int32)
        for num in (*num_drawn, num_drawn[2], num_drawn[2])
    )
    index = build(items).without_rows(removed)
    found, scores = index.search(users, k, excluded_rows=excluded, allowed_rows=allowed)
    for user in range(3):
        wanted = set(allowed.tolist()) - {-1, 0, 1} - set(removed.tolist())
        wanted -= set(excluded[user].tolist())
        line = found[user][found[user] >= 0]
        assert set(line.tolist()) <= wanted
        assert len(set(line.tolist())) == len(line) == min(k, len(wanted))
        assert (found[user, len(line) :] == -1).all()
        assert np.isneginf(scores[user, len(line) :]).all()
        assert scores[user, : len(line)] == pytest.approx(items[line] @ users[user], abs=1e-4)
        assert (np.diff(scores[user, : len(line)]) <= 0).all()


@pytest.mark.parametrize("share", [0.9, 0.3, 0.02])
def test_the_best_of_the_allowed_are_found(build: Build, share: float) -> None:
    items, users = vectors(4000), vectors(40, seed=1)
    allowed = np.flatnonzero(np.random.default_rng(2).random(4000) < share).astype(np.int32)
    index = build(items)
    found, _ = index.search(users, 30, allowed_rows=allowed)
    scores = users @ items.T
    scores[:, np.setdiff1d(np.arange(4000), allowed[allowed >= 2])] = -np.inf
    truth = np.argsort(-scores, axis=1)[:, :30]
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)])
    assert recall >= index.recall_at_100 - 0.05


def test_allowing_everything_is_no_filter(build: Build) -> None:
    index, users = build(vectors(500)), vectors(4, seed=1)
    everything, scores = index.search(users, 20, allowed_rows=np.arange(500, dtype=np.int32))
    assert (everything == index.search(users, 20)[0]).all()
    assert scores == pytest.approx(index.search(users, 20)[1], abs=1e-5)


def test_where_nothing_is_allowed_nothing_is_found(build: Build) -> None:
    for allowed in (rows(), rows(-1, 0, 1)):
        found, scores = build(vectors(300)).search(vectors(2), 4, allowed_rows=allowed)
        assert (found == -1).all()
        assert np.isneginf(scores).all()


def test_rows_beyond_the_catalogue_are_refused(build: Build) -> None:
    index = build(vectors(30))
    with pytest.raises(ValueError, match="below 30, got 30"):
        index.search(vectors(1), 3, allowed_rows=rows(4, 30))
    with pytest.raises(ValueError, match="below 30, got 31"):
        index.without_rows(rows(31))


def test_removed_rows_are_as_if_everybody_had_excluded_them(build: Build) -> None:
    index, users = build(vectors(900)), vectors(6, seed=1)
    best, _ = index.search(users, 3)
    removed = np.unique(best)
    found, _ = index.without_rows(removed).search(users, 40)
    expected, _ = index.search(users, 40, excluded_rows=[removed] * 6)
    assert not np.isin(found, removed).any()
    shared = [np.isin(a, b).mean() for a, b in zip(found, expected, strict=True)]
    assert np.mean(shared) > 0.8
    assert (index.search(users, 3)[0] == best).all()


def test_removing_is_the_same_at_once_and_one_by_one_and_after_loading(
    build: Build, tmp_path: Path
) -> None:
    items, users = vectors(700), vectors(5, seed=1)
    removed = np.arange(100, 200, dtype=np.int32)
    at_once = build(items).without_rows(removed)
    at_once.save(tmp_path)
    expected, _ = at_once.search(users, 25)
    assert not np.isin(expected, removed).any()
    for twin in (
        build(items).without_rows(removed[50:]).without_rows(removed[:60]),
        load_index(tmp_path, items),
        load_index(tmp_path, items).without_rows(rows()),
    ):
        assert (twin.search(users, 25)[0] == expected).all()


def test_with_everything_removed_nothing_is_found(build: Build) -> None:
    index = build(vectors(50)).without_rows(np.arange(50, dtype=np.int32))
    assert (index.search(vectors(2), 3)[0] == -1).all()


@pytest.mark.parametrize(
    "removed", [rows(4, 50), np.array([4.0]), np.array([[4]], np.int32), rows(-3)]
)
def test_removed_rows_of_another_catalogue_are_refused(
    build: Build, removed: Rows, tmp_path: Path
) -> None:
    build(vectors(50)).save(tmp_path)
    for facts in tmp_path.rglob(FACTS_NAME):
        np.save(facts.parent / "removed_rows.npy", removed)
    with pytest.raises(ReleaseError, match="removed_rows"):
        load_index(tmp_path, vectors(50))


def test_items_of_one_corner_are_found_by_users_of_another() -> None:
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((40, 8))
    corner = rng.integers(0, 40, 6000)
    items = (centres[corner] + 0.5 * rng.standard_normal((6000, 8))).astype(np.float32)
    users = (centres[rng.integers(0, 40, 60)] / 3).astype(np.float32)
    index = build_index(items, IndexConfig(kind="approximate"), user_vectors=users)
    allowed = np.flatnonzero(corner < 6).astype(np.int32)
    found, _ = index.search(users, 50, allowed_rows=allowed)
    truth, _ = ExactIndex.build(items).search(users, 50, allowed_rows=allowed)
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)])
    assert recall > 0.9
