"""Which label answers whom: told to whoever may look, and changed by operators."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from upnext.errors import ConfigError, RequestError
from upnext.registry.labels import read_labels
from upnext.serving.decoding import decode
from upnext.serving.endpoints import Endpoint, json_response, read_body
from upnext.serving.gate import GateConfig
from upnext.serving.registered import registry_of
from upnext.serving.security import RefusedError
from upnext.serving.traffic import ShadowConfig, Traffic, read_traffic, write_traffic

_Share = Annotated[float, Meta(ge=0, le=1)]


class ShadowBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A label that answers this share of requests too, unseen."""

    label: str
    share: _Share


class SplitBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of users by label, together 1, and the shadow if there shall be one."""

    split: Annotated[dict[str, _Share], Meta(min_length=1, max_length=1000)]
    shadow: ShadowBody | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficBody:
    """Who is answered by which label, and when a label is taken back."""

    split: Mapping[str, float]
    shadow: ShadowConfig | None
    gate: GateConfig


async def see_traffic(request: Request) -> Response:
    """GET /insight/v1/traffic."""
    try:
        return _told(request, await asyncio.to_thread(read_traffic, registry_of(request)))
    except ConfigError as error:
        raise RefusedError(409, error.where, expected=error.expected, got=error.got) from None


async def split_traffic(request: Request) -> Response:
    """PUT /admin/v1/traffic."""
    body = decode(await read_body(request), SplitBody)
    traffic = _traffic_of(body)
    await asyncio.to_thread(_write, registry_of(request), traffic)
    return _told(request, traffic)


def _traffic_of(body: SplitBody) -> Traffic:
    """Raises RequestError: the shares are not 1 together."""
    shadow = None
    if body.shadow is not None:
        shadow = ShadowConfig(label=body.shadow.label, share=body.shadow.share)
    try:
        return Traffic(split=body.split, shadow=shadow)
    except ConfigError as error:
        raise RequestError("body.split", expected=error.expected, got=error.got[:200]) from None


def _write(registry: Path, traffic: Traffic) -> None:
    """Raises RefusedError: a label is named that there is not (409)."""
    labels = read_labels(registry)
    named = [("split", label) for label in traffic.split]
    if traffic.shadow is not None:
        named.append(("shadow.label", traffic.shadow.label))
    for field, label in named:
        if label not in labels:
            there = ", ".join(labels)
            raise RefusedError(
                409,
                f"body.{field}",
                expected=f"one of {there}" if there else "a label, and there is none yet",
                got=repr(label[:100]),
                hint="point the label at a release first.",
            )
    write_traffic(registry, traffic)


def _told(request: Request, traffic: Traffic) -> Response:
    gate: GateConfig = request.app.state.gate
    return json_response(TrafficBody(split=traffic.split, shadow=traffic.shadow, gate=gate))


SPLIT_TRAFFIC = Endpoint(
    method="PUT",
    path="/admin/v1/traffic",
    handler=split_traffic,
    needs="admin",
    summary="Splits users between labels, in all servers",
    takes=SplitBody,
    answers=TrafficBody,
    failures=(409,),
)
"""For operators; servers follow within a moment."""
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
