"""What is done beyond capacity: a request is told so before a byte of its body is read.

Three times as many requests as can be answered are twice as many refusals as answers. Whatever a
refusal costs is taken from those who are answered, so it is the same few bytes for all; and of the
busiest route it is written where the connection is read, before there is a task to answer it.
"""

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upnext.serving.answering import Answering
from upnext.serving.batching import OverloadedError
from upnext.serving.metrics import Metrics
from upnext.serving.security import Headers, RefusedError, Security
from upnext.serving.wire import ErrorBody, TextErrorBody, error_detail

TOLD = OverloadedError(
    "the server",
    expected="to answer in time",
    got="more requests than that",
    hint="ask again in a second, or of another server.",
)
PAGES = b"/v1/recommendations"
"""The busiest route, whose handler is `recommend` and which needs the token to read."""


def _refusal(*, as_text: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body; `as_text`: of a protocol that tells errors as one text."""
    told = TextErrorBody(error=str(TOLD)) if as_text else ErrorBody(error=error_detail(TOLD))
    body = msgspec.json.encode(told)
    headers = [
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"application/json"),
        (b"retry-after", b"%d" % TOLD.retry_after_s),
    ]
    return headers, body


class Shedding:
    """One route whose answers wait in the queue of pages, as plain ASGI.

    `as_text`: whether the protocol of the route tells errors as one text.
    """

    def __init__(self, app: ASGIApp, *, as_text: bool) -> None:
        self._app = app
        headers, body = _refusal(as_text=as_text)
        self._start: Message = {"type": "http.response.start", "status": 429, "headers": headers}
        self._body: Message = {"type": "http.response.body", "body": body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or refuses it."""
        answering: Answering = scope["app"].state.answering
        if answering.turns_away():
            await send(self._start)
            await send(self._body)
        else:
            await self._app(scope, receive, send)


class Doorkeeper:
    """Refuses upnext's own pages on the connection itself, as `Shedding` would in its route.

    Whatever is not so simple is let through to be told there: who may not ask, and pages of other
    sites, whose browser wants to be told more. `managing_port`: where nothing is refused.
    """

    def __init__(
        self,
        answering: Answering,
        security: Security,
        metrics: Metrics,
        *,
        managing_port: int | None = None,
    ) -> None:
        self._answering, self._security, self._metrics = answering, security, metrics
        self._managing_port = managing_port
        headers, body = _refusal(as_text=False)
        self._written = b"\r\n".join([*(b"%s: %s" % header for header in headers), b"", body])

    def __call__(self, port: int | None, method: bytes, url: bytes, headers: Headers) -> bytes:
        """As `connections.Door` tells it."""
        if url != PAGES or method != b"POST" or port == self._managing_port:
            return b""
        if any(name == b"origin" for name, _ in headers) or not self._may_ask(headers):
            return b""
        if not self._answering.turns_away():
            return b""
        self._metrics.responded("recommend", 429)
        return self._written

    def _may_ask(self, headers: Headers) -> bool:
        try:
            self._security.check(headers, "read", "POST")
        except RefusedError:
            return False
        return True
