from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from polars.testing import assert_frame_equal

from upnext.cli.terminal import time_ms
from upnext.errors import DataError, RequestError
from upnext.events.collect import collect
from upnext.events.config import EventsConfig
from upnext.events.event import (
    Event,
    ImpressionEvent,
    SearchEvent,
    ServedItem,
    ServedPage,
    WatchEvent,
)
from upnext.events.sqlite import SqliteStore
from upnext.logs.read import read_logs, write_logs
from upnext.schema import (
    MS_PER_DAY,
    MS_PER_HOUR,
    Impressions,
    Logs,
    Searches,
    Watches,
)

DAY_MS = time_ms("2026-11-25")
UNTIL_MS = DAY_MS + 2 * MS_PER_DAY


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    config = EventsConfig(path=str(tmp_path / "events.sqlite"), retention_days=20_000.0)
    opened = SqliteStore(config, now_ms=lambda: UNTIL_MS)
    yield opened
    opened.close()


def watch(event_id: str, at_ms: int, item_id: str = "a", **more: object) -> WatchEvent:
    about = {"user_id": "ann", "watch_time_s": 9.0} | more
    return WatchEvent(event_id=event_id, started_at_ms=at_ms, item_id=item_id, **about)  # type: ignore[arg-type]


def page(request_id: str, at_ms: int, *items: str) -> ServedPage:
    return ServedPage(
        request_id=request_id,
        user_id="ann",
        served_at_ms=at_ms,
        release="3",
        label="stable",
        items=[ServedItem(item_id=one, source="fresh", propensity=0.5) for one in items],
    )


def rows(logs: Path, table: str) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted((logs / table).glob("*"))])


def written(logs: Path) -> dict[str, bytes]:
    return {str(path.relative_to(logs)): path.read_bytes() for path in logs.rglob("*.parquet")}


