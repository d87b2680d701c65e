"""What is done beyond capacity: a request is told so before a byte of it is read.

Three times as many requests as can be answered are twice as many refusals as answers. Whatever a
refusal costs is taken from those who are answered, so it is the same few bytes for all.
"""

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upnext.serving.answering import Answering
from upnext.serving.batching import OverloadedError
from upnext.serving.wire import ErrorBody, TextErrorBody, error_detail

TOLD = OverloadedError(
    "the server",
    expected="to answer in time",
    got="more requests than that",
    hint="ask again in a second, or of another server.",
)


class Shedding:
    """One route whose answers wait in the queue of pages, as plain ASGI.

    `as_text`: whether the protocol of the route tells errors as one text.
    """

    def __init__(self, app: ASGIApp, *, as_text: bool) -> None:
        self._app = app
        told = TextErrorBody(error=str(TOLD)) if as_text else ErrorBody(error=error_detail(TOLD))
        body = msgspec.json.encode(told)
        self._start: Message = {
            "type": "http.response.start",
            "status": 429,
            "headers": [
                (b"content-length", b"%d" % len(body)),
                (b"content-type", b"application/json"),
                (b"retry-after", b"%d" % TOLD.retry_after_s),
            ],
        }
        self._body: Message = {"type": "http.response.body", "body": body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or refuses it."""
        answering: Answering = scope["app"].state.answering
        if answering.turns_away():
            await send(self._start)
            await send(self._body)
        else:
            await self._app(scope, receive, send)
