"""Opens a release for serving: memory is checked, files are verified, every kind of request tried.

What the first requests after a start would wait for (pages read from disk, memory that networks
take, code that is compiled on first use) is done here; and a release that cannot answer is found
out before a label points at it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from upnext.errors import ReleaseError
from upnext.recommender.recommender import Recommender
from upnext.registry.memory import require_memory
from upnext.registry.release import Release, open_release
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


def open_warm(
    registry: Path, version: int, *, num_threads: int = 1, max_batch: int = MAX_BATCH
) -> Recommender:
    """A recommender that has answered requests of every kind.

    Args:
        num_threads: threads of each network.
        max_batch: requests that will be answered at once. Networks take memory for it and keep it.

    Raises: ReleaseError: there is no such release, it does not fit into memory, it is damaged, or
        a stage fails on one of the requests.
    """
    release = open_release(registry, version, verify=False)
    require_memory(release, max_batch=max_batch)
    recommender = Recommender.open(registry, version, num_threads=num_threads)
    num_tried = warm_up(recommender, recorded_requests(release), max_batch=max_batch)
    return replace(recommender, num_tried=num_tried)


def warm_up(
    recommender: Recommender,
    recorded: Sequence[RecommendationRequest] = (),
    *,
    max_batch: int = MAX_BATCH,
) -> int:
    """Has recorded requests answered, and a set of every kind, made up from the release itself.

    First one by one, then 2, 4, 8 … and `max_batch` at once.

    Returns: how many requests that were.

    Raises: ReleaseError: a stage failed, of which a server would say `degraded`.
    """
    requests = [*recorded, *made_up_requests(recommender)]
    for request in requests:
        _answer(recommender, [request])
    powers = (1 << power for power in range(1, max_batch.bit_length() + 1))
    sizes = sorted({min(power, max_batch) for power in powers})
    for size in sizes:
        _answer(recommender, [requests[place % len(requests)] for place in range(size)])
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


def _answer(recommender: Recommender, requests: Sequence[RecommendationRequest]) -> None:
    live: list[LivePast | None] = [None] * len(requests)
    for answer in recommender.recommend_all(requests, live):
        if failures := [cause for cause in answer.degraded if " failed (" in cause]:
            raise ReleaseError(
                f"release {recommender.version}",
                expected="that every stage answers",
                got="; ".join(failures),
                hint="the log says why.",
            )
