"""One list of behaviours that every live store must show, on a file and on a real Redis."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upnext.errors import RequestError, StoreError
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
from upnext.events.redis import RedisStore
from upnext.events.sqlite import SqliteStore
from upnext.events.store import Appended, EventStore
from upnext.schema import MS_PER_DAY, Id, LivePast

if TYPE_CHECKING:
    from tests.conftest import RedisServer

NOW_MS = 1_790_000_000_000
FOR_EVER_DAYS = 40_000.0
DEADLINE_S = 60.0


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)


@dataclass
class Places:
    """Where stores may be: new ones, and those there are already."""

    kind: str
    directory: Path
    redis: "RedisServer | None"
    opened: list[EventStore] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def new(self, **settings: object) -> EventsConfig:
        """A place that nobody has used yet; nothing is ever forgotten there, unless told."""
        name = f"store-{next(self.numbers)}-{os.urandom(4).hex()}"
        kept = {"retention_days": FOR_EVER_DAYS, "pages_wait_ms": 0} | settings
        if self.kind == "sqlite":
            return EventsConfig(path=str(self.directory / name), **kept)  # type: ignore[arg-type]
        assert self.redis is not None
        slow = {"read_timeout_ms": 5_000, "write_timeout_ms": 5_000} | kept
        return EventsConfig(store="redis", url=self.redis.url, key_prefix=name, **slow)  # type: ignore[arg-type]

    def open(self, config: EventsConfig, now_ms: Callable[[], int] = lambda: NOW_MS) -> EventStore:
        store: EventStore = (
            SqliteStore(config, now_ms=now_ms)
            if self.kind == "sqlite"
            else RedisStore(config, now_ms=now_ms)
        )
        self.opened.append(store)
        return store


@pytest.fixture(params=["sqlite", "redis"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    redis = request.getfixturevalue("redis_server") if request.param == "redis" else None
    there = Places(request.param, tmp_path, redis)
    yield there
    for store in there.opened:
        store.close()


def watch(
    event_id: str, user_id: Id = "ann", at_ms: int = NOW_MS - 1, **more: object
) -> WatchEvent:
    about = {"item_id": "a", "watch_time_s": 1.5} | more
    return WatchEvent(event_id=event_id, user_id=user_id, started_at_ms=at_ms, **about)  # type: ignore[arg-type]


def impression(event_id: str, request_id: str | None = None, **more: object) -> ImpressionEvent:
    about = {"user_id": "ann", "item_id": "a", "shown_at_ms": NOW_MS - 1, "position": 0} | more
    return ImpressionEvent(event_id=event_id, request_id=request_id, **about)  # type: ignore[arg-type]


def page(request_id: str, *items: Id, user_id: Id = "ann", at_ms: int = NOW_MS - 9) -> ServedPage:
    slots = [ServedItem(item_id=one, source="fresh", propensity=0.25) for one in items]
    return ServedPage(
        request_id=request_id,
        user_id=user_id,
        served_at_ms=at_ms,
        release="3",
        label="stable",
        items=slots,
    )


def past(store: EventStore, user_id: Id = "ann", **window: int) -> LivePast:
    return store.past_of(user_id, **({"since_ms": 0, "until_ms": NOW_MS} | window))


def everything(store: EventStore) -> list[Event]:
    found: list[Event] = []
    for user in store.users():
        found += [*user.watches, *user.impressions, *user.searches]
    return found


# What any history of calls must come to, told by a model in plain Python.


@dataclass
class Model:
    """What a store should answer, in the plainest words."""

    max_events: int
    max_pages: int
    events: dict[str, Event] = field(default_factory=dict)
    pages: dict[tuple[Id, int, str], ServedPage] = field(default_factory=dict)

    def append(self, batch: Sequence[Event]) -> Appended:
        num_before = len(self.events)
        for event in batch:
            self.events.setdefault(event.event_id, event)
        num_accepted = len(self.events) - num_before
        return Appended(num_accepted=num_accepted, num_duplicates=len(batch) - num_accepted)

    def log(self, one: ServedPage) -> None:
        self.pages.setdefault((one.user_id, one.served_at_ms, one.request_id), one)

    def past_of(self, user_id: Id, since_ms: int, until_ms: int) -> LivePast:
        def newest(kind: type, most: int) -> list[Any]:
            there = [
                event
                for event in self.events.values()
                if type(event) is kind
                and same(event.user_id, user_id)
                and since_ms <= event.at_ms < until_ms
            ]
            return sorted(there, key=lambda event: (event.at_ms, event.event_id))[-most:]

        watches = newest(WatchEvent, self.max_events)
        searches = newest(SearchEvent, self.max_events)
        shown = [
            (at_ms, item.item_id)
            for (at_ms, _), one in self._pages_of(user_id, since_ms, until_ms)
            if not self._has_posted(one)
            for item in one.items
        ]
        posted = newest(ImpressionEvent, self.max_events)
        shown += [(event.shown_at_ms, event.item_id) for event in posted]
        shown = sorted(shown, key=lambda one: one[0])[-self.max_events :]
        longest: dict[tuple[int, str], WatchEvent] = {}
        for event in reversed(watches):
            there = longest.setdefault((event.at_ms, str(event.item_id)), event)
            if there.watch_time_s < event.watch_time_s:
                longest[event.at_ms, str(event.item_id)] = event
        told = [*longest.values()][::-1]
        return LivePast(
            watched=[event.item_id for event in told],
            started_at_ms=[event.started_at_ms for event in told],
            watch_time_s=[event.watch_time_s for event in told],
            shown=[item_id for _, item_id in shown],
            shown_at_ms=[at_ms for at_ms, _ in shown],
            searched=[event.query for event in searches],
            searched_at_ms=[event.searched_at_ms for event in searches],
        )

    def _pages_of(
        self, user_id: Id, since_ms: int, until_ms: int
    ) -> list[tuple[tuple[int, str], ServedPage]]:
        there = [
            ((at_ms, request_id), one)
            for (user, at_ms, request_id), one in self.pages.items()
            if same(user, user_id) and since_ms <= at_ms < until_ms
        ]
        return sorted(there, key=lambda one: one[0])[-self.max_pages :]

    def _has_posted(self, one: ServedPage) -> bool:
        return any(
            isinstance(event, ImpressionEvent)
            and event.request_id == one.request_id
            and same(event.user_id, one.user_id)
            for event in self.events.values()
        )


def same(one: Id, other: Id) -> bool:
    return type(one) is type(other) and one == other


USERS: tuple[Id, ...] = (7, "7", "zoë", -(2**63))
ITEMS: tuple[Id, ...] = (1, "1", 'a"\\b\n', "ß,[]", 2**63 - 1)
users, items = st.sampled_from(USERS), st.sampled_from(ITEMS)
event_ids = st.sampled_from([f"e {number}" for number in range(25)])
requests = st.sampled_from(["r1", "r2", "r3"])
times_ms = st.integers(NOW_MS - 5, NOW_MS + 2)
milliseconds = st.integers(0, 86_400_000).map(lambda number: number / 1_000)
watches = st.builds(
    WatchEvent,
    event_id=event_ids,
    user_id=users,
    item_id=items,
    started_at_ms=times_ms,
    watch_time_s=milliseconds,
    request_id=st.none() | requests,
)
impressions = st.builds(
    ImpressionEvent,
    event_id=event_ids,
    user_id=users,
    item_id=items,
    shown_at_ms=times_ms,
    position=st.integers(0, 20),
    request_id=st.none() | requests,
)
searches = st.builds(
    SearchEvent,
    event_id=event_ids,
    user_id=users,
    searched_at_ms=times_ms,
    query=st.text(st.characters(codec="utf-8", exclude_characters="\0\ufffd"), min_size=1),
)
batches = st.lists(watches | impressions | searches, max_size=8)
pages = st.builds(
    lambda user_id, request_id, at_ms, items: page(
        request_id, *items, user_id=user_id, at_ms=at_ms
    ),
    users,
    requests,
    times_ms,
    st.lists(items, min_size=1, max_size=4),
)
thorough = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def lists(past: LivePast) -> dict[str, list[Any]]:
    """What is known of somebody, whatever kinds of sequences hold it."""
    return {name: list(told) for name, told in asdict(past).items()}


@thorough
@given(
    calls=st.lists(batches | pages, max_size=8),
    max_events=st.integers(1, 6),
    max_pages=st.integers(1, 3),
    since_ms=times_ms,
    until_ms=times_ms,
)
def test_any_history_of_calls_answers_as_the_model(
    places: Places,
    calls: list[list[Event] | ServedPage],
    max_events: int,
    max_pages: int,
    since_ms: int,
    until_ms: int,
) -> None:
    store = places.open(places.new(max_past_events=max_events, max_past_pages=max_pages))
    model = Model(max_events, max_pages)
    for call in calls:
        if isinstance(call, ServedPage):
            store.log_pages([call])
            model.log(call)
        else:
            assert store.append(call) == model.append(call)
    store.check()
    for user_id in USERS:
        window = {"since_ms": since_ms, "until_ms": until_ms}
        assert lists(store.past_of(user_id, **window)) == lists(model.past_of(user_id, **window))
    assert {event.event_id: event for event in everything(store)} == model.events
    assert len(everything(store)) == len(model.events)
    logged = [one for user in store.users() for one in user.pages]
    assert sorted(map(repr, logged)) == sorted(map(repr, model.pages.values()))
    store.close()


@thorough
@given(
    all_batches=st.lists(batches, max_size=6),
    order=st.randoms(use_true_random=False),
    num_threads=st.integers(1, 4),
)
def test_each_event_is_there_once_however_often_and_by_whom_it_was_sent(
    places: Places, all_batches: list[list[Event]], order: random.Random, num_threads: int
) -> None:
    store = places.open(places.new())
    sent = all_batches * 2
    order.shuffle(sent)
    with ThreadPoolExecutor(num_threads) as pool:
        results = list(pool.map(store.append, sent))
    found = everything(store)
    by_id: dict[str, list[Event]] = {}
    for event in (event for batch in all_batches for event in batch):
        by_id.setdefault(event.event_id, []).append(event)
    assert sorted(event.event_id for event in found) == sorted(by_id)
    assert all(event in by_id[event.event_id] for event in found)
    assert sum(result.num_accepted for result in results) == len(by_id)
    num_sent = sum(map(len, sent))
    assert sum(result.num_duplicates for result in results) == num_sent - len(by_id)
    store.close()


def test_what_is_closed_has_kept_its_pages_and_is_opened_as_it_was(places: Places) -> None:
    config = places.new(pages_wait_ms=60_000)
    store = places.open(config)
    store.append([watch("w")])
    store.log_pages([page("r", "a", "b"), page("r2", "c")])
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append([watch("late")])
    with pytest.raises(StoreError, match="closed"):
        past(store)
    store.log_pages([page("r3", "late")])
    assert store.num_lost_pages == 1

    again = places.open(config)
    assert past(again).watched == ["a"]
    assert past(again).shown == ["a", "b", "c"]
    assert again.append([watch("w")]) == Appended(num_accepted=0, num_duplicates=1)


def test_pages_wait_for_nobody_and_go_with_the_next_events(places: Places) -> None:
    store = places.open(places.new(pages_wait_ms=60_000))
    store.log_pages([page("r", "a")])
    store.append([watch("w")])
    assert past(store).shown == ["a"]


def test_a_watch_that_is_told_while_it_runs_is_one_watch_of_the_past(places: Places) -> None:
    """As it is one line of the logs, and so one watch of the histories that training saw."""
    store = places.open(places.new())
    for number, seconds in enumerate((10.0, 30.0, 20.0)):
        store.append([watch(f"e{number}", item_id="a", watch_time_s=seconds)])
    store.append([watch("e3", item_id="b", watch_time_s=5.0)])
    told = past(store)
    assert sorted(zip(told.watched, told.watch_time_s, strict=True)) == [("a", 30.0), ("b", 5.0)]
    assert len(told.started_at_ms) == 2


def test_impressions_take_the_place_of_their_page_whichever_comes_first(places: Places) -> None:
    store = places.open(places.new())
    store.log_pages([page("r1", "a", "b", "c"), page("r2", "d")])
    store.append([impression("i1", "r1", item_id="b")])
    store.append([impression("i2", "r3", item_id="f")])
    store.log_pages([page("r3", "e", "f")])
    store.append([impression("i3", "r2", user_id="ben", item_id="d")])
    store.check()
    assert past(store).shown == ["d", "b", "f"], "another user's impressions are not of this page"
    assert past(store, "ben").shown == ["d"]


def test_old_events_are_refused_and_forgotten_days_later(places: Places) -> None:
    clock = [NOW_MS]
    store = places.open(places.new(retention_days=10.0), lambda: clock[0])
    noon_ms = NOW_MS // MS_PER_DAY * MS_PER_DAY + MS_PER_DAY // 2
    for user_id in range(50):
        store.append([watch(f"old {user_id}", user_id, noon_ms - 9 * MS_PER_DAY)])
    store.append([watch("new", 3, noon_ms), impression("i", "r", shown_at_ms=noon_ms)])
    for days in (-11, 2):
        with pytest.raises(RequestError, match=r"events\[1\].*kept for 10 days|events\[1\]"):
            store.append([watch("good"), watch("untimely", at_ms=NOW_MS + days * MS_PER_DAY)])
    assert past(store).watched == [], "no event of a refused batch is taken"
    assert len(list(store.users())) == 51

    clock[0] += 3 * MS_PER_DAY
    with pytest.raises(RequestError, match="events"):
        store.append([watch("old 0", 0, noon_ms - 9 * MS_PER_DAY)])

    def is_forgotten() -> bool:
        store.check()
        return len(list(store.users())) == 2

    wait_until(is_forgotten)
    kept_since_ms = store.kept_since_ms()
    assert kept_since_ms is not None
    assert kept_since_ms % MS_PER_DAY == 0
    assert noon_ms - 9 * MS_PER_DAY < kept_since_ms <= noon_ms - 7 * MS_PER_DAY
    assert past(store, 3, until_ms=clock[0]).watched == ["a"]
    assert store.append([watch("new", 3, noon_ms)]).num_duplicates == 1


def test_both_stores_collect_the_same_bytes(places: Places, tmp_path: Path) -> None:
    store = places.open(places.new())
    twin = SqliteStore(replace(places.new(), store="sqlite", path=str(tmp_path / "twin")))
    for one in (store, twin):
        if one is twin:
            one.log_pages([page(f"r{n}", n, n + 1, user_id=f"u{n % 3}") for n in range(9)])
        else:
            one.log_pages(
                [page(f"r{n}", n, n + 1, user_id=f"u{n % 3}") for n in reversed(range(9))]
            )
        one.append([watch(f"w{n}", f"u{n % 3}", NOW_MS - n, item_id=n) for n in range(9)])
        one.check()
        collect(one, tmp_path / str(one is twin), until_ms=NOW_MS, watched_within_ms=0)
    twin.close()
    written = [
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.parquet")}
        for name in ("True", "False")
    ]
    assert written[0] == written[1]
    assert len(written[0]) > 0


# Other processes: they append as well, and they are killed.

APPENDING = """
import json, sys
from upnext.config import config_from_table
from upnext.events.config import EventsConfig
from upnext.events.event import WatchEvent
from upnext.events.store import open_store

