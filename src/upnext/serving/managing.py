"""What operators and Prometheus reach, on an address of its own: releases, labels, metrics."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from upnext.serving.admin import ADMIN_ENDPOINTS
from upnext.serving.app import make_application
from upnext.serving.endpoints import Endpoint
from upnext.serving.metrics import Metrics
from upnext.serving.security import Security

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_managing_app(registry: Path, security: Security, metrics: Metrics) -> ASGIApp:
    """The application behind its checks: metrics want the token that reads, the rest admin's."""
    app = make_application(MANAGING_ENDPOINTS, security)
    app.state.registry, app.state.metrics = registry, metrics
    return app


async def tell_metrics(request: Request) -> Response:
    """GET /metrics."""
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.to_text(), media_type=METRICS_TYPE)


MANAGING_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/metrics",
        handler=tell_metrics,
        needs="read",
        summary="What happened, in numbers that Prometheus reads",
        answers=str,
    ),
    *ADMIN_ENDPOINTS,
)
"""Every route of the address that is not for everybody."""
