"""The one endpoint: takes a request whole, has a server answer it, and passes the answer on.

By which name it is called is checked here, as servers are called by another one; all else that
says who may ask what, by the server that answers, of the client's own headers. A request that
changes nothing, or counts once however often it comes, is sent once more if its server is lost, so
clients notice nothing of a server that dies. What moves labels is sent once.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from upnext.cluster.fleet.connections import Answer, LostError
from upnext.cluster.fleet.servers import Address, NobodyReadyError, Rotation
from upnext.errors import UpnextError
from upnext.serving.batching import OverloadedError
from upnext.serving.endpoints import path_of, read_body
from upnext.serving.failures import Failure, error_response, failure_of
from upnext.serving.security import RefusedError, Security

Headers = Sequence[tuple[bytes, bytes]]

ONE_CONNECTION = frozenset(
    b"connection content-length expect keep-alive proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
"""What is said of a connection and not of a request."""
NOT_PASSED_ON = ONE_CONNECTION | {b"host", b"x-forwarded-for"}
ADDED_ANEW = ONE_CONNECTION | {b"date", b"server"}
"""What whoever answers the client adds by itself."""

OwnRoute = Callable[[Request], Awaitable[Answer]]


class Front:
    """One of the two addresses, as an ASGI application.

    Args:
        address: of the servers, to which requests go.
        security: of this address.
        host: what servers are called.
        own: by path, what the front answers by itself.
    """

    def __init__(
        self,
        rotation: Rotation,
        address: Address,
        security: Security,
        *,
        host: str = "localhost",
        max_in_flight: int,
        own: Mapping[str, OwnRoute] | None = None,
    ) -> None:
        self._rotation, self._address, self._security = rotation, address, security
        self._host_line = f"host: {host}".encode()
        self._max_in_flight, self._own = max_in_flight, own or {}
        self.num_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = Request(scope, receive)
        self.num_in_flight += 1
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return  # nobody is left to be told
        except (UpnextError, LostError) as error:
            await error_response(request, _failure_of(error, path_of(request)))(
                scope, receive, send
            )
        else:
            await _send(answer, send, is_head=scope["method"] == "HEAD")
        finally:
            self.num_in_flight -= 1

    async def _answer(self, request: Request) -> Answer:
        if self.num_in_flight > self._max_in_flight:
            raise OverloadedError("the front", expected="time for a request", got="too many")
        self._security.check_host(_host_of(request.scope["headers"]))
        body = await read_body(request)
        method = request.scope["method"]
        own = self._own.get(path_of(request)) if method in ("GET", "HEAD") else None
        if own is not None:
            return await own(request)
        return await self._rotation.ask(
            self._address,
            written(request.scope, body, self._host_line),
            has_no_body=method == "HEAD",
            is_repeatable=self._address == "public" or method in ("GET", "HEAD", "OPTIONS"),
        )


def written(scope: Scope, body: bytes, host_line: bytes) -> tuple[bytes, ...]:
    """A request as a server is sent it: the client's own, but for what is about its connection."""
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    lines = [b"%s %s HTTP/1.1" % (scope["method"].encode(), target), host_line]
    dropped: frozenset[bytes] | set[bytes] = NOT_PASSED_ON
    forwarded = b""
    for name, value in scope["headers"]:
        if name == b"connection":
            dropped = dropped | {one.strip().lower() for one in value.split(b",")}
        elif name == b"x-forwarded-for":
            forwarded += value + b", "
    lines += [b"%s: %s" % header for header in scope["headers"] if header[0] not in dropped]
    if scope["client"] is not None:
        lines.append(b"x-forwarded-for: " + forwarded + scope["client"][0].encode())
    if body or scope["method"] in ("POST", "PUT"):
        lines.append(b"content-length: %d" % len(body))
    head = b"\r\n".join((*lines, b"", b""))
    return (head, body) if body else (head,)


def _host_of(headers: Headers) -> bytes | None:
    return next((value for name, value in headers if name == b"host"), None)


async def _send(answer: Answer, send: Send, *, is_head: bool) -> None:
    headers = [one for one in answer.headers if one[0] not in ADDED_ANEW]
    if is_head:
        headers += [one for one in answer.headers if one[0] == b"content-length"]
    elif answer.status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _failure_of(error: Exception, where: str) -> Failure:
    match error:
        case NobodyReadyError():
            return Failure(status=503, told=error, headers={"Retry-After": "1"})
        case LostError():
            hint = "it may have been done all the same; the journal of labels tells their moves."
            told = RefusedError(502, where, expected="an answer", got="a lost server", hint=hint)
            return Failure(status=502, told=told)
        case _:
            return failure_of(error, where, is_ready=True)
