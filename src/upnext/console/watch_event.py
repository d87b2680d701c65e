"""A watch, as a form sends it and as the server is told it."""

import json
import time

from upnext.console.client import Json
from upnext.console.forms import Fields, finite, number_in
from upnext.errors import RequestError
from upnext.schema import Id


def event_of(fields: Fields, *, at_ms: int | None) -> Json:
    """The body of one watch event.

    It starts at the moment that was asked for, now unless that was told, rather than so many
    seconds before: of two watches that are sent one after the other the second is the later one.

    Args:
        fields: `user` and `item` in JSON, which keeps texts and integers apart; `watch_time_s`,
            and `event_id`, which the form was given when it was shown.

    Raises: RequestError: a field is missing or is something else.
    """
    watch_time_s = number_in(fields, "watch_time_s", finite, "seconds")
    if watch_time_s is None:
        raise RequestError("watch_time_s", expected="seconds", got="none")
    return {
        "kind": "watch",
        "event_id": fields.get("event_id", ""),
        "user_id": _id(fields, "user"),
        "item_id": _id(fields, "item"),
        "started_at_ms": round(time.time() * 1e3) if at_ms is None else at_ms,
        "watch_time_s": watch_time_s,
    }


def _id(fields: Fields, name: str) -> Id:
    text = fields.get(name, "")
    try:
        told = json.loads(text)
        str(told).encode()  # a lone surrogate is no text
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, bool) or not isinstance(told, str | int):
        raise RequestError(name, expected="an id in JSON", got=repr(text[:100]))
    return told
