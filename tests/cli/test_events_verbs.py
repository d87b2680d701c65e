"""`upnext collect`, from the command line."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from upnext.events.config import EventsConfig
from upnext.events.event import WatchEvent
from upnext.events.sqlite import SqliteStore
from upnext.schema import MS_PER_DAY

if TYPE_CHECKING:
    from tests.conftest import Upnext

NOW_MS = time.time_ns() // 10**6


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "events.sqlite"
    opened = SqliteStore(EventsConfig(path=str(path)))
    times_ms = [NOW_MS - 3 * MS_PER_DAY, NOW_MS - 1, NOW_MS + MS_PER_DAY // 2]
    opened.append(
        [
            WatchEvent(
                event_id=str(at_ms),
                user_id="ann",
                item_id="a",
                started_at_ms=at_ms,
                watch_time_s=2.5,
            )
            for at_ms in times_ms
        ]
    )
    opened.close()
    return path


def test_collect_writes_logs_that_check_reads(
    upnext: "Upnext", store: Path, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    ended = upnext("collect", store, logs)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout == "2 watches, 0 impressions and 0 searches in 2 files\n"
    assert upnext("check", logs, "--json").json["tables"]["watches"]["num_accepted"] == 2


def test_since_and_until_choose_what_is_written(
    upnext: "Upnext", store: Path, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    days_ago = str(NOW_MS - 2 * MS_PER_DAY)
    ended = upnext("collect", store, logs, "--until", days_ago, "--json")
    assert json.loads(ended.stdout)["num_watches"] == 1
    ended = upnext("collect", store, logs, "--since", days_ago, "--json")
    assert (ended.json["num_watches"], ended.json["num_left_alone"]) == (1, 1)
    assert pl.read_parquet(logs / "watches" / "*.parquet").height == 2


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nowhere.sqlite", "expected a file of the live store, got none"),
        ("redis://:s3cret@127.0.0.1:1/0", "redis at 127.0.0.1:1"),
    ],
)
def test_a_store_that_is_not_there_is_told(
    upnext: "Upnext", tmp_path: Path, place: str, told: str
) -> None:
    ended = upnext("collect", place, tmp_path / "logs")
    assert ended.status == 1
    assert told in ended.stderr
    assert "s3cret" not in ended.stderr
    assert not (tmp_path / "logs").exists()