config, name, num_events, at_ms = json.loads(sys.argv[1])
store = open_store(config_from_table(config, EventsConfig, where="test"))
print("open", flush=True)
for number in range(num_events):
    mine = f"{name}-{number}"
    events = [
        WatchEvent(
            event_id=event_id, user_id=number % 7, item_id=number, started_at_ms=at_ms,
            watch_time_s=1.0,
        )
        for event_id in (mine, f"shared-{number}")
    ]
    store.append(events)
    print(mine, flush=True)
store.close()
"""


def appending(config: EventsConfig, name: str, num_events: int) -> "subprocess.Popen[str]":
    said = json.dumps([asdict(config), name, num_events, time.time_ns() // 10**6])
    return subprocess.Popen(
        [sys.executable, "-c", APPENDING, said], stdout=subprocess.PIPE, text=True
    )


def test_processes_append_at_once(places: Places) -> None:
    config = places.new()
    processes = [appending(config, name, 60) for name in ("p", "q", "r")]
    for process in processes:
        assert process.communicate(timeout=DEADLINE_S)[0].count("\n") == 61
        assert process.returncode == 0
    found = [event.event_id for event in everything(open_here(places, config))]
    wanted = [f"{name}-{number}" for name in ("p", "q", "r", "shared") for number in range(60)]
    assert sorted(found) == sorted(wanted)


def test_what_was_acknowledged_is_there_once_after_kill_9(places: Places) -> None:
    config = places.new()
    drawn = random.Random(0)
    acknowledged = set()
    for attempt in range(4):
        process = appending(config, f"k{attempt}", 100_000)
        assert process.stdout is not None
        for _ in range(drawn.randrange(1, 60)):
            acknowledged.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
        process.wait()
        process.stdout.close()
    acknowledged.discard("open")
    found = [event.event_id for event in everything(open_here(places, config))]
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    per_attempt = [sum(one.startswith(f"k{attempt}-") for one in found) for attempt in range(4)]
    num_shared = sum(one.startswith("shared") for one in found)
    assert num_shared == max(per_attempt), "a batch is there whole or not at all"


def open_here(places: Places, config: EventsConfig) -> EventStore:
    return places.open(config, lambda: time.time_ns() // 10**6)
