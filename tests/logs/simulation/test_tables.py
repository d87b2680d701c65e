import numpy as np
import polars as pl

from upnext.logs.simulation.naming import TOPICS
from upnext.logs.simulation.tables import DayEvents, items_of, users_of
from upnext.logs.simulation.world import START_MS, SimulationConfig, draw_world
from upnext.schema import Impressions, Searches, Watches

WORLD = draw_world(SimulationConfig(num_users=20, num_items=300, num_days=2, num_channels=12))


def test_items_show_their_topics_and_nothing_hidden() -> None:
    frame = items_of(WORLD).frame
    main = [list(TOPICS)[topic] for topic in WORLD.catalogue.main_topics]
    assert set(frame.columns) == {
        "item_id",
        "published_at_ms",
        "duration_s",
        "channel_id",
        "tags",
        "title",
    }
    assert frame["tags"].list.first().to_list() == main
    assert set(frame["tags"].list.len().unique()) == {1, 2}
    assert frame["channel_id"].n_unique() == np.unique(WORLD.catalogue.channels).size


def test_users_show_region_and_device() -> None:
    frame = users_of(WORLD).frame
    assert frame.columns == ["user_id", "region", "device"]
    assert frame.height == 20


def test_a_day_without_events_still_has_whole_tables() -> None:
    tables = DayEvents().tables(WORLD, 0)
    Watches(tables["watches"])
    Impressions(tables["impressions"])
    Searches(tables["searches"])
    assert [frame.height for frame in tables.values()] == [0, 0, 0]


def test_events_come_out_in_order_of_time_with_their_owners_ids() -> None:
    events = DayEvents()
    events.add_watches(
        np.array([3, 1], dtype=np.int32),
        np.array([7, 8], dtype=np.int32),
        np.array([START_MS + 5, START_MS]),
        np.array([1.5, 2.5], dtype=np.float32),
    )
    frame = events.tables(WORLD, 0)["watches"]
    expected = {
        "user_id": ["u00001", "u00003"],
        "item_id": ["v00008", "v00007"],
        "started_at_ms": [START_MS, START_MS + 5],
        "watch_time_s": pl.Series([2.5, 1.5], dtype=pl.Float32),
    }
    assert frame.equals(pl.DataFrame(expected))
