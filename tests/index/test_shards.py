"""Shards answer together as one index does, and each can be built, kept and opened by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import ConfigError, ReleaseError
from upnext.index import (
    ApproximateIndex,
    ExactIndex,
    Index,
    IndexConfig,
    ShardedIndex,
    build_index,
    load_index,
)
from upnext.index.choose import config_of_shard
from upnext.index.recall import recall_of
from upnext.index.shards import dealt, part_of, shard_directory, write_shards
from upnext.schema import Floats, Rows

APPROXIMATE = IndexConfig(kind="approximate", num_shards=3)


def vectors(num_vectors: int, num_dimensions: int = 8, *, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_vectors, num_dimensions)).astype(np.float32)


def whole_numbers(num_vectors: int, *, seed: int) -> Floats:
    """Summed without rounding, and so few of them that many scores are equal."""
    return np.random.default_rng(seed).integers(-2, 3, (num_vectors, 3)).astype(np.float32)


def drawn_rows(rng: np.random.Generator, num_rows: int, count: int) -> Rows:
    return rng.integers(-1, num_rows, count).astype(np.int32)


@given(
    num_items=st.integers(1, 200),
    num_shards=st.integers(2, 9),
    k=st.integers(0, 40),
    num_drawn=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    num_allowed=st.none() | st.integers(0, 200),
    num_new=st.integers(0, 30),
    seed=st.integers(0, 1000),
)
def test_exact_shards_are_the_exact_index(
    num_items: int,
    num_shards: int,
    k: int,
    num_drawn: tuple[int, int],
    num_allowed: int | None,
    num_new: int,
    seed: int,
) -> None:
    """Ties, exclusions, filters, what was removed and what came later included."""
    rng = np.random.default_rng(seed)
    items = whole_numbers(2 + num_items + num_new, seed=seed)
    users = whole_numbers(4, seed=seed + 1)
    removed = drawn_rows(rng, 2 + num_items, num_drawn[0])
    excluded = [drawn_rows(rng, len(items), num_drawn[1]) for _ in users]
    allowed = None if num_allowed is None else drawn_rows(rng, len(items), num_allowed)
    answers = []
    for config in (IndexConfig(kind="exact"), IndexConfig(kind="exact", num_shards=num_shards)):
        index = build_index(items[: 2 + num_items], config).without_rows(removed).with_items(items)
        answers.append(index.search(users, k, excluded_rows=excluded, allowed_rows=allowed))
    (rows, scores), (rows_of_shards, scores_of_shards) = answers
    assert rows_of_shards.dtype == rows.dtype
    assert rows_of_shards.tolist() == rows.tolist()
    assert scores_of_shards.tolist() == scores.tolist()


@pytest.mark.parametrize("num_users", [1, 2, 40])
def test_with_any_numbers_only_what_is_equal_to_the_last_bits_changes_places(
    num_users: int,
) -> None:
    items, users = vectors(2_003, 64), vectors(num_users, 64, seed=1)
    rows, scores = build_index(items, IndexConfig(kind="exact")).search(users, 50)
    sharded = build_index(items, IndexConfig(kind="exact", num_shards=7))
    found, found_scores = sharded.search(users, 50)
    np.testing.assert_allclose(found_scores, scores, rtol=0, atol=1e-4)
    truth = np.take_along_axis(users @ items.T, found, axis=1)
    assert np.abs(truth[found != rows] - scores[found != rows]).max(initial=0.0) < 1e-4


@given(
    num_items=st.integers(1, 400),
    num_shards=st.integers(2, 5),
    k=st.integers(1, 30),
    num_searched=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_what_a_shard_finds_of_the_best_comes_through(
    num_items: int, num_shards: int, k: int, num_searched: int, seed: int
) -> None:
    items, users = vectors(2 + num_items, seed=seed), vectors(5, seed=seed + 1)
    whole = build_index(items, replace(APPROXIMATE, num_shards=num_shards))
    index = opening(num_searched, whole)
    truth, _ = ExactIndex.build(items).search(users, k)
    found, _ = index.search(users, k)
    apart = np.concatenate(
        [
            np.where(rows >= 0, rows + first - 2, -1)
            for shard, first in zip(index.shards, index.first_rows, strict=True)
            for rows in [shard.search(users, k)[0]]
        ],
        axis=1,
    )
    for best, of_shards, of_all in zip(truth, apart, found, strict=True):
        assert set(best) & set(of_shards) <= set(of_all)
        assert set(of_all) <= set(of_shards)


def test_approximate_shards_find_what_the_whole_must_find() -> None:
    """Each reaches the recall among its own best 100, of which the best of all are the nearest."""
    items, users = vectors(9_000), vectors(200, seed=1)
    config = replace(APPROXIMATE, min_recall=0.9)
    truth, _ = ExactIndex.build(items).search(users, 100)
    found, _ = build_index(items, config, user_vectors=users).search(users, 100)
    assert recall_of(found, truth) >= config.min_recall


@pytest.mark.parametrize("num_shards", [2, 3, 6])
def test_where_each_shard_opens_as_many_cells_as_the_whole_more_is_found(num_shards: int) -> None:
    items, users = vectors(6_000), vectors(200, seed=1)
    truth, _ = ExactIndex.build(items).search(users, 100)
    whole = build_index(items, replace(APPROXIMATE, num_shards=1), user_vectors=users)
    shards = build_index(items, replace(APPROXIMATE, num_shards=num_shards), user_vectors=users)
    for num_opened in (8, 20):  # fewer hold fewer than 100 items, and all are then scored
        found, more = (
            opening(num_opened, index).search(users, 100)[0] for index in (whole, shards)
        )
        assert recall_of(more, truth) >= recall_of(found, truth)


def test_each_row_is_removed_from_and_added_to_the_shard_that_holds_it() -> None:
    items = vectors(40)
    index = sharded(build_index(items[:32], IndexConfig(kind="exact", num_shards=3)))
    assert index.first_rows == (2, 12, 22)
    index = index.without_rows(np.array([2, 12, 13, 31], np.int32)).with_items(items)
    assert [shard.removed_rows.tolist() for shard in index.shards] == [[2], [2, 3], [11]]
    assert index.removed_rows.tolist() == [2, 12, 13, 31]
    assert [len(part_of(items, index.first_rows, place)) - 2 for place in range(3)] == [10, 10, 18]
    assert index.search(items[39:], 1)[0].tolist() == [[39]]


def test_shards_built_apart_from_their_parts_are_the_index_built_at_once(tmp_path: Path) -> None:
    items, users = vectors(900), vectors(20, seed=1)
    np.save(tmp_path / "item_vectors.npy", items)
    mapped = np.load(tmp_path / "item_vectors.npy", mmap_mode="r", allow_pickle=False)
    first_rows = dealt(len(items), APPROXIMATE.num_shards)
    for place in reversed(range(3)):
        part = part_of(mapped, first_rows, place)
        assert np.shares_memory(part, mapped)
        one = build_index(part, config_of_shard(APPROXIMATE, len(items)))
        one.save(shard_directory(tmp_path, place))
    shards = [
        load_index(shard_directory(tmp_path, place), part_of(mapped, first_rows, place))
        for place in range(3)
    ]
    write_shards(tmp_path, ShardedIndex(mapped, tuple(shards), first_rows))
    expected, scores = build_index(items, APPROXIMATE).search(users, 30)
    rows, found_scores = load_index(tmp_path, mapped).search(users, 30)
    assert rows.tolist() == expected.tolist()
    assert found_scores.tolist() == scores.tolist()


def test_the_kind_is_chosen_for_the_whole_catalogue() -> None:
    index = build_index(vectors(300), IndexConfig(max_exact_items=200, num_shards=3))
    assert isinstance(index, ShardedIndex)
    assert {shard.facts.kind for shard in index.shards} == {"approximate"}
    assert index.facts.kind == "shards"
    assert index.facts.num_items == 298


@given(num_items=st.integers(1, 500), num_shards=st.integers(1, 60))
def test_shards_differ_by_one_item_at_most(num_items: int, num_shards: int) -> None:
    first_rows = dealt(2 + num_items, num_shards)
    sizes = np.diff([*first_rows, 2 + num_items])
    assert len(sizes) == min(num_items, num_shards)
    assert sizes.min() >= 1
    assert np.ptp(sizes) <= 1


@pytest.mark.parametrize("first_rows", [[], [3, 50], [2, 50, 50], [2, 300]])
def test_shards_of_another_catalogue_are_refused(first_rows: list[int], tmp_path: Path) -> None:
    build_index(vectors(300), IndexConfig(kind="exact", num_shards=2)).save(tmp_path)
    np.save(tmp_path / "first_rows.npy", np.array(first_rows, np.int64))
    with pytest.raises(ReleaseError, match="first_rows"):
        load_index(tmp_path, vectors(300))


def test_there_is_a_shard_at_least() -> None:
    with pytest.raises(ConfigError, match="num_shards"):
        IndexConfig(num_shards=0)


def opening(num_cells: int, index: Index) -> ShardedIndex:
    """The same index, or the only shard of one, whose shards open so many cells each."""
    shards = sharded(index)
    changed = []
    for shard in shards.shards:
        assert isinstance(shard, ApproximateIndex)
        changed.append(replace(shard, facts=replace(shard.facts, num_searched=num_cells)))
    return replace(shards, shards=tuple(changed))


def sharded(index: Index) -> ShardedIndex:
    """The index, or one that has it as its only shard."""
    if isinstance(index, ShardedIndex):
        return index
    assert isinstance(index, ApproximateIndex)
    return ShardedIndex(index.item_vectors, (index,), (2,))
