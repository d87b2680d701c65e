"""What visitors say, in a URL or in a form that they post, and numbers out of it."""

import math
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qsl

from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request

from upnext.errors import RequestError

T = TypeVar("T")

Fields = ImmutableMultiDict[str, str]

MAX_FORM_BYTES = 64 * 1024


async def form_of(request: Request) -> Fields:
    """The fields of a form that was posted, those that were left empty too.

    Raises: HTTPException: it is longer than any of ours.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413)
    text = body.decode("utf-8", "replace")
    return ImmutableMultiDict(parse_qsl(text, keep_blank_values=True))


def number_in(fields: Fields, name: str, kind: Callable[[str], T], expected: str) -> T | None:
    """One field as a number; None where it is left empty. Raises RequestError: it is none."""
    return number(fields.get(name, ""), name, kind, expected)


def number(text: str, name: str, kind: Callable[[str], T], expected: str) -> T | None:
    """As `number_in`, of the text of a field."""
    if not text.strip():
        return None
    try:
        return kind(text)
    except (ValueError, OverflowError):
        raise RequestError(name, expected=expected, got=repr(text[:100])) from None


def finite(text: str) -> float:
    """A number that is one. Raises ValueError: it is not."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value
