"""Releases and labels over HTTP, for operators, on a port of its own.

It calls the functions that the command line calls, and knows no more than the registry: so it may
run in a server process or beside it, and one of it moves the labels of all servers.

The journal keeps the name of the one who asks, if whoever wraps this application puts it into
`scope["state"]["actor"]`.
"""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from upnext.errors import RequestError
from upnext.registry.journal import Previous
from upnext.registry.labels import read_labels, read_moves
from upnext.registry.moves import Moved, load_release, move_label, rollback, unload_release
from upnext.registry.overview import overview
from upnext.registry.release import list_releases
from upnext.registry.servers import read_servers
from upnext.serving.about import DESCRIBING_ENDPOINTS
from upnext.serving.app import make_application
from upnext.serving.decoding import decode
from upnext.serving.endpoints import Endpoint, json_response, read_body
from upnext.serving.gate import GateConfig
from upnext.serving.registered import missing, registry_of, version_of
from upnext.serving.security import Security, SecurityConfig, open_security
from upnext.serving.splitting import SPLIT_TRAFFIC

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


def create_admin_app(
    registry: Path, *, security: Security | None = None, gate: GateConfig | None = None
) -> Starlette:
    """The application over one registry; without `security`, that of a loopback address.

    `gate`: when its servers take a label back; None is when they do unless told otherwise.

    Loads and moves answer when they are done, with the steps that were taken. Errors are those of
    the public application: 400 the request is wrong, 404 there is no such release or label, 409
    it was refused and nothing has changed, 504 a label has moved and a server is behind.
    """
    app = make_application(ADMIN_ENDPOINTS, security or open_security(SecurityConfig()))
    app.state.registry, app.state.gate = registry, gate or GateConfig()
    return app


async def list_all(request: Request) -> Response:
    """GET /admin/v1/releases."""
    registry = registry_of(request)

    def look() -> dict[str, object]:
        return {
            "releases": overview(registry),
            "labels": read_labels(registry),
            "servers": read_servers(registry),
        }

    return json_response(await asyncio.to_thread(look))


async def load(request: Request) -> Response:
    """POST /admin/v1/releases/{version}/load."""
    version = version_of(request)
    await _body(request, NothingBody)
    steps = await asyncio.to_thread(load_release, registry_of(request), version)
    return json_response({"version": version, "steps": steps})


async def unload(request: Request) -> Response:
    """POST /admin/v1/releases/{version}/unload."""
    version = version_of(request)
    await _body(request, NothingBody)
    steps = await asyncio.to_thread(unload_release, registry_of(request), version)
    return json_response({"version": version, "steps": steps})


async def point_label(request: Request) -> Response:
    """PUT /admin/v1/labels/{label}."""
    body = await _body(request, LabelBody)
    registry = registry_of(request)
    if body.version not in list_releases(registry):
        raise missing("release", str(body.version))

    def move() -> Moved:
        return move_label(
            registry,
            _name(request),
            body.version,
            expected_previous=_previous(body.expected_previous),
            actor=_actor(request),
            reason=body.reason,
        )

    return json_response(await asyncio.to_thread(move))


async def roll_back(request: Request) -> Response:
    """POST /admin/v1/labels/{label}/rollback."""
    body = await _body(request, RollbackBody)
    registry, name = registry_of(request), _name(request)
    if name not in read_labels(registry):
        raise missing("label", name)

    def back() -> Moved:
        return rollback(
            registry,
            name,
            expected_previous=_previous(body.expected_previous),
            actor=_actor(request),
            reason=body.reason,
        )

    return json_response(await asyncio.to_thread(back))


async def journal(request: Request) -> Response:
    """GET /admin/v1/journal."""
    return json_response({"moves": await asyncio.to_thread(read_moves, registry_of(request))})


async def _body(request: Request, kind: type[T]) -> T:
    return decode(await read_body(request) or b"{}", kind)


def _name(request: Request) -> str:
    name: str = request.path_params["label"]
    if not re.fullmatch("[a-z][a-z0-9-]{0,31}", name):
        expected = "a small letter, then up to 31 small letters, digits or hyphens"
        raise RequestError("label", expected=expected, got=repr(name[:40]))
    return name


def _previous(expected: int | UnsetType | None) -> Previous:
    return "any" if isinstance(expected, UnsetType) else expected


def _actor(request: Request) -> str:
    return str(getattr(request.state, "actor", NOBODY))


ADMIN_ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        method="GET",
        path="/admin/v1/releases",
        handler=list_all,
        needs="admin",
        summary="Releases, labels, and the servers that live",
    ),
    Endpoint(
        method="POST",
        path="/admin/v1/releases/{version}/load",
        handler=load,
        needs="admin",
        summary="Has every server load a release",
        takes=NothingBody,
        failures=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/admin/v1/releases/{version}/unload",
        handler=unload,
        needs="admin",
        summary="Lets servers let a release go that no label needs",
        takes=NothingBody,
        failures=(404, 409),
    ),
    Endpoint(
        method="PUT",
        path="/admin/v1/labels/{label}",
        handler=point_label,
        needs="admin",
        summary="Points a label at a release, in all servers",
        takes=LabelBody,
        failures=(404, 409, 504),
    ),
    Endpoint(
        method="POST",
        path="/admin/v1/labels/{label}/rollback",
        handler=roll_back,
        needs="admin",
        summary="Points a label at the release before",
        takes=RollbackBody,
        failures=(404, 409, 504),
    ),
    Endpoint(
        method="GET",
        path="/admin/v1/journal",
        handler=journal,
        needs="admin",
        summary="Every move of a label, the first one first",
    ),
    SPLIT_TRAFFIC,
    *DESCRIBING_ENDPOINTS,
)
"""Every route for operators, as `routes.ENDPOINTS` has those for everybody."""
