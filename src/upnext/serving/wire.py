"""The JSON that clients send and get: its fields, its limits, and what is said of a wrong one."""

import dataclasses
import difflib
import re
import reprlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from upnext.errors import RequestError, UpnextError
from upnext.schema import Id, RecommendationRequest, Recommendations
from upnext.serving.releases import DEFAULT_LABEL

ID_MAX_BYTES = 256
"""As long as the ids of logs may be."""
MAX_NAMES = 10_000
"""Ids or tags that one rule may list."""

_IdNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Id = Annotated[str, Meta(description=f"Up to {ID_MAX_BYTES} bytes.")] | _IdNumber
_Query = Annotated[str, Meta(max_length=1000)]
_TimeMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="UTC, up to year 9999.")]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_Ids = Annotated[list[_Id], Meta(max_length=MAX_NAMES)]
_Tag = Annotated[str, Meta(max_length=ID_MAX_BYTES)]
_Tags = Annotated[list[_Tag], Meta(max_length=MAX_NAMES)]
_Slots = Annotated[int, Meta(ge=0, le=1000, description="How many slots of the page.")]


class PastWatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A watch that a request brings along."""

    item_id: _Id
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
    """Who asks, for how many, and under which label; every field may be left out."""

    user_id: _Id | None = None
    history: list[PastWatchBody] | None = None
    searches: list[_Query] | None = None
    user_features: dict[str, str] = {}
    k: Annotated[int, Meta(ge=1, le=1000, description="How many items.")] = 10
    at_ms: _TimeMs | None = None
    exclude_watched: bool = True
    page: PageBody = PageBody()
    rules: RulesBody = RulesBody()
    num_reasons: Annotated[
        int, Meta(ge=0, le=50, description="Reasons an item; takes some times as long.")
    ] = 0
    label: str = DEFAULT_LABEL

    def __post_init__(self) -> None:
        _refuse_long_id("user_id", self.user_id)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBody(Recommendations):
    """The recommendations, and the label under which they were asked for."""

    label: str


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


def decode_request(body: bytes) -> tuple[RecommendationRequest, str]:
    """A request and its label out of a JSON body.

    Raises:
        RequestError: it is no JSON, a field is unknown, or a value has the wrong type or size, or
            does not go with another.
    """
    try:
        decoded = msgspec.json.decode(body, type=RequestBody)
    except msgspec.ValidationError as error:
        raise _wrong_value(str(error), body) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError("body", expected="JSON", got=str(error)) from None
    request = msgspec.convert(decoded, RecommendationRequest, from_attributes=True)
    return request, decoded.label


def encode_answer(answer: Recommendations, label: str) -> bytes:
    """The JSON of an answer."""
    fields = {name: getattr(answer, name) for name in _ANSWER_FIELDS}
    return msgspec.json.encode(AnswerBody(**fields, label=label))


def encode_error(error: UpnextError) -> bytes:
    """The JSON of an error."""
    detail = ErrorDetail(where=error.where, expected=error.expected, got=error.got, hint=error.hint)
    return msgspec.json.encode(ErrorBody(error=detail))


def _refuse_long_id(name: str, one_id: Id | None) -> None:
    num_bytes = len(one_id.encode()) if isinstance(one_id, str) else 0
    if num_bytes > ID_MAX_BYTES:
        raise ValueError(f"Expected {name} of up to {ID_MAX_BYTES} bytes, got {num_bytes:,}")


_BODIES = {"$.history": PastWatchBody, "$.page": PageBody, "$.rules": RulesBody}
_ANSWER_FIELDS = [answer_field.name for answer_field in dataclasses.fields(Recommendations)]


def _wrong_value(message: str, body: bytes) -> RequestError:
    """Tells a `msgspec.ValidationError` in our own four parts.

    Its messages read "Expected `int`, got `str` - at `$.k`" or "Object contains unknown field
    `kk`"; the value itself is looked up where the message leaves it out.
    """
    what, _, path = message.partition(" - at ")
    path = path.strip("`") or "$"
    where = path.replace("$", "body", 1)
    if unknown := re.fullmatch("Object contains unknown field `(.*)`", what, re.DOTALL):
        names = _BODIES.get(re.sub(r"\[.*", "", path), RequestBody).__struct_fields__
        near = difflib.get_close_matches(unknown[1], names, n=1)
        return RequestError(
            where,
            expected=f"one of {', '.join(names)}",
            got=f"the unknown field {reprlib.repr(unknown[1])}",
            hint=f"did you mean {near[0]!r}?" if near else "",
        )
    if missing := re.fullmatch("Object missing required field `(.*)`", what):
        return RequestError(where, expected=f"a field {missing[1]}", got="none")
    expected, _, got = what.replace("`", "").removeprefix("Expected ").partition(", got ")
    return RequestError(where, expected=expected, got=got or _value_at(path, body))


def _value_at(path: str, body: bytes) -> str:
    try:
        value: Any = msgspec.json.decode(body)
        for name, position in re.findall(r"\.(\w+)|\[(\d+)\]", path):
            value = value[name] if name else value[int(position)]
        return reprlib.repr(value)
    except (ValueError, LookupError, TypeError, RecursionError):
        return "another value"
