import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from upnext.errors import ConfigError, StoreError
from upnext.events.config import EventsConfig
from upnext.events.event import WatchEvent
from upnext.events.sqlite import SqliteStore
from upnext.events.store import open_store


def watch(event_id: str) -> WatchEvent:
    at_ms = time.time_ns() // 10**6
    return WatchEvent(
        event_id=event_id, user_id=1, item_id=1, started_at_ms=at_ms, watch_time_s=1.0
    )


def test_every_commit_is_synced_before_it_is_acknowledged(tmp_path: Path) -> None:
    store = SqliteStore(EventsConfig(path=str(tmp_path / "events.sqlite")))
    store.append([watch("w")])
    assert store._writer is not None
    settings = [
        store._writer.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    ]
    assert settings == ["wal", 2], "2 is FULL: the log is synced at every commit"
    store.close()


def test_another_programs_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE precious (x)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's database"):
        SqliteStore(EventsConfig(path=str(path)))
    assert path.read_bytes() == before


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    open_store(EventsConfig(path=str(path))).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(StoreError, match="expected a live store of format 1, got format 2"):
        SqliteStore(EventsConfig(path=str(path)))


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("watches, impressions" * 100)
    for path in (tmp_path / "text", tmp_path, tmp_path / "nowhere" / "events.sqlite"):
        with pytest.raises(StoreError, match="a file that can be opened"):
            SqliteStore(EventsConfig(path=str(path)))


def test_a_file_that_another_process_holds_is_waited_for_only_so_long(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    store = SqliteStore(EventsConfig(path=str(path), write_timeout_ms=50))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="SQLITE_BUSY"):
        store.append([watch("w")])
    assert not store.past_of(1, since_ms=0, until_ms=10**15), "readers do not wait"
    other.execute("ROLLBACK")
    other.close()
    assert store.append([watch("w")]).num_accepted == 1
    assert store.past_of(1, since_ms=0, until_ms=10**15).watched == [1]
    store.close()


@pytest.mark.parametrize(
    "settings", [{"key_prefix": "a:b"}, {"store": "redis", "url": "http://:s3cret@nowhere"}]
)
def test_a_config_that_no_store_understands_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        open_store(EventsConfig(**settings))  # type: ignore[arg-type]
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("name", ["retention_days", "max_past_events", "write_timeout_ms"])
def test_a_config_has_bounds(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        EventsConfig(**{name: 0})  # type: ignore[arg-type]


FILLING = """
import json, resource, signal, sys
from upnext.errors import StoreError
from upnext.events.config import EventsConfig
from upnext.events.event import ServedItem, ServedPage, WatchEvent
from upnext.events.sqlite import SqliteStore

path, at_ms = json.loads(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(EventsConfig(path=path, pages_wait_ms=60_000))


def append(number):
    events = [
        WatchEvent(
            event_id=f"{number}-{half}", user_id=number % 7, item_id="x" * 200,
            started_at_ms=at_ms, watch_time_s=1.0,
        )
        for half in range(10)
    ]
    store.append(events)


limits = resource.getrlimit(resource.RLIMIT_FSIZE)
acknowledged, refused = [], []
for room in (150_000, 400_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    while len(refused) % 3 < 2:
        number = len(acknowledged) + len(refused)
        try:
            append(number)
            acknowledged.append(number)
        except StoreError as error:
            refused.append(number)
    one = ServedItem(item_id="x" * 200)
    page = dict(user_id=1, served_at_ms=at_ms, release="1", label="stable", items=[one] * 5_000)
    store.log_pages([ServedPage(request_id="r", **page)])
    try:
        store.check()
    except StoreError:
        refused.append(-1)
    assert len(store.past_of(1, since_ms=0, until_ms=at_ms + 1).watched) > 0
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
append(1_000_000)
acknowledged.append(1_000_000)
print(json.dumps([acknowledged, refused, store.num_lost_pages]))
store.close()
"""


def test_a_full_disk_refuses_events_and_loses_none(tmp_path: Path) -> None:
    path, at_ms = str(tmp_path / "events.sqlite"), time.time_ns() // 10**6
    done = subprocess.run(
        [sys.executable, "-c", FILLING, json.dumps([path, at_ms])],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    acknowledged, refused, num_lost_pages = json.loads(done.stdout)
    assert len(refused) == 6
    assert num_lost_pages == 2
    store = SqliteStore(EventsConfig(path=path))
    found = {event.event_id for user in store.users() for event in user.watches}
    assert found == {f"{number}-{half}" for number in acknowledged for half in range(10)}
    with store._reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store.close()
