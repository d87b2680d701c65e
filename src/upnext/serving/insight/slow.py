"""The slowest requests of late, of all server processes."""

import asyncio
import time
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from upnext.registry.slow import Slowest, read_slow
from upnext.serving.endpoints import Endpoint, json_response
from upnext.serving.registered import registry_of


async def see_slow(request: Request) -> Response:
    """GET /insight/v1/slow."""
    at_ms = time.time_ns() // 1_000_000
    return json_response(await asyncio.to_thread(read_slow, registry_of(request), at_ms=at_ms))


SLOW_ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        method="GET",
        path="/insight/v1/slow",
        handler=see_slow,
        needs="read",
        summary="The slowest requests of the last minutes, and where their time went",
        answers=Slowest,
        failures=(409,),
    ),
)
