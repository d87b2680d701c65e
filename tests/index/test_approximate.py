"""The approximate index opens as many cells as the recall needs, and answers in full."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from upnext.index import IndexConfig, build_index, load_index
from upnext.index.approximate import ApproximateIndex
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
    assert 5998 * 16 < facts.size_bytes < 2 * items.nbytes


def test_cells_are_mapped_and_not_copied(items: Floats, tmp_path: Path) -> None:
    ApproximateIndex.build(items).save(tmp_path)
    index = ApproximateIndex.load(tmp_path, items)
    lists: Any = faiss.downcast_InvertedLists(index.cells.index.invlists)
    assert not any(lists.codes.at(cell).is_owned for cell in range(index.cells.num_cells))


def test_users_whose_cells_hold_too_little_are_answered_exactly(
    items: Floats, users: Floats
) -> None:
    index = ApproximateIndex.build(items, min_recall=0.3, user_vectors=users)
    excluded = [np.arange(2, 2 + user, dtype=np.int32) for user in range(4)]
    rows, scores = index.search(users[:4], 5900, excluded_rows=excluded)
    true_rows, true_scores = ExactIndex.build(items).search(users[:4], 5900, excluded_rows=excluded)
    assert (rows == true_rows).all()
    assert (scores == true_scores).all()
