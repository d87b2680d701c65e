from collections.abc import Callable

import numpy as np
import pytest

from upnext.errors import DataError
from upnext.examples.catalogue import Catalogue, build_catalogue
from upnext.schema import Items, Logs

MakeLogs = Callable[..., Logs]


@pytest.fixture
def logs(make_logs: MakeLogs) -> Logs:
    """Item 20 is watched most, then 10; of 30 nothing is known; 40 is never watched."""
    return make_logs(
        watches=[
            ("a", 20, 500, 3.0),
            ("b", 20, 600, 3.0),
            ("a", 20, 700, 3.0),
            ("a", 10, 800, 3.0),
            ("b", 10, 900, 3.0),
            ("b", 30, 950, 3.0),
        ],
        items=[
            (10, 100, 61.5, "cook", ["soup", "rice", "tea"], "Été 🍜"),
            (20, None, None, "cook", None, ""),
            (40, 100, 9.0, "sail", ["sea"], "Never"),
        ],
    )


def catalogue_of(logs: Logs, *, max_tags: int = 2) -> Catalogue:
    return build_catalogue(logs, max_items=None, min_watches=1, max_tags=max_tags)


def test_every_array_has_a_line_for_each_row(logs: Logs) -> None:
    catalogue = catalogue_of(logs)
    assert catalogue.num_rows == 5
    assert catalogue.items.series().to_list() == [20, 10, 30]
    assert catalogue.num_watches.tolist() == [0, 0, 3, 2, 1]
    assert catalogue.duration_s.tolist() == [0.0, 0.0, 0.0, 61.5, 0.0]
    cook = catalogue.channels.row("cook")
    assert catalogue.channel_rows.tolist() == [0, 0, cook, cook, 0]
    assert catalogue.channels.row("sail") == 1


def test_the_first_tags_are_used_and_missing_ones_pad(logs: Logs) -> None:
    catalogue = catalogue_of(logs)
    soup, rice = catalogue.tags.row("soup"), catalogue.tags.row("rice")
    assert catalogue.tag_rows.tolist() == [[0, 0], [0, 0], [0, 0], [soup, rice], [0, 0]]
    assert catalogue_of(logs, max_tags=5).tag_rows.shape == (5, 5)


def test_titles_are_read_by_row(logs: Logs) -> None:
    catalogue = catalogue_of(logs)
    titles = [catalogue.title(row) for row in range(catalogue.num_rows)]
    assert titles == [None, None, None, "Été 🍜", None]


def test_an_unknown_publication_is_the_first_time_that_the_logs_show_the_item(
    make_logs: MakeLogs,
) -> None:
    watches = [("a", 1, 500, 3.0), ("a", 2, 600, 3.0), ("a", 1, 400, 3.0)]
    of_watches = catalogue_of(make_logs(watches=watches))
    assert of_watches.published_at_ms.tolist() == [0, 0, 400, 600]
    shown = [("r", "a", 2, 550, 0, False, 0.0), ("r", "a", 1, 550, 1, False, 0.0)]
    with_impressions = catalogue_of(make_logs(watches=watches, impressions=shown))
    assert with_impressions.published_at_ms.tolist() == [0, 0, 400, 550]


def test_what_is_known_of_the_publication_stands(logs: Logs) -> None:
    assert catalogue_of(logs).published_at_ms.tolist() == [0, 0, 500, 100, 950]


def test_rarely_watched_items_leave_with_all_that_is_known_of_them(logs: Logs) -> None:
    catalogue = build_catalogue(logs, max_items=1, min_watches=1, max_tags=2)
    assert catalogue.items.series().to_list() == [20]
    assert catalogue.tags.num_rows == 2
    assert catalogue.num_watches.tolist() == [0, 0, 3]


def test_a_catalogue_without_watches_is_two_rows_of_zeros(make_logs: MakeLogs) -> None:
    catalogue = catalogue_of(make_logs())
    assert catalogue.num_rows == 2
    assert catalogue.tag_rows.shape == (2, 2)
    assert catalogue.title(1) is None


def test_it_survives_as_arrays(tiny_logs: Logs) -> None:
    catalogue = catalogue_of(tiny_logs)
    arrays = catalogue.to_arrays()
    again = Catalogue.from_arrays(arrays).to_arrays()
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(again[name], array)


