"""Which label answers whom, told to whoever may look."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from upnext.errors import ConfigError
from upnext.serving.endpoints import Endpoint, json_response
from upnext.serving.gate import GateConfig
from upnext.serving.registered import registry_of
from upnext.serving.security import RefusedError
from upnext.serving.traffic import ShadowConfig, Traffic, read_traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficBody:
    """Who is answered by which label, and when a label is taken back."""

    split: Mapping[str, float]
    shadow: ShadowConfig | None
    gate: GateConfig


async def see_traffic(request: Request) -> Response:
    """GET /insight/v1/traffic."""
    try:
        return traffic_told(request, await asyncio.to_thread(read_traffic, registry_of(request)))
    except ConfigError as error:
        raise RefusedError(409, error.where, expected=error.expected, got=error.got) from None


def traffic_told(request: Request, traffic: Traffic) -> Response:
    """How shares stand, beside the gate of this application."""
    gate: GateConfig = request.app.state.gate
    return json_response(TrafficBody(split=traffic.split, shadow=traffic.shadow, gate=gate))


TRAFFIC_ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        method="GET",
        path="/insight/v1/traffic",
        handler=see_traffic,
        needs="read",
        summary="Which label answers whom, and when one is taken back",
        answers=TrafficBody,
        failures=(409,),
    ),
)
