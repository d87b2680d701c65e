"""What is done beyond capacity: a request is told so before a byte of its body is read.

Three times as many requests as can be answered are twice as many refusals as answers. Whatever a
refusal costs is taken from those who are answered, so it is the same few bytes for all; and of the
busiest route it is written where the connection is read, before there is a task to answer it.
"""

from starlette.responses import Response

from upnext.serving.answering import Answering
from upnext.serving.batching import OverloadedError
from upnext.serving.endpoints import Endpoint, json_response, tells_errors_as_text
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


def _refusal(*, as_text: bool) -> Response:
    """`as_text`: of a protocol that tells errors as one text."""
    told = TextErrorBody(error=str(TOLD)) if as_text else ErrorBody(error=error_detail(TOLD))
    return json_response(told, status=429, headers={"Retry-After": f"{TOLD.retry_after_s}"})


_REFUSALS = {as_text: _refusal(as_text=as_text) for as_text in (False, True)}


def refusal_of(endpoint: Endpoint) -> Response:
    """What a route whose answers wait in the queue of pages tells while too many wait."""
    return _REFUSALS[tells_errors_as_text(endpoint.path)]


class Doorkeeper:
    """Refuses upnext's own pages on the connection itself, as the application would.

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
        refusal = _REFUSALS[False]
        headers = [b"%s: %s" % header for header in refusal.raw_headers]
        self._written = b"\r\n".join([*headers, b"", bytes(refusal.body)])

    def __call__(self, port: int | None, method: bytes, url: bytes, headers: Headers) -> bytes:
        """As `connections.Door` tells it."""
        if url != PAGES or method != b"POST" or port == self._managing_port:
            return b""
        if not self._answering.is_full():  # who may not ask is told so by the application
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
