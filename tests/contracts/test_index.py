"""One list of behaviours that every index must show."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upnext.errors import DataError, ReleaseError
from upnext.index import Index, IndexConfig, build_index, files, load_index
from upnext.index.exact import ExactIndex
from upnext.schema import Floats, Rows

CONFIGS = {
    "exact": IndexConfig(kind="exact"),
    "approximate": IndexConfig(kind="approximate"),
    "hashing": IndexConfig(kind="hashing", num_bits=64, num_compared=50),
    "exact shards": IndexConfig(kind="exact", num_shards=3),
    "approximate shards": IndexConfig(kind="approximate", num_shards=2),
}
Build = Callable[[Floats], Index]


def vectors(num_vectors: int, num_dimensions: int = 8, *, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_vectors, num_dimensions)).astype(np.float32)


@pytest.fixture(params=CONFIGS.keys())
def build(request: pytest.FixtureRequest) -> Build:
    return lambda item_vectors: build_index(item_vectors, CONFIGS[request.param])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    num_items=st.integers(1, 120),
    num_users=st.integers(0, 4),
    k=st.integers(0, 30),
    num_excluded=st.integers(0, 60),
    seed=st.integers(0, 1000),
)
def test_answers_are_allowed_distinct_sorted_and_true(
    build: Build, num_items: int, num_users: int, k: int, num_excluded: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    items, users = vectors(num_items + 2, seed=seed), vectors(num_users, seed=seed + 1)
    items[:2] = 100.0
    excluded: list[Rows] = [
        rng.integers(-1, num_items + 2, num_excluded).astype(np.int32) for _ in range(num_users)
    ]
    rows, scores = build(items).search(users, k, excluded_rows=excluded)
    assert rows.shape == scores.shape == (num_users, k)
    assert rows.dtype == np.int32
    assert scores.dtype == np.float32
    for user in range(num_users):
        found = rows[user][rows[user] >= 0]
        allowed = set(range(2, num_items + 2)) - set(excluded[user].tolist())
        assert set(found.tolist()) <= allowed
        assert len(set(found.tolist())) == len(found) == min(k, len(allowed))
        assert (rows[user, len(found) :] == -1).all()
        assert np.isneginf(scores[user, len(found) :]).all()
        assert (np.diff(scores[user, : len(found)]) <= 0).all()
        assert scores[user, : len(found)] == pytest.approx(items[found] @ users[user], abs=1e-4)


def test_without_exclusions_none_and_empty_are_the_same(build: Build) -> None:
    index, users = build(vectors(400)), vectors(5, seed=1)
    rows, scores = index.search(users, 10)
    empty_rows, empty_scores = index.search(users, 10, excluded_rows=[np.zeros(0, np.int32)] * 5)
    assert (rows == empty_rows).all()
    assert (scores == empty_scores).all()


def test_more_than_the_catalogue_returns_all_of_it(build: Build) -> None:
    rows, scores = build(vectors(30)).search(vectors(3, seed=1), 40)
    assert [sorted(line) for line in rows[:, :28].tolist()] == [list(range(2, 30))] * 3
    assert (rows[:, 28:] == -1).all()
    assert np.isneginf(scores[:, 28:]).all()


def test_among_others_each_user_finds_what_he_finds_alone(build: Build) -> None:
    items, users = vectors(3_000), vectors(8, seed=1)
    index = build(items)
    drawn = np.random.default_rng(2)
    watched = [drawn.choice(3_000, 60 * place, replace=False) + 2 for place in range(8)]
    excluded = [rows.astype(np.int32) for rows in watched]
    found, scores = index.search(users, 20, excluded_rows=excluded)
    for place, user in enumerate(users):
        alone = index.search(user[None], 20, excluded_rows=[excluded[place]])
        assert found[place].tolist() == alone[0][0].tolist()
        np.testing.assert_allclose(scores[place], alone[1][0], rtol=1e-6)


def test_an_exclusion_lets_the_next_one_up(build: Build) -> None:
    index, user = build(vectors(60)), vectors(1, seed=1)
    rows, _ = index.search(user, 6)
    without_best, _ = index.search(user, 5, excluded_rows=[rows[0, :1]])
    assert without_best.tolist() == rows[:, 1:].tolist()


def test_equal_items_come_in_the_order_of_their_rows(build: Build) -> None:
    items = np.repeat(np.rint(4 * vectors(1)), 12, axis=0)  # whole numbers are summed exactly
    rows, _ = build(items).search(items[:1], 10)
    assert rows.tolist() == [list(range(2, 12))]


def test_recall_is_measured_and_true(build: Build) -> None:
    items, users = vectors(3000), vectors(200, seed=1)
    index = build(items)
    truth, _ = ExactIndex.build(items).search(users, 100)
    rows, _ = index.search(users, 100)
    recall = np.mean([len(set(a) & set(b)) / 100 for a, b in zip(rows, truth, strict=True)])
    assert recall == pytest.approx(index.recall_at_100, abs=0.08)


def test_two_builds_and_a_saved_one_answer_alike(build: Build, tmp_path: Path) -> None:
    items, users = vectors(3000), vectors(20, seed=1)
    index = build(items)
    index.save(tmp_path / "index")
    rows, scores = index.search(users, 25)
    for twin in (build(items), load_index(tmp_path / "index", items)):
        assert type(twin) is type(index)
        assert twin.recall_at_100 == index.recall_at_100
        twin_rows, twin_scores = twin.search(users, 25)
        assert (twin_rows == rows).all()
        assert (twin_scores == scores).all()


def test_saving_twice_writes_the_same_bytes_but_for_the_time_it_took(
    build: Build, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        build(vectors(500)).without_rows(np.array([3, 4], np.int32)).save(tmp_path / name)
    one, other = files_in(tmp_path / "a"), files_in(tmp_path / "b")
    assert one.keys() == other.keys()
    for within, path in one.items():
        if within.name == files.FACTS_NAME:
            facts = [files.read_facts(twin.parent) for twin in (path, other[within])]
            assert replace(facts[0], build_s=0.0) == replace(facts[1], build_s=0.0)
        else:
            assert path.read_bytes() == other[within].read_bytes()


def files_in(directory: Path) -> dict[Path, Path]:
    """By their path within the directory."""
    return {path.relative_to(directory): path for path in directory.rglob("*") if path.is_file()}


def test_item_vectors_mapped_from_a_file_will_do(build: Build, tmp_path: Path) -> None:
    items, users = vectors(300), vectors(3, seed=1)
    np.save(tmp_path / "item_vectors.npy", items)
    build(items).save(tmp_path)
    mapped = np.load(tmp_path / "item_vectors.npy", mmap_mode="r", allow_pickle=False)
    rows, _ = load_index(tmp_path, mapped).search(users, 7)
    assert rows.tolist() == build(items).search(users, 7)[0].tolist()


@pytest.mark.parametrize(
    "items",
    [
        np.zeros((2, 4), np.float32),
        np.zeros((5, 0), np.float32),
        np.zeros(5, np.float32),
        np.full((5, 4), np.nan, np.float32),
    ],
)
def test_vectors_that_cannot_be_searched_are_refused(build: Build, items: Floats) -> None:
    with pytest.raises(DataError, match="item_vectors"):
        build(items)


@pytest.mark.parametrize("users", [np.zeros((1, 5)), np.zeros(8), np.full((1, 8), np.nan)])
def test_queries_that_cannot_be_answered_are_refused(build: Build, users: Floats) -> None:
    with pytest.raises(ValueError, match="user_vectors"):
        build(vectors(20)).search(users.astype(np.float32), 3)


@pytest.mark.parametrize("kind", ["approximate", "hashing"])
def test_an_index_of_other_vectors_is_refused(kind: str, tmp_path: Path) -> None:
    build_index(vectors(300), CONFIGS[kind]).save(tmp_path)
    for other in (vectors(301), vectors(300, 9)):
        with pytest.raises(ReleaseError, match="other item vectors"):
            load_index(tmp_path, other)
    (tmp_path / "index.faiss").write_bytes(b"not an index")
    with pytest.raises(ReleaseError, match=r"index\.faiss"):
        load_index(tmp_path, vectors(300))
    (tmp_path / "index.faiss").unlink()
    with pytest.raises(ReleaseError, match="no such file"):
        load_index(tmp_path, vectors(300))