def test_each_row_holds_what_the_items_table_says(tiny_logs: Logs) -> None:
    catalogue = catalogue_of(tiny_logs, max_tags=3)
    known = {line["item_id"]: line for line in tiny_logs.items.frame.iter_rows(named=True)}
    for row, item_id in enumerate(catalogue.items.series(), start=2):
        item = known[item_id]
        assert catalogue.title(row) == item["title"]
        assert catalogue.duration_s[row] == np.float32(item["duration_s"])
        assert catalogue.published_at_ms[row] == item["published_at_ms"]
        assert catalogue.channels.id(catalogue.channel_rows[row]) == item["channel_id"]
        tags = [catalogue.tags.id(tag) for tag in catalogue.tag_rows[row] if tag]
        assert tags == item["tags"][:3]


def test_new_items_stand_behind_the_others_and_change_none(logs: Logs) -> None:
    catalogue = catalogue_of(logs)
    lines = catalogue.new_items(logs.items)
    assert lines["item_id"].to_list() == [40]
    grown = catalogue.with_items(lines, first_seen_ms=777)
    assert grown.items.rows([20, 10, 30, 40]).tolist() == [2, 3, 4, 5]
    assert [grown.items.id(row) for row in range(2, 6)] == [20, 10, 30, 40]
    assert [grown.title(row) for row in range(6)] == [None, None, None, "Été 🍜", None, "Never"]
    assert grown.duration_s.tolist() == [*catalogue.duration_s, 9.0]
    assert grown.published_at_ms.tolist() == [*catalogue.published_at_ms, 100]
    assert grown.num_watches.tolist() == [*catalogue.num_watches, 0]
    assert grown.channel_rows.tolist() == [*catalogue.channel_rows, 1]
    assert grown.tag_rows.tolist() == [*catalogue.tag_rows.tolist(), [1, 0]]
    assert grown.new_items(logs.items).is_empty()


def test_a_new_item_has_the_channels_and_tags_that_are_known(
    logs: Logs, make_logs: MakeLogs
) -> None:
    catalogue = catalogue_of(logs)
    more = make_logs(
        items=[(8, None, None, "cook", ["sea", "rice", "tea"], None), (9, 5, 2.0, None, None, "九")]
    ).items
    grown = catalogue.with_items(catalogue.new_items(more), first_seen_ms=777)
    cook, rice = catalogue.channels.row("cook"), catalogue.tags.row("rice")
    eight, nine = grown.items.rows([8, 9])
    assert grown.channel_rows[[eight, nine]].tolist() == [cook, 0]
    assert grown.tag_rows[[eight, nine]].tolist() == [[1, rice], [0, 0]]
    assert grown.published_at_ms[[eight, nine]].tolist() == [777, 5]
    assert (grown.title(eight), grown.title(nine)) == (None, "九")


def test_a_catalogue_grows_again_and_survives_as_arrays(tiny_logs: Logs) -> None:
    frame = tiny_logs.items.frame
    catalogue = build_catalogue(tiny_logs, max_items=20, min_watches=1, max_tags=3)
    for part in (Items(frame[:50]), Items(frame)):
        lines = catalogue.new_items(part)
        catalogue = catalogue.with_items(lines, first_seen_ms=0)
    catalogue = Catalogue.from_arrays(catalogue.to_arrays())
    assert catalogue.num_rows == 2 + frame.height
    rows = catalogue.items.rows(frame["item_id"])
    assert sorted(rows) == list(range(2, 2 + frame.height))
    assert [catalogue.title(row) for row in rows] == frame["title"].to_list()
    assert catalogue.published_at_ms[rows].tolist() == frame["published_at_ms"].to_list()


def test_ids_are_of_the_type_that_training_had(logs: Logs, make_logs: MakeLogs) -> None:
    catalogue = catalogue_of(logs)
    nothing = (None,) * 5
    as_text = make_logs(items=[("10", *nothing), ("11", *nothing)]).items
    assert catalogue.new_items(as_text)["item_id"].to_list() == [11]
    for odd in ("eleven", "011", "1.0", ""):
        table = make_logs(items=[("11", *nothing), (odd, *nothing)]).items
        with pytest.raises(DataError, match=f"whole numbers, as in training, got '{odd}'"):
            catalogue.new_items(table)
    named = catalogue_of(make_logs(watches=[("a", "10", 0, 1.0)]))
    assert named.new_items(logs.items)["item_id"].to_list() == ["20", "30", "40"]
