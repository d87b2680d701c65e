"""What the check of its logs found, as a release has kept it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from upnext.registry.detail import data_of
from upnext.registry.remembered import remembered_release
from upnext.serving.endpoints import Endpoint, json_response
from upnext.serving.registered import registry_of, version_of


@dataclass(frozen=True, slots=True, kw_only=True)
class DataBody:
    """By table how many rows were read and taken, and why others were not; unreadable files, and a
    sentence for each table that was made from others."""

    tables: Mapping[str, Mapping[str, Any]]
    unreadable_files: Sequence[Mapping[str, str]]
    derived: Sequence[str]


async def see_data(request: Request) -> Response:
    """GET /insight/v1/data/{version}."""
    registry, version = registry_of(request), version_of(request)
    release = await asyncio.to_thread(remembered_release, registry, version)
    return json_response(data_of(release))


DATA_ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        method="GET",
        path="/insight/v1/data/{version}",
        handler=see_data,
        needs="read",
        summary="What the check of a release's logs found",
        answers=DataBody,
        failures=(404, 409),
    ),
)
