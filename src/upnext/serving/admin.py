"""Releases and labels over HTTP, for operators, on a port of its own.

It calls the functions that the command line calls, and knows no more than the registry: so it may
run in a server process or beside it, and one of it moves the labels of all servers.

Who may ask is not decided here. Whoever wraps this application puts the name of the one who asks
into `scope["state"]["actor"]`; the journal keeps it.
"""

import asyncio
import logging
import re
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from upnext.errors import ReleaseError, RequestError, UpnextError
from upnext.registry.labels import Previous, read_labels, read_moves
from upnext.registry.moves import (
    Moved,
    NotFollowedError,
    load_release,
    move_label,
    rollback,
    unload_release,
)
from upnext.registry.overview import overview
from upnext.registry.release import list_releases
from upnext.registry.servers import read_servers
from upnext.serving.wire import ErrorBody, error_detail

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
NOBODY = "admin"
"""The actor in the journal where nobody says who asks."""

_Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Reason = Annotated[str, Meta(max_length=1000)]

T = TypeVar("T", bound=msgspec.Struct)


class LabelBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a label shall point, and where it must stand for that; null: nowhere yet."""

    version: _Version
    expected_previous: _Version | UnsetType | None = UNSET
    reason: _Reason = ""


class RollbackBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a label must stand to be rolled back, and why it is; every field may be left out."""

    expected_previous: _Version | UnsetType = UNSET
    reason: _Reason = ""


class NothingBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body where there is nothing to say: none at all, or an empty object."""


def create_admin_app(registry: Path) -> Starlette:
    """The application over one registry; it listens nowhere and asks nobody who they are.

    Loads and moves answer when they are done, with the steps that were taken. Errors are those of
    the public application: 400 the request is wrong, 404 there is no such release or label, 409
    it was refused and nothing has changed, 504 a label has moved and a server is behind.
    """
    app = Starlette(
        routes=[
            Route("/admin/v1/releases", _releases),
            Route("/admin/v1/releases/{version}/load", _load, methods=["POST"]),
            Route("/admin/v1/releases/{version}/unload", _unload, methods=["POST"]),
            Route("/admin/v1/labels/{name}", _label, methods=["PUT"]),
            Route("/admin/v1/labels/{name}/rollback", _rollback, methods=["POST"]),
            Route("/admin/v1/journal", _journal),
        ],
        exception_handlers={
            UpnextError: _on_upnext_error,
            HTTPException: _on_http_exception,
            ClientDisconnect: _on_disconnect,
            Exception: _on_exception,
        },
    )
    app.state.registry = registry
    return app


async def _releases(request: Request) -> Response:
    registry = _registry(request)

    def look() -> dict[str, object]:
        return {
            "releases": overview(registry),
            "labels": read_labels(registry),
            "servers": read_servers(registry),
        }

    return _json(await asyncio.to_thread(look))


async def _load(request: Request) -> Response:
    version = _version(request)
    await _body(request, NothingBody)
    steps = await asyncio.to_thread(load_release, _registry(request), version)
    return _json({"version": version, "steps": steps})


async def _unload(request: Request) -> Response:
    version = _version(request)
    await _body(request, NothingBody)
    steps = await asyncio.to_thread(unload_release, _registry(request), version)
    return _json({"version": version, "steps": steps})


async def _label(request: Request) -> Response:
    body = await _body(request, LabelBody)
    registry = _registry(request)
    if body.version not in list_releases(registry):
        raise _missing("release", str(body.version))

    def move() -> Moved:
        return move_label(
            registry,
            _name(request),
            body.version,
            expected_previous=_previous(body.expected_previous),
            actor=_actor(request),
            reason=body.reason,
        )

    return _json(await asyncio.to_thread(move))


async def _rollback(request: Request) -> Response:
    body = await _body(request, RollbackBody)
    registry, name = _registry(request), _name(request)
    if name not in read_labels(registry):
        raise _missing("label", name)

    def back() -> Moved:
        return rollback(
            registry,
            name,
            expected_previous=_previous(body.expected_previous),
            actor=_actor(request),
            reason=body.reason,
        )

    return _json(await asyncio.to_thread(back))


async def _journal(request: Request) -> Response:
    return _json({"moves": await asyncio.to_thread(read_moves, _registry(request))})


async def _body(request: Request, kind: type[T]) -> T:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise HTTPException(413)
    try:
        return msgspec.json.decode(bytes(content) or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        names = ", ".join(field.name for field in msgspec.structs.fields(kind))
        expected = f"a JSON object of {names}" if names else "no body"
        raise RequestError("body", expected=expected, got=str(error)) from None


def _registry(request: Request) -> Path:
    registry: Path = request.app.state.registry
    return registry


def _version(request: Request) -> int:
    text = request.path_params["version"]
    if not re.fullmatch("[1-9][0-9]{0,9}", text):
        raise RequestError("version", expected="a number from 1", got=repr(text[:40]))
    if int(text) not in list_releases(_registry(request)):
        raise _missing("release", text)
    return int(text)


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if not re.fullmatch("[a-z][a-z0-9-]{0,31}", name):
        expected = "a small letter, then up to 31 small letters, digits or hyphens"
        raise RequestError("name", expected=expected, got=repr(name[:40]))
    return name


def _previous(expected: int | UnsetType | None) -> Previous:
    return "any" if isinstance(expected, UnsetType) else expected


def _actor(request: Request) -> str:
    return str(getattr(request.state, "actor", NOBODY))


class _MissingError(UpnextError):
    """There is no such release or label."""


def _missing(kind: str, name: str) -> _MissingError:
    hint = "GET /admin/v1/releases lists what there is."
    return _MissingError(kind, expected=f"a {kind} that is there", got=repr(name), hint=hint)


async def _on_upnext_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, UpnextError)
    match error:
        case RequestError():
            status = 400
        case _MissingError():
            status = 404
        case NotFollowedError():
            status = 504
        case ReleaseError():
            status = 409
        case _:
            logger.error("%s failed", request.url.path, exc_info=error)
            return _failed(request)
    return Response(_told(error), status, media_type="application/json")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    match error.status_code:
        case 413:
            told = RequestError("body", expected=f"up to {MAX_BODY_BYTES:,} bytes", got="more")
            headers["Connection"] = "close"  # the rest of the body is not read
        case 405:
            told = RequestError(request.url.path, expected="another method", got=request.method)
        case _:
            told = RequestError(request.url.path, expected="a route", got="none")
    return Response(_told(told), error.status_code, headers, media_type="application/json")


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody is left to read it


async def _on_exception(request: Request, _error: Exception) -> Response:
    return _failed(request)  # Starlette raises it once more, and the server logs it


def _failed(request: Request) -> Response:
    told = UpnextError(
        request.url.path, expected="an answer", got="a failure", hint="the server's log says why."
    )
    return Response(_told(told), 500, media_type="application/json")


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def _told(error: UpnextError) -> bytes:
    return msgspec.json.encode(ErrorBody(error=error_detail(error)))
