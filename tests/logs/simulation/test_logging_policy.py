import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from upnext.logs.simulation.fatigue import NOTHING
from upnext.logs.simulation.logging_policy import SOURCES, Groups, LoggingPolicy
from upnext.logs.simulation.world import START_MS, LoggingWeights, SimulationConfig, draw_world
from upnext.schema import MS_PER_DAY, Rows, TimesMs

CONFIG = SimulationConfig(
    num_users=10, num_items=90, num_days=4, num_channels=6, num_topics=4, page_size=5
)
WORLD = draw_world(CONFIG)
DAY_START_MS = START_MS + 2 * MS_PER_DAY
NOON_MS = DAY_START_MS + MS_PER_DAY // 2
NUM_PUBLISHED = int(np.searchsorted(WORLD.catalogue.published_at_ms, NOON_MS, side="right"))
ALL_ITEMS = np.arange(90, dtype=np.int32)[None, :]
RECENT = np.array([[3, 20, 3, NOTHING, NOTHING]], dtype=np.int32)
NUM_WATCHES = np.random.default_rng(1).integers(0, 40, 90).astype(np.int32)


def policy_of(**weights: float) -> LoggingPolicy:
    logging = LoggingWeights(**weights)
    world = replace(WORLD, config=replace(CONFIG, logging=logging))
    return LoggingPolicy(world, Groups.of(world), DAY_START_MS, NUM_WATCHES)


def repeated(num: int) -> tuple[Rows, TimesMs]:
    return np.repeat(RECENT, num, axis=0), np.full(num, NOON_MS)


@pytest.mark.parametrize("recent", [RECENT, np.full((1, 5), NOTHING, dtype=np.int32)])
def test_probabilities_of_all_published_items_make_one(recent: Rows) -> None:
    p = policy_of().probabilities(ALL_ITEMS, recent, np.array([NOON_MS]))[0]
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert (p[:NUM_PUBLISHED] > 0).all()
    assert (p[NUM_PUBLISHED:] == 0).all()


def test_each_source_gives_what_its_formula_says() -> None:
    catalogue = WORLD.catalogue
    at = np.array([NOON_MS])

    def almost_only(source: str) -> NDArray[np.float64]:
        weights = dict.fromkeys(SOURCES, 0.0) | {source: 1 - 1e-9}
        weights["random"] = max(weights["random"], 1e-9)
        probabilities = policy_of(**weights).probabilities(ALL_ITEMS, RECENT, at)
        return probabilities.ravel()

    popular = np.where(catalogue.published_at_ms <= DAY_START_MS, NUM_WATCHES + 0.1, 0)
    np.testing.assert_allclose(almost_only("popular"), popular / popular.sum(), atol=1e-8)
    ages_days = (NOON_MS - catalogue.published_at_ms) / MS_PER_DAY
    fresh = np.where(ages_days >= 0, np.exp(-ages_days / CONFIG.fresh_days), 0)
    np.testing.assert_allclose(almost_only("fresh"), fresh / fresh.sum(), atol=1e-8)
    related = 4 / 10 * popular / popular.sum()
    for recent in (3, 20, 3):
        for label in (catalogue.main_topics, catalogue.channels):
            alike = np.where(label == label[recent], popular, 0)
            related += alike / alike.sum() / 10
    np.testing.assert_allclose(almost_only("related"), related, atol=1e-8)


def test_first_slots_follow_the_probabilities() -> None:
    num = 60_000
    pages = policy_of().draw_pages(np.random.default_rng(0), *repeated(num))
    p = policy_of().probabilities(ALL_ITEMS, RECENT, np.array([NOON_MS]))[0]
    counts = np.bincount(pages.item_rows[:, 0], minlength=90)
    deviations = (counts - num * p) / np.sqrt(num * p * (1 - p) + 1e-9)
    assert np.abs(deviations).max() < 4.5
    np.testing.assert_allclose(pages.propensities[:, 0], p[pages.item_rows[:, 0]], rtol=1e-5)


