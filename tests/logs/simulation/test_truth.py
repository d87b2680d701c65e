import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import DataError
from upnext.logs.simulation.tables import items_of
from upnext.logs.simulation.truth import Truth, load_truth, save_truth
from upnext.logs.simulation.world import START_MS, SimulationConfig, draw_world
from upnext.schema import MS_PER_DAY, Floats, Rows, TimesMs

CONFIG = SimulationConfig(num_users=50, num_items=400, num_days=5, num_channels=20)
TRUTH = Truth(draw_world(CONFIG))
USERS = np.arange(50, dtype=np.int32)
ITEMS = np.broadcast_to(np.arange(400, dtype=np.int32), (50, 400))
LATER_MS = np.full(50, START_MS + 10 * MS_PER_DAY)


def clicks(at_ms: TimesMs = LATER_MS, shown: int = 0, watched: int = 0) -> Floats:
    return TRUTH.click_probability(
        USERS, ITEMS, at_ms, np.full(ITEMS.shape, shown), np.full(ITEMS.shape, watched)
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def affinity_by_hand(user: int, item: int) -> float:
    a, c = TRUTH.world.audience, TRUTH.world.catalogue
    share = float(c.main_shares[item])
    liking = share * float(a.tastes[user, c.main_topics[item]])
    liking += (1 - share) * float(a.tastes[user, c.second_topics[item]])
    return liking + 0.25 * float(a.styles[user] @ c.channel_styles[c.channels[item]]) / 2


@given(user=st.integers(0, 49), item=st.integers(0, 399), shown=st.integers(0, 100))
def test_the_formulas_hold_number_by_number(user: int, item: int, shown: int) -> None:
    c, b = TRUTH.world.catalogue, CONFIG.behaviour
    at_ms = int(c.published_at_ms[item]) + 6 * MS_PER_DAY
    affinity = affinity_by_hand(user, item)
    click = sigmoid(
        b.click_bias
        + b.click_affinity * affinity
        + b.click_quality * float(c.qualities[item])
        + b.click_clickbait * float(c.clickbaits[item])
        + b.click_freshness / 4
        - b.click_fatigue * math.log(1 + shown)
        - b.click_rewatch
    )
    length = float(c.durations_s[item]) / (
        b.patience_s * float(TRUTH.world.audience.patience[user])
    )
    share = b.share_floor + (1 - b.share_floor) * sigmoid(
        b.share_bias
        + b.share_affinity * affinity
        + b.share_quality * float(c.qualities[item])
        - b.share_clickbait * float(c.clickbaits[item])
        - b.share_length * math.log(length)
    )
    users, items = np.array([user], dtype=np.int32), np.array([[item]], dtype=np.int32)
    counts = np.array([[shown]]), np.array([[3]])
    got = TRUTH.expected_watch_time_s(users, items, np.array([at_ms]), *counts)
    assert got.shape == (1, 1)
    assert got[0, 0] == pytest.approx(click * share * float(c.durations_s[item]), rel=1e-4)


def test_watch_time_of_watches_has_exactly_the_stated_mean() -> None:
    means = TRUTH.mean_watch_share(USERS, ITEMS)
    shares = TRUTH.draw_watch_shares(np.random.default_rng(0), np.tile(means, (20, 1)))
    errors = shares - np.tile(means, (20, 1))
    assert abs(errors.mean()) < 4 * errors.std() / math.sqrt(errors.size)
    by_item = errors.reshape(20, 50, 400).mean(axis=(0, 1))
    standard_errors = errors.reshape(1_000, 400).std(axis=0) / math.sqrt(1_000)
    assert np.abs(by_item / standard_errors).max() < 5
    assert shares.min() >= np.float32(CONFIG.behaviour.share_floor)
    assert shares.max() <= 1


def test_a_click_is_impossible_before_publication_and_likelier_when_fresh() -> None:
    published_at_ms = TRUTH.world.catalogue.published_at_ms
    start = clicks(np.full(50, START_MS))
    num_published = int(TRUTH.num_published(np.array([START_MS]))[0])
    assert (start[:, :num_published] > 0).all()
    assert (start[:, num_published:] == 0).all()
    assert num_published == np.count_nonzero(published_at_ms <= START_MS)
    assert (clicks()[:, :num_published] <= start[:, :num_published]).all()


def test_fatigue_lowers_clicks_and_a_watch_lowers_them_more() -> None:
    assert (clicks(shown=1) < clicks()).all()
    assert (clicks(shown=50) < clicks(shown=1)).all()
    assert (clicks(shown=1, watched=1) < clicks(shown=5)).all()
    np.testing.assert_array_equal(clicks(watched=1), clicks(watched=9))


def test_clickbait_wins_clicks_and_loses_watch_share() -> None:
    world = TRUTH.world
    bait = replace(world.catalogue, clickbaits=np.ones_like(world.catalogue.clickbaits))
    baited = Truth(replace(world, catalogue=bait))
    zeros = np.zeros(ITEMS.shape)
    assert (baited.click_probability(USERS, ITEMS, LATER_MS, zeros, zeros) >= clicks()).all()
    assert (baited.mean_watch_share(USERS, ITEMS) <= TRUTH.mean_watch_share(USERS, ITEMS)).all()


def test_examination_falls_with_the_root_of_the_place() -> None:
    np.testing.assert_allclose(TRUTH.examination([0, 3, 8]), [1, 1 / 2, 1 / 3], rtol=1e-6)


def test_ids_become_rows_and_strangers_are_named() -> None:
    rows: Rows = TRUTH.item_rows(pl.Series(["v00399", "v00000", "v00007"]))
    assert rows.tolist() == [399, 0, 7]
    assert TRUTH.user_rows(pl.Series(["u00049"])).tolist() == [49]
    for stranger in ("v00400", "u00001", "v1", "", "v-0001", "ramen"):
        with pytest.raises(DataError, match=f"got '{stranger}'"):
            TRUTH.item_rows(pl.Series(["v00001", stranger]))


def test_a_kept_truth_comes_back(tmp_path: Path) -> None:
    save_truth(CONFIG, tmp_path)
    items_of(TRUTH.world).frame.write_parquet(tmp_path / "items.parquet")
    loaded = load_truth(tmp_path)
    assert loaded.world.config == CONFIG
    np.testing.assert_array_equal(loaded.affinity(USERS, ITEMS), TRUTH.affinity(USERS, ITEMS))


def test_logs_without_a_truth_or_with_another_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only simulated logs"):
        load_truth(tmp_path)
    save_truth(replace(CONFIG, seed=8), tmp_path)
    items_of(TRUTH.world).frame.write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match="another version"):
        load_truth(tmp_path)
