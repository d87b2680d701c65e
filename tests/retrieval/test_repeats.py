"""The bonus of repeats is the likeliest, and scores with it are those of a network that knew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.examples.encoder import ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.watches import WatchTargets, watch_targets
from upnext.retrieval import repeats
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.repeats import fit_repeat_bonus, repeat_bonus_of, repeat_log_odds
from upnext.retrieval.train import train_retrieval
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import NUM_RESERVED_ROWS, Logs


def log_likelihood(bonus: float, log_odds: np.ndarray, is_repeat: np.ndarray) -> float:
    """Of these events, and of half a repeat and half a first watch at even odds."""
    sign = np.where(is_repeat, 1.0, -1.0)
    own = -np.logaddexp(0, -sign * (bonus + log_odds)).sum()
    return float(own - 0.5 * np.logaddexp(0, bonus) - 0.5 * np.logaddexp(0, -bonus))


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    number=st.integers(0, 200),
    mean=st.floats(-20, 20),
    share=st.floats(0, 1),
)
def test_no_other_bonus_is_likelier(seed: int, number: int, mean: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(mean, 3, number).astype(np.float32)
    is_repeat = rng.random(number) < share
    bonus = fit_repeat_bonus(log_odds, is_repeat)
    best = log_likelihood(bonus, log_odds, is_repeat)
    for other in (bonus - 0.01, bonus + 0.01, 0.0):
        assert log_likelihood(other, log_odds, is_repeat) <= best + 1e-9


def test_what_users_do_is_found_again() -> None:
    rng = np.random.default_rng(1)
    log_odds = rng.normal(-2, 1, 100_000).astype(np.float32)
    is_repeat = rng.random(len(log_odds)) < 1 / (1 + np.exp(-(log_odds + 1.5)))
    assert fit_repeat_bonus(log_odds, is_repeat) == pytest.approx(1.5, abs=0.03)


def test_where_nobody_comes_back_it_is_low_but_finite() -> None:
    log_odds = np.zeros(10_000, np.float32)
    assert -20 < fit_repeat_bonus(log_odds, np.zeros(10_000, bool)) < -5
    assert 5 < fit_repeat_bonus(log_odds, np.ones(10_000, bool)) < 20


@given(
    seed=st.integers(0, 10_000),
    num_events=st.integers(1, 5),
    num_items=st.integers(1, 9),
    spread=st.sampled_from([1.0, 30.0, 1_000.0]),
)
def test_odds_are_those_of_the_softmax_however_far_apart_scores_are(
    seed: int, num_events: int, num_items: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, spread, (num_events, num_items + NUM_RESERVED_ROWS)).astype(np.float32)
    is_watched = rng.random(scores.shape) < 0.4
    is_watched[:, :NUM_RESERVED_ROWS] = False
    is_other = ~is_watched
    is_other[:, :NUM_RESERVED_ROWS] = False
    log_sums = [
        np.logaddexp.reduce(np.where(chosen, scores.astype(np.float64), -np.inf), axis=1)
        for chosen in (is_watched, is_other)
    ]
    told = repeat_log_odds(scores, *np.nonzero(is_watched))
    has_both = is_watched.any(axis=1) & is_other.any(axis=1)
    np.testing.assert_array_equal(np.isfinite(told), has_both)
    np.testing.assert_allclose(
        told[has_both], (log_sums[0] - log_sums[1])[has_both], rtol=1e-5, atol=1e-5
    )


@pytest.fixture(scope="module")
def trained(tiny_logs: Logs) -> tuple[TrainedRetrieval, WatchTargets]:
    """After one epoch, and all watches as targets."""
    encoder, users = build_encoder(tiny_logs, ExamplesConfig()), user_vocabulary(tiny_logs)
    history = encoder.history(tiny_logs, users)
    config = RetrievalConfig(num_epochs=1, batch_size=256, precision="float32")
    targets = watch_targets(encoder, history, users, tiny_logs.watches)
    return train_retrieval(encoder, history, None, config), targets


def test_it_is_the_likeliest_of_the_full_softmax(
    trained: tuple[TrainedRetrieval, WatchTargets],
) -> None:
    """By the probabilities of all items, worked out one target at a time."""
    retrieval, every = trained
    targets = every.sample(200, seed=1)
    queries = retrieval.query_encoder.queries(targets.history, targets.user_rows, targets.at_ms)
    users, items = retrieval.user_vectors(targets.history, queries), retrieval.item_vectors()
    starts, watched = targets.watched_before()

    def log_probability(bonus: float) -> float:
        total = 0.0
        for place, row in enumerate(targets.item_rows):
            before = np.unique(watched[starts[place] : starts[place + 1]])
            before = before[before >= NUM_RESERVED_ROWS]
            if row < NUM_RESERVED_ROWS or not len(before):
                continue
            scores = (items @ users[place]).astype(np.float64)
            scores[before] += bonus
            total += scores[row] - np.logaddexp.reduce(scores[NUM_RESERVED_ROWS:])
        return total - 0.5 * float(np.logaddexp(0, bonus)) - 0.5 * float(np.logaddexp(0, -bonus))

    bonus = repeat_bonus_of(retrieval, targets)
    best = log_probability(bonus)
    assert all(log_probability(bonus + other) < best for other in (-0.05, 0.05))


def test_it_is_the_same_however_many_are_scored_at_once(
    trained: tuple[TrainedRetrieval, WatchTargets], monkeypatch: pytest.MonkeyPatch
) -> None:
    retrieval, every = trained
    targets = every.sample(50, seed=2)
    at_once = repeat_bonus_of(retrieval, targets)
    for num_scores in (1, 7 * len(retrieval.item_vectors())):
        monkeypatch.setattr(repeats, "SCORES_AT_ONCE", num_scores)
        assert repeat_bonus_of(retrieval, targets) == pytest.approx(at_once, abs=1e-5)


def test_where_nothing_was_watched_there_is_none(
    trained: tuple[TrainedRetrieval, WatchTargets],
) -> None:
    retrieval, every = trained
    first = np.unique(every.user_rows, return_index=True)[1]
    assert repeat_bonus_of(retrieval, every[first]) == 0.0
    assert repeat_bonus_of(retrieval, every[:0]) == 0.0