def test_propensities_of_every_slot_undo_the_choice() -> None:
    """E[1 / propensity] is the number of items that could still be chosen for the slot."""
    num = 60_000
    pages = policy_of().draw_pages(np.random.default_rng(0), *repeated(num))
    inverse = 1 / pages.propensities.astype(np.float64)
    standard_errors = inverse.std(axis=0) / math.sqrt(num)
    expected = NUM_PUBLISHED - np.arange(CONFIG.page_size)
    assert np.abs((inverse.mean(axis=0) - expected) / standard_errors).max() < 4


def test_later_slots_follow_their_propensity_given_the_slots_above() -> None:
    pages = policy_of().draw_pages(np.random.default_rng(0), *repeated(60_000))
    p = policy_of().probabilities(ALL_ITEMS, RECENT, np.array([NOON_MS]))[0]
    best = int(np.argmax(p))
    under_best = pages.item_rows[pages.item_rows[:, 0] == best][:, 1]
    expected = np.delete(p / (1 - p[best]), best)
    counts = np.delete(np.bincount(under_best, minlength=90), best)
    deviations = counts - under_best.size * expected
    assert best not in under_best
    assert np.abs(deviations / np.sqrt(under_best.size * expected + 1e-9)).max() < 4.5


def test_a_page_never_repeats_even_if_one_item_holds_nearly_everything() -> None:
    num_watches = np.zeros(90, dtype=np.int32)
    num_watches[0] = 1_000_000
    world = replace(
        WORLD,
        config=replace(
            CONFIG, logging=LoggingWeights(popular=0.97, fresh=0.0, related=0.0, random=0.03)
        ),
    )
    policy = LoggingPolicy(world, Groups.of(world), DAY_START_MS, num_watches)
    pages = policy.draw_pages(np.random.default_rng(0), *repeated(300))
    in_order = np.sort(pages.item_rows, axis=1)
    assert (np.diff(in_order, axis=1) > 0).all()
    assert (in_order < NUM_PUBLISHED).all()
    assert ((pages.propensities > 0) & (pages.propensities <= 1)).all()


def test_another_mix_is_the_policy_of_a_world_that_is_logged_so() -> None:
    weights = {"popular": 0.1, "fresh": 0.2, "related": 0.6, "random": 0.1}
    policy = policy_of()
    other, at = policy.with_weights(LoggingWeights(**weights)), np.array([NOON_MS])
    expected = policy_of(**weights).probabilities(ALL_ITEMS, RECENT, at)
    np.testing.assert_array_equal(other.probabilities(ALL_ITEMS, RECENT, at), expected)
    own = policy.probabilities(ALL_ITEMS, RECENT, at)
    assert np.abs(own - expected).sum() > 0.05
    np.testing.assert_array_equal(own, policy_of().probabilities(ALL_ITEMS, RECENT, at))


def test_probabilities_of_slots_are_the_propensities_of_drawn_pages() -> None:
    pages = policy_of().draw_pages(np.random.default_rng(0), *repeated(300))
    again = policy_of().slot_probabilities(pages.item_rows, *repeated(300))
    np.testing.assert_allclose(again, pages.propensities, rtol=1e-6)


def test_sources_are_used_as_often_as_their_weights_say() -> None:
    pages = policy_of().draw_pages(np.random.default_rng(0), *repeated(40_000))
    shares = np.bincount(pages.sources[:, 0], minlength=4) / 40_000
    weights = [getattr(LoggingWeights(), source) for source in SOURCES]
    np.testing.assert_allclose(shares, weights, atol=0.01)


def test_what_a_search_finds_is_of_the_topic_and_was_there_this_morning() -> None:
    topics = np.repeat(np.arange(4, dtype=np.int32), 500)
    found = policy_of().draw_from_topics(np.random.default_rng(0), topics)
    np.testing.assert_array_equal(WORLD.catalogue.main_topics[found], topics)
    assert (WORLD.catalogue.published_at_ms[found] <= DAY_START_MS).all()
