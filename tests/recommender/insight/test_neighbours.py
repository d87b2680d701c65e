"""The exact neighbours are those of an argsort of cosines; recall is what the index shares."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.errors import RequestError
from upnext.index import ExactIndex
from upnext.schema import NUM_RESERVED_ROWS

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

    from upnext.recommender import Recommender


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


def cosines(recommender: Recommender, row: int) -> list[float]:
    """By row; -1 of the item itself and of reserved rows."""
    vectors = np.asarray(recommender.retriever.item_vectors, np.float64)
    found = np.full(len(vectors), -1.0)
    items, own = vectors[NUM_RESERVED_ROWS:], vectors[row]
    lengths = np.linalg.norm(items, axis=1) * np.linalg.norm(own)
    found[NUM_RESERVED_ROWS:] = items @ own / lengths
    found[row] = -1
    told: list[float] = found.tolist()
    return told


@pytest.mark.parametrize("row", [2, 3, 60])
@pytest.mark.parametrize("k", [1, 10, 1000])
def test_exact_neighbours_are_an_argsort_of_all_cosines(
    recommender: Recommender, row: int, k: int
) -> None:
    items = recommender.encoder.catalogue.items
    found = recommender.insight.neighbours(items.id(row), k)
    expected = np.array(cosines(recommender, row))
    best = np.argsort(-expected, kind="stable")[: min(k, items.num_rows - NUM_RESERVED_ROWS - 1)]
    assert found.item_id == items.id(row)
    assert [card.item_id for card in found.exact] == [items.id(one) for one in best.tolist()]
    assert [card.cosine for card in found.exact] == pytest.approx(expected[best].tolist(), abs=1e-5)


def test_an_exact_index_finds_all_of_them(recommender: Recommender) -> None:
    found = recommender.insight.neighbours(recommender.encoder.catalogue.items.id(5), 10)
    assert found.recall == 1
    assert found.index == found.exact


def test_recall_is_the_share_of_the_exact_ones_that_the_index_found(
    recommender: Recommender,
) -> None:
    vectors = np.asarray(recommender.retriever.item_vectors)
    coarse = ExactIndex.build(vectors).without_rows(np.arange(9, 40, dtype=np.int32))
    retriever = replace(recommender.retriever, index=coarse)
    coarsely = replace(recommender, retriever=retriever)
    items, recalls = recommender.encoder.catalogue.items, set()
    for row in range(NUM_RESERVED_ROWS, 20):
        found = coarsely.insight.neighbours(items.id(row), 20)
        exact, index = ({card.item_id for card in one} for one in (found.exact, found.index))
        assert found.recall == pytest.approx(len(exact & index) / len(exact))
        similar = coarsely.similar(items.id(row), 20).items
        assert [card.item_id for card in found.index] == [one.item_id for one in similar]
        recalls.add(found.recall)
    assert len(recalls) > 1


def test_an_unknown_item_is_refused(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="'nobody'") as caught:
        recommender.insight.neighbours("nobody", 3)
    assert caught.value.where == "item_id"
