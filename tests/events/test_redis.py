"""What only a Redis can do to a live store: die, hang, and not keep what it was given."""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from upnext.errors import StoreError
from upnext.events.config import EventsConfig
from upnext.events.event import ServedItem, ServedPage, WatchEvent
from upnext.events.redis import RedisStore
from upnext.events.store import open_store
from upnext.schema import LivePast

if TYPE_CHECKING:
    from tests.conftest import RedisServer

NOW_MS = 1_790_000_000_000
DEADLINE_S = 60.0
PAGE = ServedPage(
    request_id="r",
    user_id="ann",
    served_at_ms=NOW_MS,
    release="3",
    label="stable",
    items=[ServedItem(item_id="a")],
)


def opened(config: EventsConfig) -> RedisStore:
    return RedisStore(config, now_ms=lambda: NOW_MS)


def watch(event_id: str) -> WatchEvent:
    return WatchEvent(
        event_id=event_id, user_id="ann", item_id="a", started_at_ms=NOW_MS, watch_time_s=1.5
    )


def past(store: RedisStore) -> LivePast:
    return store.past_of("ann", since_ms=0, until_ms=NOW_MS + 1)


def test_what_was_acknowledged_is_there_once_after_redis_was_killed(
    own_redis: "RedisServer",
) -> None:
    config = EventsConfig(store="redis", url=own_redis.url, read_timeout_ms=5_000)
    store = opened(config)
    acknowledged: set[str] = set()
    for attempt in range(3):
        killer = threading.Timer(0.1 + 0.1 * attempt, own_redis.kill)
        killer.start()
        for number in count():
            try:
                store.append([watch(f"{attempt}-{number}-{half}") for half in "ab"])
            except StoreError:
                break
            acknowledged |= {f"{attempt}-{number}-{half}" for half in "ab"}
        killer.join()
        own_redis.start()
    found = [event.event_id for user in store.users() for event in user.watches]
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    assert len([one for one in found if one.endswith("a")]) * 2 == len(found)
    store.close()


def test_a_redis_that_hangs_or_is_gone_is_an_error_and_then_forgotten(
    own_redis: "RedisServer",
) -> None:
    config = EventsConfig(
        store="redis", url=own_redis.url, read_timeout_ms=1_000, write_timeout_ms=1_000
    )
    store = opened(config)
    store.append([watch("w")])
    own_redis.process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreError, match="Timeout"):
        past(store)
    with pytest.raises(StoreError, match="Timeout"):
        store.check()
    own_redis.process.send_signal(signal.SIGCONT)
    deadline_s = time.monotonic() + DEADLINE_S
    while not succeeds(store.check):
        assert time.monotonic() < deadline_s
    assert past(store).watched == ["a"]

    own_redis.kill()
    store.log_pages([PAGE])
    for call in (lambda: past(store), store.check, lambda: store.append([watch("w2")])):
        with pytest.raises(StoreError, match=r"redis at 127\.0\.0\.1"):
            call()
    assert store.num_lost_pages == 1
    own_redis.start()
    assert past(store).watched == ["a"]
    assert store.append([watch("w2")]).num_accepted == 1
    store.close()


def succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except StoreError:
        return False
    return True


def test_a_redis_that_may_lose_events_is_refused(own_redis: "RedisServer") -> None:
    config = EventsConfig(store="redis", url=own_redis.url)
    admin: Redis = Redis.from_url(own_redis.url)
    admin.config_set("appendfsync", "everysec")
    with pytest.raises(StoreError, match="appendfsync everysec"):
        open_store(config)
    open_store(replace(config, trust_durability=True)).close()

    admin.config_set("appendfsync", "always")
    admin.config_set("maxmemory", 10**9)
    admin.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreError, match="maxmemory-policy allkeys-lru"):
        open_store(config)
    admin.config_set("maxmemory-policy", "noeviction")
    open_store(config).close()

    may = {"keys": ["*"], "commands": ["+@all", "-config"]}
    admin.acl_setuser("guest", enabled=True, passwords=["+s3cret"], **may)  # type: ignore[arg-type]
    guest = replace(config, url=own_redis.url.replace("//", "//guest:s3cret@"))
    with pytest.raises(StoreError, match="trust_durability = true") as refused:
        open_store(guest)
    assert "s3cret" not in f"{refused.value}{guest}"
    open_store(replace(guest, trust_durability=True)).close()

    admin.set("upnext:format", 2)
    with pytest.raises(StoreError, match="expected format 1, got 2"):
        open_store(config)
    admin.close()
