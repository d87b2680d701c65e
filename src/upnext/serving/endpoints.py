"""What all routes share: a row of the table of routes, a body within its limits, an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upnext.errors import RequestError
from upnext.serving.answering import Answering
from upnext.serving.decoding import convert
from upnext.serving.security import Access, Guard, RefusedError, Security
from upnext.serving.shedding import Shedding
from upnext.serving.traffic import STABLE

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]

MAX_BODY_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 10.0
"""How long a client may take to send a body; then its connection is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of the table of routes, from which routing, checks and the description are made.

    `takes` and `answers`: types of the JSON in and out; None: no body, or any object; an answer
    of `str` is plain text. `may_be_binary`: whether JSON may be answered as the head of bytes, to
    who asked for that. `query`: a type whose fields may stand in the URL. `failures`: statuses
    that it may answer, beside those that follow from its method and from what it needs.
    `sheds`: whether it asks for pages, and is refused unread while too many wait for theirs.
    """

    method: Literal["GET", "POST", "PUT"]
    path: str
    handler: Handler
    needs: Access
    summary: str
    takes: Any = None
    query: Any = None
    answers: Any = None
    failures: tuple[int, ...] = ()
    may_be_binary: bool = False
    sheds: bool = False

    @property
    def shown_path(self) -> str:
        """The path as people write it, its parts in braces."""
        return self.path.replace(":path}", "}")

    def route(self, security: Security) -> Route:
        """The route, behind its checks."""
        checks = [Middleware(Guard, security=security, needs=self.needs)]
        if self.sheds:
            checks.append(Middleware(Shedding, as_text=tells_errors_as_text(self.path)))
        return Route(self.path, self.handler, methods=[self.method], middleware=checks)


async def read_body(request: Request) -> bytes:
    """The whole body.

    Raises:
        RefusedError: it is too long (413) or came too slowly (408), and the connection closes; or
            it is compressed (415): a few bytes could grow to more than memory holds.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise RefusedError(415, "Content-Encoding", expected="none", got=repr(encoding[:100]))
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _unread(413, f"up to {MAX_BODY_BYTES:,} bytes", "more")
    except TimeoutError:
        raise _unread(408, f"the whole of it within {BODY_TIMEOUT_S:g} seconds", "a part") from None
    return bytes(body)


def read_query(request: Request, into: type[T]) -> T:
    """The fields of a URL. Raises RequestError: one comes twice, is unknown, or of another type."""
    fields = request.query_params.multi_items()
    if len(dict(fields)) != len(fields):
        raise RequestError("query", expected="each field once", got="one twice")
    return convert(dict(fields), into, where="query", are_texts=True)


@contextmanager
def unknown_items_missing() -> Iterator[None]:
    """What is asked for is an item: where the release does not know it, RefusedError (404)."""
    try:
        yield
    except RequestError as error:
        if error.where != "item_id":
            raise
        raise RefusedError(404, "item_id", expected=error.expected, got=error.got) from None


def answering_of(request: Request) -> Answering:
    """What answers the requests of this application."""
    answering: Answering = request.app.state.answering
    return answering


def is_answering(answering: Answering) -> bool:
    """Whether a request that names no release is answered."""
    return STABLE in answering.live.state.labels


def tells_errors_as_text(path: str) -> bool:
    """Whether errors are one text: so do TensorFlow Serving and the Open Inference Protocol.

    >>> [tells_errors_as_text(path) for path in ("/v1/models/rank", "/v2", "/v1/events")]
    [True, True, False]
    """
    return path.startswith(("/v1/models/", "/v2/")) or path == "/v2"


def path_of(request: Request) -> str:
    """What is asked for. `request.url` would parse the Host header, which may be anything."""
    path: str = request.scope["path"]
    return path


def json_response(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


def _unread(status: int, expected: str, got: str) -> RefusedError:
    # What is left of the body would be taken for the next request.
    headers = {"Connection": "close"}
    return RefusedError(status, "body", expected=expected, got=got, headers=headers)
