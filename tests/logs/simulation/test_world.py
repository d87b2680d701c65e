from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from upnext.config import config_from_table, config_to_table, read_config
from upnext.errors import ConfigError
from upnext.logs.simulation.naming import DEVICES
from upnext.logs.simulation.world import (
    START_MS,
    Behaviour,
    LoggingWeights,
    SimulationConfig,
    draw_world,
    seeded,
)
from upnext.schema import MS_PER_DAY

CONFIG = SimulationConfig(num_users=2_000, num_items=900, num_days=4)


def test_the_same_settings_draw_the_same_world() -> None:
    first, second = draw_world(CONFIG), draw_world(replace(CONFIG))
    for ours, theirs in ((first.catalogue, second.catalogue), (first.audience, second.audience)):
        for field in fields(ours):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))


def test_another_seed_draws_another_world() -> None:
    other = draw_world(replace(CONFIG, seed=8))
    assert not np.array_equal(draw_world(CONFIG).catalogue.qualities, other.catalogue.qualities)


def test_purpose_day_and_block_have_streams_of_their_own() -> None:
    keys = [("day", 0, 0), ("day", 1, 0), ("day", 0, 1), ("titles", 0, 0)]
    draws = {seeded(7, *key).integers(1 << 62) for key in keys}
    assert len(draws) == len(keys)


def test_items_come_in_order_of_publication_a_third_before_the_first_day() -> None:
    published_at_ms = draw_world(CONFIG).catalogue.published_at_ms
    assert (np.diff(published_at_ms) >= 0).all()
    assert np.count_nonzero(published_at_ms < START_MS) == 300
    assert published_at_ms[-1] < START_MS + 4 * MS_PER_DAY


def test_durations_are_log_normal_around_their_median() -> None:
    durations_s = draw_world(replace(CONFIG, num_items=20_000)).catalogue.durations_s
    assert durations_s.min() >= 10
    assert durations_s.max() <= 7_200
    assert np.median(durations_s) == pytest.approx(CONFIG.median_duration_s, rel=0.05)


def test_a_few_channels_make_most_items() -> None:
    channels = draw_world(replace(CONFIG, num_items=20_000)).catalogue.channels
    sizes = np.sort(np.bincount(channels, minlength=CONFIG.num_channels))[::-1]
    assert sizes[:30].sum() > 0.35 * sizes.sum()


def test_activity_is_heavy_tailed_and_keeps_its_mean() -> None:
    requests = draw_world(replace(CONFIG, num_users=50_000)).audience.requests_per_day
    assert requests.mean() == pytest.approx(CONFIG.requests_per_day, rel=0.1)
    assert np.median(requests) < 0.7 * requests.mean()


def test_device_and_region_tell_something_about_the_user() -> None:
    audience = draw_world(CONFIG).audience
    by_device = [audience.patience[audience.devices == d].mean() for d in range(len(DEVICES))]
    assert by_device[DEVICES.index("phone")] < 0.6 * by_device[DEVICES.index("tv")]
    north, islands = (audience.tastes[audience.regions == r].mean(axis=0) for r in (0, 4))
    assert np.abs(north - islands).max() > 0.1


def test_users_like_two_to_five_topics_much() -> None:
    num_liked = (draw_world(CONFIG).audience.tastes > 0.33).sum(axis=1)
    assert num_liked.min() >= 2
    assert np.quantile(num_liked, 0.9) <= 6


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_users", 0),
        ("num_days", -1),
        ("seed", -1),
        ("num_items", 30),
        ("num_topics", 41),
        ("search_probability", 1.5),
        ("published_before_share", 1.01),
        ("fatigue_memory", 9),
        ("median_duration_s", float("nan")),
    ],
)
def test_a_setting_out_of_range_is_named(key: str, value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_table({key: value}, SimulationConfig, where="run.toml [simulation]")
    assert key in str(caught.value)


def test_logging_weights_make_one_and_leave_every_item_a_chance() -> None:
    with pytest.raises(ConfigError, match="make 1"):
        LoggingWeights(popular=0.5)
    with pytest.raises(ConfigError, match="above 0"):
        LoggingWeights(popular=0.5, random=0.0)


def test_behaviour_refuses_a_floor_of_everything() -> None:
    with pytest.raises(ConfigError, match="share_floor"):
        Behaviour(share_floor=1.0)


def test_settings_come_from_toml_and_go_back_to_a_table(tmp_path: Path) -> None:
    file = tmp_path / "simulation.toml"
    file.write_text(
        "num_users = 12\n[behaviour]\nclick_bias = -2\n[logging]\npopular=0.4\nrandom=0.1"
    )
    config = read_config(file, SimulationConfig)
    assert config.num_users == 12
    assert config.behaviour.click_bias == -2.0
    assert config.logging.popular == 0.4
    assert config_from_table(config_to_table(config), SimulationConfig, where="a table") == config
