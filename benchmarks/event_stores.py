"""How fast is a live store: events made durable, a user's past read?

    python benchmarks/event_stores.py events.sqlite
    python benchmarks/event_stores.py redis://127.0.0.1:6379/0

Appends one event at a time from 1 and from 16 threads, each waiting until its event is durable, and
one batch of 2,000. Then reads pasts of 200 watches and 500 items shown, of 200 users in turn: items
that clients posted impressions of, and items of served pages. A new file, or keys of their own.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import numpy as np
from numpy.typing import NDArray

from upnext.events.config import EventsConfig
from upnext.events.event import Event, ImpressionEvent, ServedItem, ServedPage, WatchEvent
from upnext.events.store import EventStore, open_store

NUM_USERS, NUM_WATCHES, NUM_SHOWN, PAGE_SIZE = 200, 200, 500, 10
NOW_MS = time.time_ns() // 10**6
numbers = count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="a new file, or the URL of a Redis")
    place = parser.parse_args().store
    config = EventsConfig(path=place)
    if "://" in place:
        prefix = f"benchmark-{os.getpid()}"
        config = EventsConfig(store="redis", url=place, key_prefix=prefix, read_timeout_ms=1_000)
    elif os.path.exists(place):
        sys.exit(f"{place} is there already")
    store = open_store(config)
    for num_threads in (1, 16):
        appends(store, num_threads)
    took_ms = milliseconds(lambda: store.append([watch("crowd") for _ in range(2_000)]))
    print(f"one batch of 2,000 events: {took_ms:.1f} ms")
    fill(store)
    for kind in ("posted", "served"):
        pasts(store, kind)
    took_ms = milliseconds(lambda: sum(len(user.watches) for user in store.users()))
    num_events = NUM_USERS * 2 * (NUM_WATCHES + NUM_SHOWN)
    print(f"everything, about {num_events:,} events: {took_ms / 1_000:.2f} s")
    store.close()


def appends(store: EventStore, num_threads: int, num_each: int = 400) -> None:
    def work(_: int) -> list[float]:
        events = [[watch("crowd")] for _ in range(num_each)]
        return [milliseconds(partial(store.append, batch)) for batch in events]

    began_s = time.perf_counter()
    with ThreadPoolExecutor(num_threads) as pool:
        took_ms = np.concatenate(list(pool.map(work, range(num_threads))))
    rate = num_threads * num_each / (time.perf_counter() - began_s)
    print(f"{num_threads} threads: {rate:,.0f} appends/s, {spread(took_ms)} ms each")


def fill(store: EventStore) -> None:
    for number in range(NUM_USERS):
        for kind in ("posted", "served"):
            user_id = f"{kind} {number}"
            watches: list[Event] = [watch(user_id, ago_s) for ago_s in range(NUM_WATCHES)]
            store.append(watches)
        store.append([impression(f"posted {number}", place) for place in range(NUM_SHOWN)])
        store.log_pages([page(f"served {number}", n) for n in range(NUM_SHOWN // PAGE_SIZE)])
    store.check()


def pasts(store: EventStore, kind: str) -> None:
    took_ms = np.zeros(2_000)
    for turn in range(len(took_ms)):
        user_id = f"{kind} {turn % NUM_USERS}"
        began_s = time.perf_counter()
        past = store.past_of(user_id, since_ms=0, until_ms=NOW_MS + 1)
        took_ms[turn] = 1_000 * (time.perf_counter() - began_s)
        assert (len(past.watched), len(past.shown)) == (NUM_WATCHES, NUM_SHOWN)
    print(f"a past, {NUM_WATCHES} watches and {NUM_SHOWN} {kind}: {spread(took_ms)} ms")


def watch(user_id: str, ago_s: int = 0) -> WatchEvent:
    number = next(numbers)
    return WatchEvent(
        event_id=f"event-{number:032x}",
        user_id=user_id,
        item_id=f"item-{number % 5_000:05}",
        started_at_ms=NOW_MS - 1_000 * ago_s,
        watch_time_s=31.25,
    )


def impression(user_id: str, place: int) -> ImpressionEvent:
    number = next(numbers)
    return ImpressionEvent(
        event_id=f"event-{number:032x}",
        user_id=user_id,
        item_id=f"item-{number % 5_000:05}",
        shown_at_ms=NOW_MS - 1_000 * place,
        position=place % PAGE_SIZE,
        request_id=f"request-{user_id}-{place // PAGE_SIZE:016x}",
    )


def page(user_id: str, number: int) -> ServedPage:
    items = [ServedItem(item_id=f"item-{slot:05}", source="retrieval") for slot in range(PAGE_SIZE)]
    return ServedPage(
        request_id=f"request-{user_id}-{number:016x}",
        user_id=user_id,
        served_at_ms=NOW_MS - 1_000 * number,
        release="1",
        label="stable",
        items=items,
    )


def milliseconds(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return 1_000 * (time.perf_counter() - began_s)


def spread(took_ms: NDArray[np.float64]) -> str:
    low, high = np.percentile(took_ms, [50, 99])
    return f"{low:.2f} (99%: {high:.2f})"


if __name__ == "__main__":
    main()
