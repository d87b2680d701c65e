"""The JSON that clients send and get: its fields and its limits."""

import dataclasses
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from upnext.errors import UpnextError
from upnext.events.event import ID_MAX_BYTES, Event, IdField, KeyField
from upnext.schema import Id, RecommendationRequest, Recommendations
from upnext.serving.asked import Answered, Asked

MAX_NAMES = 10_000
"""Ids or tags that one rule may list."""
MAX_BATCH = 100
"""Requests that one body may hold."""
MAX_EVENTS = 1_000
"""Events that one body may hold."""
MAX_WAIT_MS = 60_000.0
"""The longest that a request may ask to wait for its answer."""

_Query = Annotated[str, Meta(max_length=1000)]
_TimeMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="UTC, up to year 9999.")]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_Ids = Annotated[list[IdField], Meta(max_length=MAX_NAMES)]
_Tag = Annotated[str, Meta(max_length=ID_MAX_BYTES)]
_Tags = Annotated[list[_Tag], Meta(max_length=MAX_NAMES)]
_Number = Annotated[int, Meta(ge=1, le=1000, description="How many items.")]
_Label = Annotated[str, Meta(min_length=1, max_length=100)]
_Version = Annotated[int, Meta(ge=1, le=2**31 - 1, description="Of a release; not with a label.")]
_Slots = Annotated[int, Meta(ge=0, le=1000, description="How many slots of the page.")]


class PastWatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A watch that a request brings along."""

    item_id: IdField
    started_at_ms: _TimeMs | None = None
    watch_time_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None

    def __post_init__(self) -> None:
        _refuse_long_id("item_id", self.item_id)


class PageBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a page shall be beside long watched; every field may be left out, and is off then."""

    diversity: Annotated[float, Meta(ge=0, le=1, description="0 is off, 1 unlikeness alone.")] = 0.0
    max_per_channel: Annotated[int, Meta(ge=1)] | None = None
    num_fresh: _Slots = 0
    fresh_days: Annotated[float, Meta(gt=0, le=36_500)] = 7.0
    num_explored: _Slots = 0
    exploration_temperature: Annotated[float, Meta(ge=0.01, le=1e6)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Of what is drawn.")] | None = None


class RulesBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items may be recommended at all; every rule that is given must hold."""

    allowed_items: _Ids | None = None
    blocked_items: _Ids | None = None
    allowed_channels: _Ids | None = None
    blocked_channels: _Ids | None = None
    allowed_tags: _Tags | None = None
    blocked_tags: _Tags | None = None
    min_duration_s: _Seconds | None = None
    max_duration_s: _Seconds | None = None
    published_since_ms: _TimeMs | None = None

    def __post_init__(self) -> None:
        for name in ("allowed_items", "blocked_items", "allowed_channels", "blocked_channels"):
            for one_id in getattr(self, name) or ():
                _refuse_long_id(name, one_id)


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asks, for how many, and of which release; every field may be left out.

    A page that is logged counts as shown to its user, and becomes training data.
    """

    user_id: IdField | None = None
    history: list[PastWatchBody] | None = None
    searches: list[_Query] | None = None
    user_features: dict[str, str] = {}
    k: _Number = 10
    at_ms: _TimeMs | None = None
    exclude_watched: bool = True
    page: PageBody = PageBody()
    rules: RulesBody = RulesBody()
    num_reasons: Annotated[
        int, Meta(ge=0, le=50, description="Reasons an item; takes some times as long.")
    ] = 0
    label: _Label | None = None
    version: _Version | None = None
    deadline_ms: Annotated[float, Meta(gt=0, le=MAX_WAIT_MS)] | None = None
    request_id: KeyField | None = None
    is_logged: bool = True

    def __post_init__(self) -> None:
        _refuse_long_id("user_id", self.user_id)
        _refuse_label_and_version(self.label, self.version)
        if self.request_id is not None and not re.fullmatch("[ -~]+", self.request_id):
            raise ValueError("Expected request_id of printable ASCII, got something else")


class BatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some requests, each as if asked alone."""

    requests: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_BATCH)]


class ReleaseQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which release is asked; every field may be left out."""

    label: _Label | None = None
    version: _Version | None = None

    def __post_init__(self) -> None:
        _refuse_label_and_version(self.label, self.version)


class SimilarQuery(ReleaseQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many items like one item, and of which release."""

    k: _Number = 10


class EventsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happened; all of it is taken, or nothing is."""

    events: Annotated[list[Event], Meta(min_length=1, max_length=MAX_EVENTS)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AppendedBody:
    """How many events were new, and how many had been told before; all are durable."""

    num_accepted: int
    num_duplicates: int


class AnswerBody(Recommendations, frozen=True, kw_only=True):
    """The recommendations, the label that led to their release, and the request's id.

    `label` is null where the request named a version.
    """

    label: str | None
    request_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetail:
    """Where something is wrong, what was expected there, what came, and a way out."""

    where: str
    expected: str
    got: str
    hint: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """What every answer but 200 holds."""

    error: ErrorDetail


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextErrorBody:
    """What every answer but 200 holds where the protocol is another server's."""

    error: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RefusalBody(ErrorBody):
    """What is said of one request of a batch: the status that it would have had alone, and why."""

    status: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswerBody:
    """For each request of a batch, in its order, an `AnswerBody` or a `RefusalBody`."""

    answers: list[Any]


def asked_of(body: RequestBody) -> Asked:
    """What a body asks. Raises RequestError: two of its fields do not go together."""
    return Asked(
        request=msgspec.convert(body, RecommendationRequest, from_attributes=True),
        label=body.label,
        version=body.version,
        deadline_ms=body.deadline_ms,
        request_id=body.request_id,
        is_logged=body.is_logged,
    )


def answer_body(answered: Answered) -> AnswerBody:
    """What is told of an answer."""
    fields = msgspec.structs.asdict(answered.recommendations)
    return AnswerBody(**fields, label=answered.label, request_id=answered.request_id)


def error_detail(error: UpnextError) -> ErrorDetail:
    """What is told of an error."""
    return ErrorDetail(where=error.where, expected=error.expected, got=error.got, hint=error.hint)


def _refuse_long_id(name: str, one_id: Id | None) -> None:
    num_bytes = len(one_id.encode()) if isinstance(one_id, str) else 0
    if num_bytes > ID_MAX_BYTES:
        raise ValueError(f"Expected {name} of up to {ID_MAX_BYTES} bytes, got {num_bytes:,}")


def _refuse_label_and_version(label: str | None, version: int | None) -> None:
    if label is not None and version is not None:
        raise ValueError("Expected a label or a version, got both")
