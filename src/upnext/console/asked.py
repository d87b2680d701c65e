"""What an address asks of a page, checked."""

import re
from urllib.parse import quote, urlencode

from starlette.requests import Request

from upnext.errors import RequestError

MOST = 100_000
VERSION = "[1-9][0-9]{0,9}"
"""How the number of a release is written."""


def number_asked(request: Request, name: str, default: int) -> int:
    """How many a page shows; the default where the address does not say.

    Raises: RequestError: what it says is no such number.
    """
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= MOST:
        raise RequestError(name, expected=f"a number from 1 to {MOST}", got=repr(text[:100]))
    return int(text)


def versions_asked(request: Request, name: str, *, at_most: int) -> list[int]:
    """Releases that an address names, each once, the newest first.

    Raises: RequestError: one is no version, or there are more.
    """
    texts = request.query_params.getlist(name)
    for text in texts:
        if not re.fullmatch(VERSION, text):
            raise RequestError(name, expected="the number of a release", got=repr(text[:100]))
    versions = sorted(set(map(int, texts)), reverse=True)
    if len(versions) > at_most:
        expected = f"at most {at_most} releases, as more have no place side by side"
        raise RequestError(name, expected=expected, got=str(len(versions)))
    return versions


def same_page(request: Request, **changes: object) -> str:
    """The address of this page with some of what it asks changed; None takes that away."""
    kept = [
        (name, text) for name, text in request.query_params.multi_items() if name not in changes
    ]
    changed = [(name, str(value)) for name, value in changes.items() if value is not None]
    asked = urlencode([*kept, *changed])
    return quote(request.url.path) + (f"?{asked}" if asked else "")
