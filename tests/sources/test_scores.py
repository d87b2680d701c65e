"""What ranking is told of each source: the same, whoever else asks at the same time."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.schema import Floats
from upnext.sources import SOURCES, Events, Moments, SourcesConfig, fit_sources
from upnext.sources.scores import SOURCE_FEATURES, SourceScorer, yardstick

NUM_ROWS, NUM_REQUESTS, SIZE = 90, 12, 16
SHARE = SOURCE_FEATURES.index("share of the yardstick that retrieval scores lower")
SCORE = SOURCE_FEATURES.index("retrieval's score in deviations from the yardstick's")
OF_COUNTS = [SOURCE_FEATURES.index(f"score of {source}") for source in SOURCES]
KNOWN = SOURCE_FEATURES.index("whether the sources knew the item")


def new_scorer(num_unwatched: int = 0) -> SourceScorer:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(NUM_ROWS, SIZE)).astype(np.float32)
    num_watches = np.arange(NUM_ROWS)
    num_watches[2 : 2 + num_unwatched] = 0
    num_watches[:2] = 0
    events = Events(
        user_rows=rng.integers(2, 6, 300),
        item_rows=rng.integers(2, NUM_ROWS, 300).astype(np.int32),
        at_ms=np.arange(300),
        published_at_ms=np.arange(NUM_ROWS),
    )
    sources = fit_sources(events, SourcesConfig())
    return SourceScorer(vectors, sources, yardstick(num_watches), num_watches > 0)


def user_vectors() -> Floats:
    rng = np.random.default_rng(2)
    return rng.normal(size=(NUM_REQUESTS, SIZE)).astype(np.float32)


def moments_of(requests: NDArray[np.int64]) -> Moments:
    history = np.random.default_rng(3).integers(0, NUM_ROWS, (NUM_REQUESTS, 5)).astype(np.int32)
    nobody = np.zeros(NUM_REQUESTS, np.int32)
    at_ms = np.arange(NUM_REQUESTS) + 400
    return Moments(history[requests], nobody[requests], at_ms[requests])


def scores_of(
    scorer: SourceScorer, requests: NDArray[np.int64], item_rows: NDArray[np.int32]
) -> Floats:
    """Every one of the items for each request, [R, K, S]."""
    told = scorer.scores(
        user_vectors()[requests],
        moments_of(requests),
        np.tile(item_rows, len(requests)),
        np.repeat(np.arange(len(requests)), len(item_rows)),
    )
    return told.reshape(len(requests), len(item_rows), -1)


ITEMS = np.arange(2, NUM_ROWS, dtype=np.int32)
EVERYBODY = np.arange(NUM_REQUESTS)


def test_retrieval_is_told_beside_what_the_same_user_has_of_other_items() -> None:
    scorer = new_scorer()
    told = scores_of(scorer, EVERYBODY, ITEMS)
    products = user_vectors().astype(np.float64) @ scorer.item_vectors.T.astype(np.float64)
    of_yardstick = products[:, scorer.yardstick_rows]
    for request in range(NUM_REQUESTS):
        mean, deviation = of_yardstick[request].mean(), of_yardstick[request].std()
        expected = (products[request, ITEMS] - mean) / deviation
        np.testing.assert_allclose(told[request, :, SCORE], expected, atol=1e-4)
        below = (of_yardstick[request] < products[request, ITEMS][:, None]).mean(axis=1)
        # A candidate that is of the yardstick itself may or may not count as below itself.
        np.testing.assert_allclose(
            told[request, :, SHARE], below, atol=1.01 / len(scorer.yardstick_rows)
        )
        assert (np.diff(told[request, np.argsort(expected), SHARE]) >= -1e-6).all()


def test_a_request_is_told_alike_alone_and_in_company() -> None:
    """The scores of a candidate move with nobody else's request, or pages would."""
    scorer = new_scorer()
    together = scores_of(scorer, EVERYBODY, ITEMS)
    for request in EVERYBODY:
        alone = scores_of(scorer, EVERYBODY[[request]], ITEMS)[0]
        np.testing.assert_allclose(alone, together[request], rtol=1e-5, atol=1e-5)


