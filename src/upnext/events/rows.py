"""Events and pages as the plain rows that both stores keep, and back."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec

from upnext.events.event import (
    Event,
    ImpressionEvent,
    SearchEvent,
    ServedItem,
    ServedPage,
    UserEvents,
    WatchEvent,
)
from upnext.schema import Id


class Kind(IntEnum):
    """What a row is; the numbers are part of the format."""

    WATCH = 0
    IMPRESSION = 1
    SEARCH = 2
    PAGE = 3


class Row(NamedTuple):
    """Something that happened to a user.

    `event_id`: of a page its request_id. `item`: of a search the query, of a page the JSON list of
    its items. `amount`: milliseconds watched, or the position. `details`: of a page, `PageDetails`.
    """

    kind: int
    at_ms: int
    event_id: str
    item: Id
    amount: int | None = None
    request_id: str | None = None
    details: bytes | None = None


class PageDetails(msgspec.Struct, frozen=True, array_like=True):
    """What only the way back to logs wants of a page; sources and propensities by slot."""

    release: str
    label: str
    sources: Sequence[str | None]
    propensities: Sequence[float | None]


decode_ids = msgspec.json.Decoder(list[Id]).decode
_decode_details = msgspec.msgpack.Decoder(PageDetails).decode


def event_row(event: Event) -> Row:
    """The row of an event."""
    place = (event.at_ms, event.event_id)
    match event:
        case WatchEvent():
            watch_ms = round(event.watch_time_s * 1_000)
            return Row(Kind.WATCH, *place, event.item_id, watch_ms, event.request_id)
        case ImpressionEvent():
            return Row(Kind.IMPRESSION, *place, event.item_id, event.position, event.request_id)
        case SearchEvent():
            return Row(Kind.SEARCH, *place, event.query)


def page_row(page: ServedPage) -> Row:
    """The row of a page."""
    details = PageDetails(
        release=page.release,
        label=page.label,
        sources=[item.source for item in page.items],
        propensities=[item.propensity for item in page.items],
    )
    return Row(
        Kind.PAGE,
        page.served_at_ms,
        page.request_id,
        msgspec.json.encode([item.item_id for item in page.items]).decode(),
        details=msgspec.msgpack.encode(details),
    )


def user_events(user_id: Id, rows: Iterable[Row]) -> UserEvents:
    """Rows of one user, in order of time, as what they were made of."""
    watches, impressions, searches, pages = [], [], [], []
    for row in rows:
        match row.kind:
            case Kind.WATCH:
                watches.append(_watch(user_id, row))
            case Kind.IMPRESSION:
                impressions.append(_impression(user_id, row))
            case Kind.SEARCH:
                searches.append(_search(user_id, row))
            case _:
                pages.append(_page(user_id, row))
    return UserEvents(
        user_id=user_id, watches=watches, impressions=impressions, searches=searches, pages=pages
    )


def _watch(user_id: Id, row: Row) -> WatchEvent:
    return WatchEvent(
        event_id=row.event_id,
        user_id=user_id,
        item_id=row.item,
        started_at_ms=row.at_ms,
        watch_time_s=(row.amount or 0) / 1_000,
        request_id=row.request_id,
    )


def _impression(user_id: Id, row: Row) -> ImpressionEvent:
    return ImpressionEvent(
        event_id=row.event_id,
        user_id=user_id,
        item_id=row.item,
        shown_at_ms=row.at_ms,
        position=row.amount or 0,
        request_id=row.request_id,
    )


def _search(user_id: Id, row: Row) -> SearchEvent:
    return SearchEvent(
        event_id=row.event_id, user_id=user_id, searched_at_ms=row.at_ms, query=str(row.item)
    )


def _page(user_id: Id, row: Row) -> ServedPage:
    details = _decode_details(row.details or b"")
    slots = zip(decode_ids(str(row.item)), details.sources, details.propensities, strict=True)
    return ServedPage(
        request_id=row.event_id,
        user_id=user_id,
        served_at_ms=row.at_ms,
        release=details.release,
        label=details.label,
        items=[ServedItem(item_id=i, source=s, propensity=p) for i, s, p in slots],
    )
