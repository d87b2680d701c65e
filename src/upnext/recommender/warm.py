"""Opens a release for serving: memory is checked, files are verified, every kind of request tried.

What the first requests after a start would wait for (pages read from disk, memory that networks
take, code that is compiled on first use) is done here; and a release that cannot answer is found
out before a label points at it.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from upnext.errors import ReleaseError
from upnext.recommender.recommender import REST, Recommender
from upnext.registry.memory import require_memory
from upnext.registry.release import Release, open_release
from upnext.registry.turns import alone
from upnext.registry.verified import verify_once
from upnext.schema import (
    NUM_RESERVED_ROWS,
    ItemRules,
    LivePast,
    PageOptions,
    PastWatch,
    RecommendationRequest,
)

RECORDED = "warm_up/requests.json"
"""Where a release may keep requests to be tried: a JSON list of `RecommendationRequest`."""
MAX_BATCH = 8
"""Requests that are answered at once, unless the server says otherwise."""

_NUM_KNOWN = 8


class OpensWarm:
    """Opens the releases of one server process: the first at once, as nobody is answered yet, and
    those after it in turn with the other processes of the machine, so that half of its cores are
    left to answers, and with rests, in which answers have the process to themselves.

    `max_batch`: requests that the server answers at once.
    """

    def __init__(self, registry: Path, *, max_batch: int) -> None:
        self._registry, self._max_batch = registry, max_batch
        self._answers = False

    def __call__(self, version: int) -> Recommender:
        """As `open_warm`."""
        with self._turn() if self._answers else contextlib.nullcontext():
            rest = REST if self._answers else 0.0
            opened = open_warm(self._registry, version, max_batch=self._max_batch, rest=rest)
        self._answers = True
        return opened

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        at_once = max(1, _num_cores() // 2)
        return alone(self._registry, f"loading{os.getpid() % at_once}")


def _num_cores() -> int:
    """That this process may use, where the system tells (Linux), or that there are."""
    may_use = getattr(os, "sched_getaffinity", None)
    return len(may_use(0)) if may_use else os.cpu_count() or 1


def open_warm(
    registry: Path,
    version: int,
    *,
    num_threads: int = 1,
    max_batch: int = MAX_BATCH,
    rest: float = 0.0,
) -> Recommender:
    """A recommender that has answered requests of every kind.

    Its files are hashed, unless another process of this machine has just done so.

    Args:
        num_threads: threads of each network.
        max_batch: requests that will be answered at once. Networks take memory for it and keep it.
        rest: seconds of rest after each second of trying.

    Raises: ReleaseError: there is no such release, it does not fit into memory, it is damaged, or
        a stage fails on one of the requests.
    """
    release = open_release(registry, version, verify=False)
    require_memory(release, max_batch=max_batch)
    verify_once(registry, release)
    recommender = Recommender.open(registry, version, verify=False, num_threads=num_threads)
    recorded = recorded_requests(release)
    num_tried = warm_up(recommender, recorded, max_batch=max_batch, rest=rest)
    return replace(recommender, num_tried=num_tried)


def warm_up(
    recommender: Recommender,
    recorded: Sequence[RecommendationRequest] = (),
    *,
    max_batch: int = MAX_BATCH,
    rest: float = 0.0,
) -> int:
    """Has recorded requests answered, and a set of every kind, made up from the release itself.

    First one by one, then 2, 4, 8 … and `max_batch` at once.

    Returns: how many requests that were.

    Raises: ReleaseError: a stage failed, of which a server would say `degraded`.
    """
    for counts in (recommender.history.item_counts, recommender.history.channel_counts):
        with _resting(rest):
            counts.work_out()
    requests = [*recorded, *made_up_requests(recommender)]
    for request in requests:
        _answer(recommender, [request], rest)
    powers = (1 << power for power in range(1, max_batch.bit_length() + 1))
    sizes = sorted({min(power, max_batch) for power in powers})
    for size in sizes:
        _answer(recommender, [requests[place % len(requests)] for place in range(size)], rest)
    return len(requests) + sum(sizes)


def recorded_requests(release: Release) -> list[RecommendationRequest]:
    """The requests that a release brings along to be tried; none where it brings none.

    Raises: ReleaseError: they are no requests.
    """
    if RECORDED not in release.files:
        return []
    try:
        return msgspec.convert(release.json(RECORDED), list[RecommendationRequest])
    except msgspec.ValidationError as error:
        where = f"release {release.version}, {RECORDED}"
        raise ReleaseError(where, expected="a list of requests", got=str(error)) from None


def made_up_requests(recommender: Recommender) -> list[RecommendationRequest]:
    """Known and unknown users, with and without a history, on pages of every kind."""
    catalogue, users = recommender.encoder.catalogue, recommender.users
    num_items = min(_NUM_KNOWN, catalogue.num_rows - NUM_RESERVED_ROWS)
    num_users = min(_NUM_KNOWN, users.num_rows - NUM_RESERVED_ROWS)
    items = [catalogue.items.id(NUM_RESERVED_ROWS + place) for place in range(num_items)]
    known = [
        RecommendationRequest(user_id=users.id(NUM_RESERVED_ROWS + place))
        for place in range(num_users)
    ]
    watched = RecommendationRequest(history=[PastWatch(item_id=item) for item in items])
    anybody = (known or [watched])[0]
    return [
        RecommendationRequest(),
        *known,
        watched,
        replace(watched, searches=["a query"], exclude_watched=False),
        replace(anybody, k=1),
        replace(anybody, k=100),
        replace(anybody, page=PageOptions(diversity=0.3, max_per_channel=3, seed=0)),
        replace(anybody, page=PageOptions(num_fresh=1, num_explored=2, seed=0)),
        replace(anybody, rules=ItemRules(blocked_items=items[:1], min_duration_s=0.0)),
        replace(anybody, k=2, num_reasons=1),
    ]


def _answer(
    recommender: Recommender, requests: Sequence[RecommendationRequest], rest: float
) -> None:
    live: list[LivePast | None] = [None] * len(requests)
    with _resting(rest):
        answers = recommender.recommend_all(requests, live)
    for answer in answers:
        if failures := [cause for cause in answer.degraded if " failed (" in cause]:
            raise ReleaseError(
                f"release {recommender.version}",
                expected="that every stage answers",
                got="; ".join(failures),
                hint="the log says why.",
            )


@contextlib.contextmanager
def _resting(rest: float) -> Iterator[None]:
    """A step of work, after which others have their turn."""
    began_s = time.monotonic()
    yield
    time.sleep(rest * (time.monotonic() - began_s))