def test_simulated_days_that_pass_through_the_store_come_back_as_they_were(
    tiny_logs: Logs, store: SqliteStore, tmp_path: Path
) -> None:
    """Two of six days are served, seen and watched live; the logs of all six are whole again."""
    assert tiny_logs.impressions is not None
    assert tiny_logs.searches is not None
    times_ms = tiny_logs.impressions.frame["shown_at_ms"]
    cut_ms = (times_ms.max() // MS_PER_DAY - 1) * MS_PER_DAY  # type: ignore[operator]
    served = tiny_logs.impressions.frame.filter(pl.col("shown_at_ms") >= cut_ms)
    to_the_ms = (pl.col("watch_time_s").cast(pl.Float64) * 1_000).round() / 1_000
    played = tiny_logs.watches.frame.filter(pl.col("started_at_ms") >= cut_ms)
    for request in served.partition_by("request_id"):
        store.log_pages([_page_of(request)])
    requests = served.filter("watched").select("user_id", "item_id", "watch_time_s", "request_id")
    lines = played.join(requests, on=["user_id", "item_id", "watch_time_s"], how="left")
    store.append(list(_watches_of(lines)))
    asked = tiny_logs.searches.frame.filter(pl.col("searched_at_ms") >= cut_ms)
    store.append([SearchEvent(event_id=f"s{n}", **one) for n, one in enumerate(asked.to_dicts())])
    store.check()

    logs = tmp_path / "logs"
    before = replace(
        tiny_logs,
        watches=Watches(tiny_logs.watches.frame.filter(pl.col("started_at_ms") < cut_ms)),
        impressions=Impressions(tiny_logs.impressions.frame.filter(pl.col("shown_at_ms") < cut_ms)),
        searches=Searches(tiny_logs.searches.frame.filter(pl.col("searched_at_ms") < cut_ms)),
    )
    write_logs(before, logs)
    # Watches that came of no page must not be credited to one: they name no request.
    collect(store, logs, until_ms=UNTIL_MS, watched_within_ms=0)
    whole, report = read_logs(logs, now_ms=UNTIL_MS)

    assert all(table.num_accepted == table.num_read for table in report.tables.values())
    assert whole.impressions is not None
    assert whole.searches is not None
    for found, wanted in (
        (whole.watches.frame, tiny_logs.watches.frame),
        (whole.impressions.frame, tiny_logs.impressions.frame),
        (whole.searches.frame, tiny_logs.searches.frame),
    ):
        if "watch_time_s" in wanted.columns:
            found = found.with_columns(to_the_ms)
            wanted = wanted.with_columns(to_the_ms)
        assert_frame_equal(found, wanted, check_row_order=False, abs_tol=1e-3)


def _page_of(request: pl.DataFrame) -> ServedPage:
    slots = request.sort("position").to_dicts()
    return ServedPage(
        request_id=str(slots[0]["request_id"]),
        user_id=slots[0]["user_id"],
        served_at_ms=slots[0]["shown_at_ms"],
        release="1",
        label="stable",
        items=[
            ServedItem(item_id=one["item_id"], source=one["source"], propensity=one["propensity"])
            for one in slots
        ],
    )


def _watches_of(lines: pl.DataFrame) -> Iterator[WatchEvent]:
    for number, line in enumerate(lines.to_dicts()):
        request_id = line.pop("request_id")
        named = None if request_id is None else str(request_id)
        yield WatchEvent(event_id=f"w{number}", request_id=named, **line)


# Logs take an integer and the text that writes it for one id, so no user is written like another.
USERS, ITEMS = st.sampled_from([7, "8", "zoë"]), st.sampled_from([1, "1", "b"])
KEYS = st.none() | st.sampled_from(["r1", "r2"])
TIMES_MS = st.integers(-3, 3).map(lambda steps: DAY_MS + MS_PER_DAY + steps * MS_PER_HOUR // 2)
EVENTS = st.lists(
    st.builds(
        WatchEvent,
        event_id=st.integers(0, 999).map(str),
        user_id=USERS,
        item_id=ITEMS,
        started_at_ms=TIMES_MS,
        watch_time_s=st.floats(0, 86_400),
        request_id=KEYS,
    )
    | st.builds(
        ImpressionEvent,
        event_id=st.integers(0, 999).map(str),
        user_id=USERS,
        item_id=ITEMS,
        shown_at_ms=TIMES_MS,
        position=st.integers(0, 1),
        request_id=KEYS,
    )
    | st.builds(
        SearchEvent,
        event_id=st.integers(0, 999).map(str),
        user_id=USERS,
        searched_at_ms=TIMES_MS,
        query=st.sampled_from(["cats", " ", '"', "🎈\n"]),
    ),
    max_size=25,
)


@settings(max_examples=30)
@given(EVENTS, st.lists(st.tuples(USERS, TIMES_MS, st.lists(ITEMS, min_size=1, max_size=3))))
def test_read_logs_takes_every_row_of_whatever_happened(
    events: Sequence[Event], pages: list[tuple[str | int, int, list[str | int]]]
) -> None:
    with TemporaryDirectory() as directory:
        logs = Path(directory) / "logs"
        config = EventsConfig(path=f"{directory}/events.sqlite", retention_days=20_000.0)
        store = SqliteStore(config, now_ms=lambda: UNTIL_MS)
        store.append(
            [*events, watch("one", DAY_MS)]  # logs without any watch are none
        )
        for number, (user_id, at_ms, items) in enumerate(pages):
            one = structs.replace(page(f"r{number % 3}", at_ms, "a"), user_id=user_id)
            store.log_pages(
                [structs.replace(one, items=[ServedItem(item_id=i, propensity=0.1) for i in items])]
            )
        store.check()
        collected = collect(store, logs, until_ms=UNTIL_MS)
        store.close()
        report = read_logs(logs, now_ms=UNTIL_MS)[1]
    for name, num_written in (
        ("watches", collected.num_watches),
        ("impressions", collected.num_impressions),
        ("searches", collected.num_searches),
    ):
        if num_written:
            assert report.tables[name].num_accepted == num_written, report.to_text()
            assert report.tables[name].num_read == num_written


def test_days_are_files_that_later_runs_complete(store: SqliteStore, tmp_path: Path) -> None:
    logs, noon_ms = tmp_path / "logs", DAY_MS + MS_PER_DAY // 2
    store.append([watch("w1", DAY_MS), watch("w2", noon_ms, "b"), watch("w3", UNTIL_MS - 1)])
    first = collect(store, logs, until_ms=noon_ms)
    assert (first.num_watches, first.num_files) == (1, 1)
    assert written(logs).keys() == {"watches/live-2026-11-25.parquet"}

    collect(store, logs, until_ms=UNTIL_MS)
    once = written(logs)
    assert once.keys() == {
        "watches/live-2026-11-25.parquet",
        "watches/live-2026-11-26.parquet",
    }
    assert rows(logs, "watches")["item_id"].to_list() == ["a", "b", "a"]
    collect(store, logs, until_ms=UNTIL_MS)
    assert written(logs) == once

    store.append([watch("late", DAY_MS + 1, "c"), watch("later", UNTIL_MS - 2, "d")])
    since = collect(store, logs, since_ms=UNTIL_MS - 5, until_ms=UNTIL_MS)
    assert (since.num_watches, since.num_left_alone) == (2, 3)
    assert rows(logs, "watches")["item_id"].to_list() == ["a", "b", "d", "a"]
    collect(store, logs, until_ms=UNTIL_MS)
    assert rows(logs, "watches")["item_id"].to_list() == ["a", "c", "b", "d", "a"]
    assert [path.name for path in logs.iterdir()] == ["watches"], "nothing else is left behind"


def test_an_impression_waits_until_it_can_no_longer_be_watched(
    store: SqliteStore, tmp_path: Path
) -> None:
    logs, shown_ms = tmp_path / "logs", DAY_MS + MS_PER_HOUR
    store.log_pages([page("r", shown_ms, "a", "b")])
    store.append([watch("w", shown_ms + 5 * MS_PER_HOUR)])
    soon = collect(store, logs, until_ms=shown_ms + 6 * MS_PER_HOUR - 1)
    assert (soon.num_impressions, soon.num_waiting) == (0, 2)
    assert "2 impressions wait" in soon.to_text()
    later = collect(store, logs, until_ms=shown_ms + 6 * MS_PER_HOUR)
    assert (later.num_impressions, later.num_waiting) == (2, 0)
    found = rows(logs, "impressions").select("item_id", "position", "watched", "watch_time_s")
    assert found.rows() == [("a", 0, True, 9.0), ("b", 1, False, 0.0)]


def test_a_day_that_is_partly_forgotten_stays_as_it_was_written(tmp_path: Path) -> None:
    clock, logs = [UNTIL_MS], tmp_path / "logs"
    config = EventsConfig(path=str(tmp_path / "events.sqlite"), retention_days=1.5)
    store = SqliteStore(config, now_ms=lambda: clock[0])
    for number in range(8):
        at_ms = UNTIL_MS - number * 4 * MS_PER_HOUR
        store.append([watch(f"w{number}", at_ms)])
    collect(store, logs, until_ms=UNTIL_MS + 1)
    before = {name: content for name, content in written(logs).items() if "-27" not in name}
    assert len(before) == 2
    for _ in range(12):
        clock[0] += 12 * MS_PER_HOUR
        store.append([watch(f"at {clock[0]}", clock[0], f"at {clock[0]}")])
        with pytest.raises(RequestError):
            store.append([watch("w7", UNTIL_MS - MS_PER_DAY * 2)])
        told = collect(store, logs, until_ms=clock[0] + 1)
    assert told.num_watches < 8, "the other days were left alone"
    assert written(logs).items() >= before.items()
    found = rows(logs, "watches")
    assert found.height == 8 + 12, "nothing that was written once is gone"
    store.close()


def test_a_place_that_cannot_be_written_is_told(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a directory that can be written"):
        collect(store, tmp_path / "file", until_ms=UNTIL_MS)
