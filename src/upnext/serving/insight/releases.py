"""The releases of a registry: all of them in few words, one in full, and how labels moved."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from upnext.registry.detail import Detail, detail
from upnext.registry.journal import LabelMove
from upnext.registry.labels import read_moves, read_standings
from upnext.registry.overview import Overview, overview
from upnext.registry.servers import ServerStatus, read_servers
from upnext.serving.endpoints import Endpoint, json_response, read_query
from upnext.serving.registered import registry_of, version_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasesBody:
    """Every release, oldest first; where labels stand and would roll back to; who serves."""

    releases: Sequence[Overview]
    labels: Mapping[str, int]
    servers: Sequence[ServerStatus]
    rollback: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalBody:
    """Moves of labels, the newest last."""

    moves: Sequence[LabelMove]


class JournalQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of the last moves; all unless it is said."""

    num: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


async def see_releases(request: Request) -> Response:
    """GET /insight/v1/releases."""
    return json_response(await asyncio.to_thread(_look, registry_of(request)))


async def see_release(request: Request) -> Response:
    """GET /insight/v1/releases/{version}."""
    version = version_of(request)
    return json_response(await asyncio.to_thread(detail, registry_of(request), version))


async def see_journal(request: Request) -> Response:
    """GET /insight/v1/journal."""
    query = read_query(request, JournalQuery)
    moves = await asyncio.to_thread(read_moves, registry_of(request))
    return json_response(JournalBody(moves=moves[-query.num :] if query.num else moves))


def _look(registry: Path) -> ReleasesBody:
    standings = read_standings(registry)
    return ReleasesBody(
        releases=overview(registry),
        labels={label: standing.version for label, standing in standings.items()},
        servers=read_servers(registry),
        rollback={label: standing.rollback_version for label, standing in standings.items()},
    )


RELEASE_ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        method="GET",
        path="/insight/v1/releases",
        handler=see_releases,
        needs="read",
        summary="Releases and how good they are, labels, and the servers that live",
        answers=ReleasesBody,
        failures=(409,),
    ),
    Endpoint(
        method="GET",
        path="/insight/v1/releases/{version}",
        handler=see_release,
        needs="read",
        summary="All that is known of a release",
        answers=Detail,
        failures=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/insight/v1/journal",
        handler=see_journal,
        needs="read",
        summary="The last moves of labels, the newest last",
        query=JournalQuery,
        answers=JournalBody,
        failures=(409,),
    ),
)
