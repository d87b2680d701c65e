"""Users are split between labels over HTTP, by operators."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from upnext.errors import ConfigError, RequestError
from upnext.registry.labels import read_labels
from upnext.serving.decoding import decode
from upnext.serving.endpoints import Endpoint, read_body
from upnext.serving.insight.traffic import TrafficBody, traffic_told
from upnext.serving.registered import registry_of
from upnext.serving.security import RefusedError
from upnext.serving.traffic import ShadowConfig, Traffic, write_traffic

_Share = Annotated[float, Meta(ge=0, le=1)]


class ShadowBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A label that answers this share of requests too, unseen."""

    label: str
    share: _Share


class SharesBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of users by label, together 1, and the shadow if there is one."""

    split: Annotated[dict[str, _Share], Meta(min_length=1, max_length=1000)]
    shadow: ShadowBody | None = None


class SplitBody(SharesBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How shares shall be, and, where that is said, how they must stand for it."""

    expected_previous: SharesBody | UnsetType = UNSET


async def split_traffic(request: Request) -> Response:
    """PUT /admin/v1/traffic."""
    body = decode(await read_body(request), SplitBody)
    traffic, expected = _traffic_of(body, "body"), None
    if isinstance(body.expected_previous, SharesBody):
        expected = _traffic_of(body.expected_previous, "body.expected_previous")
    await asyncio.to_thread(_write, registry_of(request), traffic, expected)
    return traffic_told(request, traffic)


def _traffic_of(body: SharesBody, where: str) -> Traffic:
    """Raises RequestError: the shares are not 1 together."""
    shadow = None
    if body.shadow is not None:
        shadow = ShadowConfig(label=body.shadow.label, share=body.shadow.share)
    try:
        return Traffic(split=body.split, shadow=shadow)
    except ConfigError as error:
        got = error.got[:200]
        raise RequestError(f"{where}.split", expected=error.expected, got=got) from None


def _write(registry: Path, traffic: Traffic, expected: Traffic | None) -> None:
    """Raises RefusedError: a label is named that there is not, or shares stand otherwise (409)."""
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
    try:
        write_traffic(registry, traffic, expected_previous=expected)
    except ConfigError as error:
        raise RefusedError(
            409, error.where, expected=error.expected, got=error.got, hint=error.hint
        ) from None


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
"""Servers follow within a moment."""
