"""Class probabilities are the softmax over the whole catalogue, whatever the size of the scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.errors import RequestError
from upnext.export.probabilities import class_probabilities, most_probable
from upnext.export.vectors import moments_ms, user_vectors_at
from upnext.index import ExactIndex
from upnext.schema import NUM_RESERVED_ROWS, Floats

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

    from upnext.recommender import Recommender


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


def vector_of(recommender: Recommender, user_id: str, at_ms: int | None = None) -> Floats:
    row = np.array([recommender.users.row(user_id)])
    vectors = user_vectors_at(recommender, row, moments_ms(recommender.history, at_ms)[row])
    assert vectors.shape == (1, recommender.retriever.item_vectors.shape[1])
    vector: Floats = vectors[0]
    return vector


def test_they_are_the_softmax_of_the_inner_products(recommender: Recommender) -> None:
    vector = vector_of(recommender, "u00003")
    found = class_probabilities(recommender, vector)
    scores = recommender.retriever.item_vectors.astype(np.float64) @ vector.astype(np.float64)
    weights = np.exp(scores[NUM_RESERVED_ROWS:])
    assert found.dtype == np.float64
    assert found.shape == (recommender.encoder.catalogue.num_rows,)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found[NUM_RESERVED_ROWS:], weights / weights.sum(), rtol=1e-12)
    assert found[:NUM_RESERVED_ROWS].tolist() == [0, 0]


def with_vectors(recommender: Recommender, item_vectors: Floats) -> Recommender:
    retriever = replace(recommender.retriever, item_vectors=item_vectors)
    return replace(recommender, retriever=retriever)


def test_two_items_by_hand(recommender: Recommender) -> None:
    vectors = np.array([[9, 9], [9, 9], [1, 0], [0, 2]], np.float32)
    two = with_vectors(recommender, vectors)
    odds = np.log(np.array([3.0, 1.0])).astype(np.float32)  # scores log 3 and 2 log 1
    np.testing.assert_allclose(class_probabilities(two, odds), [0, 0, 0.75, 0.25], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e15])
def test_no_score_is_too_great(recommender: Recommender, scale: float) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((500, 8), dtype=np.float32)
    vector = (scale * rng.standard_normal(8)).astype(np.float32)
    found = class_probabilities(with_vectors(recommender, vectors), vector)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    scores = vectors[NUM_RESERVED_ROWS:].astype(np.float64) @ vector.astype(np.float64)
    assert found[NUM_RESERVED_ROWS + scores.argmax()] == found.max()


def test_blocks_change_nothing(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = vector_of(recommender, "u00003")
    whole = class_probabilities(recommender, vector)
    monkeypatch.setattr("upnext.export.probabilities.ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(class_probabilities(recommender, vector), whole, rtol=1e-12)


@pytest.mark.parametrize(
    "vector", [np.zeros(3, np.float32), np.full(16, np.nan, np.float32), np.zeros((1, 16))]
)
def test_a_vector_that_is_none_is_refused(recommender: Recommender, vector: Floats) -> None:
    with pytest.raises(ValueError, match="user_vectors: expected"):
        class_probabilities(recommender, vector)


def test_the_most_probable_are_the_nearest(recommender: Recommender) -> None:
    vector = vector_of(recommender, "u00003")
    rows, _ = ExactIndex.build(recommender.retriever.item_vectors).search(vector[None], 12)
    table = most_probable(recommender, "u00003", k=12)
    ids = [recommender.encoder.catalogue.items.id(row) for row in rows[0]]
    assert table["item_id"].to_list() == ids
    expected = class_probabilities(recommender, vector)[rows[0]]
    np.testing.assert_allclose(table["probability"], expected, rtol=1e-12)
    assert table["probability"].is_sorted(descending=True)


def test_all_items_sum_to_1_for_whoever_asks(recommender: Recommender) -> None:
    num_items = recommender.encoder.catalogue.num_rows - NUM_RESERVED_ROWS
    for user_id in ("u00003", "nobody knows"):
        table = most_probable(recommender, user_id)
        assert table.height == num_items
        assert table["probability"].sum() == pytest.approx(1, abs=1e-12)


def test_they_are_as_of_a_time(recommender: Recommender) -> None:
    log = recommender.history.watches.of_user(recommender.users.row("u00003"))
    first_ms = int(log.at_ms[0])
    then = most_probable(recommender, "u00003", at_ms=first_ms)
    vector = vector_of(recommender, "u00003", first_ms)
    expected = class_probabilities(recommender, vector)
    rows = recommender.encoder.catalogue.items.rows(then["item_id"])
    np.testing.assert_allclose(then["probability"], expected[rows], rtol=1e-12)
    assert not then.equals(most_probable(recommender, "u00003"))


def test_fewer_than_none_is_refused(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="expected 1 or more, or 0 for all, got -1"):
        most_probable(recommender, "u00003", k=-1)
