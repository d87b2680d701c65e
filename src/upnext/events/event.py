"""What can happen: a watch, an impression, a search, and the page that a server answered with.

Events are what clients send, so their structs decode JSON as it comes. All limits hold for events
made in Python too, and no row that `logs/read.py` would refuse can be made of one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from upnext.schema import Id

ID_MAX_BYTES = 256
"""As long as the ids of logs may be."""
EVENT_ID_MAX_CHARACTERS = 128
QUERY_MAX_CHARACTERS = 1_000
LAST_TIME_MS = 253_402_300_799_999
"""The end of the year 9999."""
MAX_WATCH_TIME_S = 86_400.0
MAX_POSITION = 9_999

_INT64 = range(-(2**63), 2**63)
_NO_TEXT = re.compile("[\0\ufffd]")
_A_USUAL_ID = re.compile(f"[A-Za-z_][ -~]{{0,{ID_MAX_BYTES - 1}}}")
"""ASCII that begins as no number does: a page has twenty ids, and nothing else is amiss with it."""
_A_ROUNDED_NUMBER = re.compile(r"-?[0-9](\.[0-9]+)?[eE]\+[0-9]+")

IdField = (
    Annotated[str, Meta(min_length=1, description=f"Up to {ID_MAX_BYTES} bytes.")]
    | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
)
KeyField = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=EVENT_ID_MAX_CHARACTERS,
        pattern="^[ -~]+$",
        description="Printable ASCII.",
    ),
]
TimeField = Annotated[int, Meta(ge=0, le=LAST_TIME_MS, description="UTC, up to year 9999.")]
WatchTimeField = Annotated[
    float, Meta(ge=0, le=MAX_WATCH_TIME_S, description="Seconds; kept to the millisecond.")
]
PositionField = Annotated[int, Meta(ge=0, le=MAX_POSITION, description="From 0, the top.")]
QueryField = Annotated[str, Meta(min_length=1, max_length=QUERY_MAX_CHARACTERS)]


class WatchEvent(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="watch",
):
    """An item that a user played.

    `event_id`: the client's own; of events with one id the first stays. `request_id`: of the page
    that the item was chosen from.

    Raises: ValueError: a field is out of its limits.
    """

    event_id: KeyField
    user_id: IdField
    item_id: IdField
    started_at_ms: TimeField
    watch_time_s: WatchTimeField
    request_id: KeyField | None = None

    def __post_init__(self) -> None:
        _check_key("event_id", self.event_id)
        _check_id("user_id", self.user_id)
        _check_id("item_id", self.item_id)
        _check_number("started_at_ms", self.started_at_ms, LAST_TIME_MS)
        _check_number("watch_time_s", self.watch_time_s, MAX_WATCH_TIME_S)
        _check_key("request_id", self.request_id)

    @property
    def at_ms(self) -> int:
        """When it happened."""
        return self.started_at_ms


class ImpressionEvent(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="impression",
):
    """An item that a user was really shown.

    Those with the `request_id` of a page that a server answered with take the page's place.

    Raises: ValueError: a field is out of its limits.
    """

    event_id: KeyField
    user_id: IdField
    item_id: IdField
    shown_at_ms: TimeField
    position: PositionField
    request_id: KeyField | None = None

    def __post_init__(self) -> None:
        _check_key("event_id", self.event_id)
        _check_id("user_id", self.user_id)
        _check_id("item_id", self.item_id)
        _check_number("shown_at_ms", self.shown_at_ms, LAST_TIME_MS)
        _check_number("position", self.position, MAX_POSITION)
        _check_key("request_id", self.request_id)

    @property
    def at_ms(self) -> int:
        """When it happened."""
        return self.shown_at_ms


class SearchEvent(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="search",
):
    """What a user typed into search.

    Raises: ValueError: a field is out of its limits.
    """

    event_id: KeyField
    user_id: IdField
    searched_at_ms: TimeField
    query: QueryField

    def __post_init__(self) -> None:
        _check_key("event_id", self.event_id)
        _check_id("user_id", self.user_id)
        _check_number("searched_at_ms", self.searched_at_ms, LAST_TIME_MS)
        if not 1 <= len(self.query) <= QUERY_MAX_CHARACTERS:
            _refuse("query", f"of 1 to {QUERY_MAX_CHARACTERS:,} characters", len(self.query))
        _check_text("query", self.query)

    @property
    def at_ms(self) -> int:
        """When it happened."""
        return self.searched_at_ms


Event = WatchEvent | ImpressionEvent | SearchEvent


class ServedItem(msgspec.Struct, frozen=True, kw_only=True):
    """One slot of a page: which item, who nominated it, with what probability it came there.

    Raises: ValueError: a propensity that is not above 0 and up to 1, or an id out of its limits.
    """

    item_id: Id
    source: str | None = None
    propensity: float | None = None

    def __post_init__(self) -> None:
        _check_id("item_id", self.item_id)
        if self.source is not None:
            _check_text("source", self.source)
        if self.propensity is not None and not 0 < self.propensity <= 1:
            _refuse("propensity", "above 0 and up to 1", self.propensity)


class ServedPage(msgspec.Struct, frozen=True, kw_only=True):
    """What a server answered: the items from the top, by which release, under which label.

    Raises: ValueError: there are no items, or a field is out of its limits.
    """

    request_id: str
    user_id: Id
    served_at_ms: int
    release: str
    label: str
    items: Sequence[ServedItem]

    def __post_init__(self) -> None:
        _check_key("request_id", self.request_id)
        _check_id("user_id", self.user_id)
        _check_number("served_at_ms", self.served_at_ms, LAST_TIME_MS)
        _check_text("release", self.release)
        _check_text("label", self.label)
        if not 1 <= len(self.items) <= 1 + MAX_POSITION:
            _refuse("items", f"1 to {1 + MAX_POSITION:,} of them", len(self.items))


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvents:
    """All that a store holds of one user, each kind in order of time."""

    user_id: Id
    watches: Sequence[WatchEvent] = ()
    impressions: Sequence[ImpressionEvent] = ()
    searches: Sequence[SearchEvent] = ()
    pages: Sequence[ServedPage] = ()


def _check_id(name: str, one_id: Id) -> None:
    if isinstance(one_id, int):
        if one_id not in _INT64:
            _refuse(name, "of 64 bits", one_id)
        return
    if _A_USUAL_ID.fullmatch(one_id):
        return
    num_bytes = _check_text(name, one_id)
    if not 1 <= num_bytes <= ID_MAX_BYTES:
        _refuse(name, f"of 1 to {ID_MAX_BYTES} bytes", num_bytes)
    if _A_ROUNDED_NUMBER.fullmatch(one_id):
        _refuse(name, "that is no rounded number", repr(one_id))


def _check_text(name: str, text: str) -> int:
    """Text that logs can hold; the number of its bytes."""
    if _NO_TEXT.search(text):
        _refuse(name, "without null bytes and U+FFFD", repr(text[:100]))
    return len(text.encode())


def _check_key(name: str, key: str | None) -> None:
    is_fit = key is None or (len(key) <= EVENT_ID_MAX_CHARACTERS and re.fullmatch("[ -~]+", key))
    if not is_fit:
        expected = f"of 1 to {EVENT_ID_MAX_CHARACTERS} printable ASCII characters"
        _refuse(name, expected, repr(str(key)[:200]))


def _check_number(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:
        _refuse(name, f"from 0 to {most:.15g}", value)


def _refuse(name: str, expected: str, got: object) -> None:
    # msgspec's own wording, so that whoever tells its errors tells these as well.
    raise ValueError(f"Expected {name} {expected}, got {got}")
