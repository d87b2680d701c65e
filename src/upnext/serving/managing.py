"""What operators and Prometheus reach, on an address of its own: releases, labels, metrics."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from upnext.serving.admin import create_admin_app
from upnext.serving.endpoints import json_response
from upnext.serving.metrics import Metrics
from upnext.serving.security import Guard, RefusedError, Security
from upnext.serving.wire import ErrorBody, error_detail

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_managing_app(registry: Path, security: Security, metrics: Metrics) -> ASGIApp:
    """The application behind its checks: metrics want the token that reads, the rest admin's."""

    async def tell_metrics(_request: Request) -> Response:
        return Response(metrics.to_text(), media_type=METRICS_TYPE)

    reading = Middleware(Guard, security=security, needs="read")
    return Starlette(
        routes=[
            Route("/metrics", tell_metrics, middleware=[reading]),
            Mount("/", app=Guard(create_admin_app(registry), security=security, needs="admin")),
        ],
        exception_handlers={RefusedError: _on_refused},
    )


async def _on_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    body = ErrorBody(error=error_detail(error))
    return json_response(body, status=error.status, headers=error.headers)
