"""What all routes share: a row of the table of routes, a body within its limits, an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Scope

from upnext.errors import RequestError
from upnext.serving.answering import Answering
from upnext.serving.decoding import convert
from upnext.serving.security import Access, RefusedError
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

    @property
    def methods(self) -> frozenset[str]:
        """The methods that it answers to: whoever may GET may ask for the head alone."""
        return frozenset({self.method, "HEAD"} if self.method == "GET" else {self.method})


class Routes:
    """Finds the row that a request is for: by the path as it stands, else the first that fits."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._plain = {
            (method, endpoint.path): endpoint
            for endpoint in endpoints
            if "{" not in endpoint.path  # whoever asks for braces means nothing by them
            for method in endpoint.methods
        }
        self._patterns = [(compile_path(endpoint.path)[0], endpoint) for endpoint in endpoints]

    def find(self, scope: Scope) -> Endpoint:
        """The row; its handler and the parts of the path stand in the scope from now on.

        Raises: RefusedError: no row has this path (404), or those that do another method (405).
        """
        method, path = scope["method"], scope["path"]
        endpoint = self._plain.get((method, path))
        fitting = [(endpoint, {})] if endpoint else self._fitting(path)
        if not fitting:
            raise RefusedError(404, path, expected="a route", got="none", hint="see GET /.")
        right = [one for one in fitting if method in one[0].methods]
        endpoint, parts = (right or fitting)[0]
        scope["endpoint"], scope["path_params"] = endpoint.handler, parts
        if not right:
            allowed = frozenset[str]().union(*(one.methods for one, _ in fitting))
            headers = {"Allow": ", ".join(sorted(allowed))}
            raise RefusedError(405, path, expected="another method", got=method, headers=headers)
        return endpoint

    def _fitting(self, path: str) -> list[tuple[Endpoint, dict[str, str]]]:
        found = [(endpoint, pattern.match(path)) for pattern, endpoint in self._patterns]
        return [(endpoint, match.groupdict()) for endpoint, match in found if match]


async def read_body(request: Request) -> bytes:
    """The whole body.

    Raises:
        RefusedError: it is too long (413) or came too slowly (408), and the connection closes; or
            it is compressed (415): a few bytes could grow to more than memory holds.
        ClientDisconnect: nobody waits for an answer any more.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise RefusedError(415, "Content-Encoding", expected="none", got=repr(encoding[:100]))
    body, is_more = bytearray(), True
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while is_more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                is_more = message.get("more_body", False)
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