def test_of_items_that_nobody_had_watched_nothing_is_told() -> None:
    """Pads, unknown items, items without a watch, and rows that were added later."""
    scorer = new_scorer(num_unwatched=3)
    rows = np.array([0, 1, 2, 3, 4, NUM_ROWS + 7], np.int32)
    longer = SourceScorer(
        np.concatenate([scorer.item_vectors, np.ones((10, SIZE), np.float32)]),
        scorer.sources.with_items(np.arange(NUM_ROWS + 10)),
        scorer.yardstick_rows,
        scorer.known,
    )
    assert not scores_of(longer, EVERYBODY, rows).any()
    assert (scores_of(scorer, EVERYBODY, ITEMS[5:])[..., KNOWN] == 1).all()


def test_the_yardstick_is_a_fixed_sample_of_watched_items() -> None:
    num_watches = np.random.default_rng(4).integers(0, 2, 5_000)
    rows = yardstick(num_watches)
    assert (num_watches[rows] > 0).all()
    assert len(np.unique(rows)) == len(rows) == 1_000
    assert rows.min() >= 2
    assert (yardstick(num_watches) == rows).all()
    few = yardstick(np.array([9, 9, 0, 3, 1]))
    assert few.tolist() == [3, 4]


def integer_scorer(rng: np.random.Generator, num_in_yardstick: int) -> SourceScorer:
    """Of vectors whose products are whole numbers, so that ties are ties and sums are exact."""
    vectors = rng.integers(-2, 3, (NUM_ROWS, 3)).astype(np.float32)
    drawn = rng.choice(NUM_ROWS - 2, num_in_yardstick, replace=False) + 2
    known = rng.random(NUM_ROWS) < 0.7
    return SourceScorer(vectors, new_scorer().sources, np.sort(drawn).astype(np.int32), known)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, NUM_REQUESTS), st.integers(0, 60))
def test_each_column_is_what_a_slow_reference_finds(
    seed: int, num_in_yardstick: int, num_requests: int, num_candidates: int
) -> None:
    rng = np.random.default_rng(seed)
    scorer, moments = integer_scorer(rng, num_in_yardstick), moments_of(EVERYBODY[:num_requests])
    users = rng.integers(-2, 3, (num_requests, 3)).astype(np.float32)
    rows = rng.integers(0, NUM_ROWS, num_candidates).astype(np.int32)
    of = rng.integers(0, num_requests, num_candidates)
    told = scorer.scores(users, moments, rows, of)
    assert told.shape == (num_candidates, len(SOURCE_FEATURES))
    assert told.dtype == np.float32
    counted = scorer.sources.scores(moments, rows, of)
    for place, (row, request) in enumerate(zip(rows.tolist(), of.tolist(), strict=True)):
        if not scorer.known[row]:
            assert not told[place].any()
            continue
        product = float(users[request] @ scorer.item_vectors[row])
        measured_by = [
            float(users[request] @ scorer.item_vectors[r]) for r in scorer.yardstick_rows
        ]
        deviation = max(statistics.pstdev(measured_by), 1e-6)
        expected = (product - statistics.fmean(measured_by)) / deviation
        assert told[place, SCORE] == pytest.approx(expected, rel=1e-4, abs=1e-5)
        num_below = sum(score < product for score in measured_by)
        assert told[place, SHARE] == np.float32(num_below / num_in_yardstick)
        assert told[place, OF_COUNTS].tolist() == counted[place].tolist()
        assert told[place, KNOWN] == 1


def test_of_a_user_to_whom_all_items_are_alike_nothing_stands_out() -> None:
    scorer, requests = new_scorer(), EVERYBODY[:1]
    nobody = np.zeros((1, SIZE), np.float32)
    of = np.zeros(len(ITEMS), np.int64)
    told = scorer.scores(nobody, moments_of(requests), ITEMS, of)
    assert np.isfinite(told).all()
    assert not told[:, [SCORE, SHARE]].any()


@pytest.mark.parametrize("num_requests", [0, 3])
def test_without_candidates_there_is_nothing_to_tell(num_requests: int) -> None:
    requests, none = EVERYBODY[:num_requests], np.zeros(0, np.int32)
    told = new_scorer().scores(user_vectors()[requests], moments_of(requests), none, none)
    assert told.shape == (0, len(SOURCE_FEATURES))


def test_the_yardstick_of_nothing_watched_is_empty() -> None:
    """Watches of unknown items measure nothing either."""
    assert yardstick(np.array([5, 7, 0, 0])).tolist() == []
