"""What a client is told when it gets no answer: which status, which headers, and which words."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from upnext.errors import ReleaseError, RequestError, StoreError, UpnextError
from upnext.registry.moves import NotFollowedError
from upnext.serving.answering import Answering
from upnext.serving.batching import OverloadedError
from upnext.serving.endpoints import (
    is_answering,
    json_response,
    path_of,
    tells_errors_as_text,
)
from upnext.serving.releases import NotServedError
from upnext.serving.security import RefusedError
from upnext.serving.wire import ErrorBody, TextErrorBody, error_detail

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A status, what is told, and headers beside it."""

    status: int
    told: UpnextError
    headers: Mapping[str, str] = field(default_factory=dict)


def failure_of(error: Exception, where: str, *, is_ready: bool) -> Failure:
    """What an error means to the client; of one that is not its fault it learns no details.

    Args:
        where: what was asked, such as a path: all that is told of a failure of the server.
        is_ready: whether clients that name no release are answered; if not, a release that is not
            there may still be loading.
    """
    match error:
        case RefusedError():
            return Failure(status=error.status, told=error, headers=error.headers)
        case RequestError():
            return Failure(status=400, told=error)
        case NotServedError() if is_ready:
            return Failure(status=404, told=error)
        case NotServedError():
            return Failure(status=503, told=error, headers={"Retry-After": "1"})
        case OverloadedError():
            return Failure(
                status=429, told=error, headers={"Retry-After": f"{error.retry_after_s}"}
            )
        case NotFollowedError():
            return Failure(status=504, told=error)
        case ReleaseError():
            return Failure(status=409, told=error)
        case StoreError():
            logger.error("%s failed", where, exc_info=error)
            hint = "send the events again; those that were taken count once."
            told = StoreError("the live store", expected="an answer", got="a failure", hint=hint)
            return Failure(status=503, told=told, headers={"Retry-After": "1"})
        case _:
            logger.error("%s failed", where, exc_info=error)
            return _failed(where)


def on_error(request: Request, error: UpnextError | ClientDisconnect) -> Response:
    """The answer to a request that is refused or fails; what failed is logged, and known here."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # nobody is left to read it
    answering: Answering | None = getattr(request.app.state, "answering", None)
    is_ready = answering is not None and is_answering(answering)
    return error_response(request, failure_of(error, path_of(request), is_ready=is_ready))


def on_foreign_error(request: Request) -> Response:
    """The answer where a library raised; what it raised goes on, and the server logs it."""
    return error_response(request, _failed(path_of(request)))


def _failed(where: str) -> Failure:
    hint = "the server's log says why."
    told = UpnextError(where, expected="an answer", got="a failure", hint=hint)
    return Failure(status=500, told=told)


def error_response(request: Request, failure: Failure) -> Response:
    """A failure in the shape of the protocol that the path belongs to."""
    told = failure.told
    content = (
        TextErrorBody(error=str(told))
        if tells_errors_as_text(path_of(request))
        else ErrorBody(error=error_detail(told))
    )
    return json_response(content, status=failure.status, headers=failure.headers)
