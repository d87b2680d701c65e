"""What a user was shown, and which watch came of it: the labels that ranking learns from.

Ids are text here, as the logs take an integer and the text that writes it for one id.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from upnext.events.event import MAX_WATCH_TIME_S, ServedPage, UserEvents, WatchEvent

Slot = tuple[str, str]
"""A request_id and an item on its page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownItem:
    """One item that was shown; `watch_time_s` is None where it was not watched."""

    request_id: str
    item_id: str
    shown_at_ms: int
    position: int
    source: str | None = None
    propensity: float | None = None
    watch_time_s: float | None = None


def shown_items(user: UserEvents) -> list[ShownItem]:
    """What stood on pages and what clients say was seen, in order of time.

    Of a request that a client posted impressions of, only those count; source and propensity they
    have from the page, by the item. Impressions without a request that were shown at one time are
    one request, `at-` and the time. What was said twice counts once, at its first time.
    """
    pages = {page.request_id: page for page in reversed(user.pages)}
    posted = {impression.request_id for impression in user.impressions}
    slots = [one for page in pages.values() for one in _slots(page)]
    served = {(one.request_id, one.item_id): one for one in reversed(slots)}
    found = [one for one in slots if one.request_id not in posted]
    for impression in user.impressions:
        item_id, request_id = str(impression.item_id), impression.request_id
        slot = served.get((request_id or "", item_id))
        found.append(
            ShownItem(
                request_id=f"at-{impression.shown_at_ms}" if request_id is None else request_id,
                item_id=item_id,
                shown_at_ms=impression.shown_at_ms,
                position=impression.position,
                source=None if slot is None else slot.source,
                propensity=None if slot is None else slot.propensity,
            )
        )
    found.sort(key=lambda one: (one.shown_at_ms, one.request_id, one.position, one.item_id))
    once: dict[tuple[str, str, int], ShownItem] = {}
    for one in found:
        once.setdefault((one.request_id, one.item_id, one.position), one)
    return list(once.values())


def longest_watches(watches: Sequence[WatchEvent]) -> list[WatchEvent]:
    """Each watch once, in order of time: players that tell how far they are send it again, longer.

    Of equally long ones, the one that names its request.
    """
    longest: dict[tuple[str, int], WatchEvent] = {}
    for watch in watches:
        key = (str(watch.item_id), watch.started_at_ms)
        longest[key] = max(longest.get(key, watch), watch, key=_weight)
    return sorted(longest.values(), key=lambda watch: (watch.started_at_ms, watch.event_id))


def credit(
    shown: Sequence[ShownItem], watches: Sequence[WatchEvent], *, within_ms: int
) -> list[ShownItem]:
    """Gives each watch to the one impression that it came of, if any.

    A watch that names a request came of its item there. One that names none came of the last time
    that the item was shown before it, at most `within_ms` before. An impression that several
    watches came of has their sum, at most a day.

    Args:
        shown: in order of time.
        watches: each once.
    """
    by_slot: dict[Slot, list[int]] = {}
    by_item: dict[str, list[int]] = {}
    for place, one in enumerate(shown):
        by_slot.setdefault((one.request_id, one.item_id), []).append(place)
        by_item.setdefault(one.item_id, []).append(place)
    seconds: dict[int, float] = {}
    for watch in watches:
        item_id, at_ms = str(watch.item_id), watch.started_at_ms
        if watch.request_id is None:
            places, first_ms = by_item.get(item_id, []), at_ms - within_ms
        else:
            places, first_ms = by_slot.get((watch.request_id, item_id), []), 0
        last = bisect_right(places, at_ms, key=lambda place: shown[place].shown_at_ms) - 1
        if places and last < 0 and watch.request_id is not None:
            last = 0  # clocks differ; it names the request all the same
        if last >= 0 and shown[places[last]].shown_at_ms >= first_ms:
            total_s = seconds.get(places[last], 0.0) + watch.watch_time_s
            seconds[places[last]] = min(total_s, MAX_WATCH_TIME_S)
    return [replace(one, watch_time_s=seconds.get(place)) for place, one in enumerate(shown)]


def _weight(watch: WatchEvent) -> tuple[float, bool]:
    return watch.watch_time_s, watch.request_id is not None


def _slots(page: ServedPage) -> Iterator[ShownItem]:
    for position, item in enumerate(page.items):
        yield ShownItem(
            request_id=page.request_id,
            item_id=str(item.item_id),
            shown_at_ms=page.served_at_ms,
            position=position,
            source=item.source,
            propensity=item.propensity,
        )
