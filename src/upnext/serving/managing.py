"""What operators and Prometheus reach, on an address of its own: labels, metrics, insight."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from upnext.serving.admin import ADMIN_ENDPOINTS
from upnext.serving.answering import Answering
from upnext.serving.app import make_application
from upnext.serving.endpoints import Endpoint
from upnext.serving.insight.live import LIVE_INSIGHT_ENDPOINTS
from upnext.serving.metrics import Metrics
from upnext.serving.security import Security

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_managing_app(
    registry: Path, security: Security, metrics: Metrics, answering: Answering
) -> ASGIApp:
    """The application behind its checks: what only tells wants the token that reads, the rest
    admin's."""
    app = make_application(MANAGING_ENDPOINTS, security)
    app.state.registry, app.state.metrics = registry, metrics
    app.state.answering = answering
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
    *LIVE_INSIGHT_ENDPOINTS,
    *ADMIN_ENDPOINTS,
)
"""Every route of the address that is not for everybody."""
