"""What operators, Prometheus and whoever looks into a server reach, on an address of its own."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from upnext.serving.admin import ADMIN_ENDPOINTS
from upnext.serving.answering import Answering
from upnext.serving.app import make_application
from upnext.serving.endpoints import Endpoint
from upnext.serving.gate import GateConfig
from upnext.serving.insight.live import LIVE_INSIGHT_ENDPOINTS
from upnext.serving.insight.registry import REGISTRY_INSIGHT_ENDPOINTS
from upnext.serving.metrics import Metrics
from upnext.serving.security import Security

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_managing_app(
    registry: Path,
    security: Security,
    metrics: Metrics,
    answering: Answering,
    *,
    gate: GateConfig | None = None,
) -> ASGIApp:
    """The application behind its checks: what tells wants the token that reads, the rest admin's.

    `gate`: when labels are taken back; None is when they are unless told otherwise.
    """
    app = make_application(MANAGING_ENDPOINTS, security)
    app.state.registry, app.state.metrics = registry, metrics
    app.state.answering, app.state.gate = answering, gate or GateConfig()
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
    *REGISTRY_INSIGHT_ENDPOINTS,
    *ADMIN_ENDPOINTS,
)
"""Every route of the address that is not for everybody."""
