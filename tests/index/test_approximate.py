"""The approximate index opens as many cells as the recall needs, and answers in full."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from upnext.errors import ReleaseError
from upnext.index import IndexConfig, build_index, load_index
from upnext.index.approximate import ApproximateIndex
from upnext.index.cells import POINTS_PER_BLOCK
from upnext.index.exact import ExactIndex
from upnext.schema import Floats


@pytest.fixture(scope="module")
def items() -> Floats:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16))
    near = centres[rng.integers(0, 40, 6000)] + 0.6 * rng.standard_normal((6000, 16))
    return near.astype(np.float32)


@pytest.fixture(scope="module")
def users() -> Floats:
    return np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32)


@pytest.mark.parametrize("min_recall", [0.5, 0.95])
def test_it_reaches_the_recall_with_as_few_cells_as_that_takes(
    items: Floats, users: Floats, min_recall: float
) -> None:
    index = ApproximateIndex.build(items, min_recall=min_recall, user_vectors=users)
    truth, _ = ExactIndex.build(items).search(users, 100)
    rows, _ = index.search(users, 100)
    found = np.mean([np.isin(line, best).mean() for line, best in zip(rows, truth, strict=True)])
    assert found >= index.recall_at_100 - 1e-6
    assert min_recall <= index.recall_at_100 < 1
    assert index.facts.num_searched < index.facts.num_cells


def test_who_has_watched_little_finds_no_more_beside_who_has_watched_much(
    items: Floats, users: Floats
) -> None:
    index = ApproximateIndex.build(items, min_recall=0.8, user_vectors=users)
    none, much = np.zeros(0, np.int32), np.arange(2, 3_000, dtype=np.int32)
    found, _ = index.search(users, 10, excluded_rows=[none] * 299 + [much])
    for place in range(299):
        alone, _ = index.search(users[place : place + 1], 10, excluded_rows=[none])
        assert found[place].tolist() == alone[0].tolist()


def test_more_recall_opens_more_cells(items: Floats, users: Floats) -> None:
    opened = [
        ApproximateIndex.build(items, min_recall=recall, user_vectors=users).facts.num_searched
        for recall in (0.3, 0.6, 0.9)
    ]
    assert opened == sorted(set(opened))


def test_a_set_of_few_is_scored_whole_and_a_larger_one_opens_more_cells(
    items: Floats, users: Floats
) -> None:
    index = ApproximateIndex.build(items, min_recall=0.6, user_vectors=users)
    few = np.arange(2, 60, dtype=np.int32)
    rows, scores = index.search(users, 70, allowed_rows=few)
    true_rows, true_scores = ExactIndex.build(items).search(users, 70, allowed_rows=few)
    assert (rows == true_rows).all()
    assert scores[:, :58] == pytest.approx(true_scores[:, :58], abs=1e-4)
    third = np.arange(2, 6000, 3, dtype=np.int32)
    truth, _ = ExactIndex.build(items).search(users, 100, allowed_rows=third)
    found, _ = index.search(users, 100, allowed_rows=third)
    recall = np.mean([np.isin(line, best).mean() for line, best in zip(found, truth, strict=True)])
    assert recall > index.recall_at_100


def test_noise_where_no_user_looks_costs_no_cells(items: Floats, users: Floats) -> None:
    rng = np.random.default_rng(3)
    noise = 3 * rng.standard_normal((6000, 16)).astype(np.float32)
    unseen = 0.01 * rng.standard_normal((300, 16)).astype(np.float32)
    noisy = ApproximateIndex.build(
        np.concatenate([items, noise], axis=1),
        user_vectors=np.concatenate([users, unseen], axis=1),
    )
    plain = ApproximateIndex.build(items, user_vectors=users)
    assert noisy.facts.num_searched <= 1.3 * plain.facts.num_searched


def test_facts_tell_what_was_built(items: Floats, users: Floats, tmp_path: Path) -> None:
    index = build_index(items, IndexConfig(kind="approximate"), user_vectors=users)
    facts = index.facts
    assert (facts.kind, facts.num_items, facts.recall_at_100) == (
        "approximate",
        5998,
        index.recall_at_100,
    )
    assert 0 < facts.num_searched <= facts.num_cells < 5998 / 10
    assert facts.build_s > 0
    index.save(tmp_path)
    assert load_index(tmp_path, items).facts == facts
    on_disk = (tmp_path / "index.faiss").stat().st_size + (tmp_path / "axes.npy").stat().st_size
    assert facts.size_bytes == pytest.approx(on_disk, rel=0.01)
    assert facts.size_bytes < items.nbytes / 2
    assert facts.num_scored >= 100


def test_of_an_item_half_a_byte_a_number_is_kept_and_its_number(items: Floats) -> None:
    index = ApproximateIndex.build(items)
    lists: Any = index.cells.index.invlists
    sizes = [lists.list_size(cell) for cell in range(index.cells.num_cells)]
    blocks = sum(-(-size // POINTS_PER_BLOCK) * POINTS_PER_BLOCK for size in sizes)
    centres = index.cells.centres.nbytes
    assert index.facts.size_bytes == pytest.approx(blocks * 8 + 5998 * 8 + centres, rel=0.06)


def test_axes_of_noise_are_not_kept(items: Floats, users: Floats, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    noisy = np.concatenate([items, rng.standard_normal((6000, 16)).astype(np.float32)], axis=1)
    looking = np.concatenate([users, np.full((300, 16), 0.001, np.float32)], axis=1)
    index = ApproximateIndex.build(noisy, user_vectors=looking)
    assert index.axes.items.shape == (32, 16)
    index.save(tmp_path)
    rows, scores = ApproximateIndex.load(tmp_path, noisy).search(looking, 20)
    assert (rows == index.search(looking, 20)[0]).all()
    best = np.take_along_axis(looking @ noisy.T, rows.astype(np.int64), axis=1)
    assert scores == pytest.approx(best, abs=1e-4)


def test_more_items_are_scored_where_less_may_be_lost(items: Floats, users: Floats) -> None:
    scored = [
        ApproximateIndex.build(items, min_recall=recall, user_vectors=users).facts.num_scored
        for recall in (0.7, 0.99)
    ]
    assert 100 < scored[0] < scored[1]


def test_an_index_of_another_kind_of_faiss_is_refused(items: Floats, tmp_path: Path) -> None:
    ApproximateIndex.build(items).save(tmp_path)
    faiss.write_index(faiss.IndexFlatIP(16), str(tmp_path / "index.faiss"))
    with pytest.raises(ReleaseError, match="IndexIVFPQFastScan, got IndexFlat"):
        ApproximateIndex.load(tmp_path, items)


def test_users_whose_cells_hold_too_little_are_answered_exactly(
    items: Floats, users: Floats
) -> None:
    index = ApproximateIndex.build(items, min_recall=0.3, user_vectors=users)
    excluded = [np.arange(2, 2 + user, dtype=np.int32) for user in range(4)]
    rows, scores = index.search(users[:4], 5900, excluded_rows=excluded)
    true_rows, true_scores = ExactIndex.build(items).search(users[:4], 5900, excluded_rows=excluded)
    assert (rows == true_rows).all()
    assert (scores == true_scores).all()
