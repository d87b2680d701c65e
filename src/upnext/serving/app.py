"""HTTP over the live releases: the application that is made of the table of routes."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from upnext.errors import UpnextError
from upnext.serving.answering import Answering
from upnext.serving.collecting import Collector, TakesEvents
from upnext.serving.endpoints import Endpoint
from upnext.serving.failures import on_error, on_foreign_error
from upnext.serving.metrics import Metrics
from upnext.serving.routes import ENDPOINTS
from upnext.serving.security import Security, SecurityConfig, open_security


def create_app(
    answering: Answering,
    *,
    store: TakesEvents | None = None,
    security: Security | None = None,
    metrics: Metrics | None = None,
) -> Starlette:
    """The application; who keeps its releases as a registry wants them is told in `following.py`.

    `store`: where events go; None takes none. `security`: None is that of a loopback address.
    `metrics`: where events are counted.
    """
    app = make_application(ENDPOINTS, security or open_security(SecurityConfig()))
    app.state.answering = answering
    app.state.collector = None if store is None else Collector(store, metrics)
    return app


def make_application(endpoints: Sequence[Endpoint], security: Security) -> Starlette:
    """An application of a table of routes, each behind its checks, that tells errors as all do."""
    app = Starlette(
        routes=[endpoint.route(security) for endpoint in endpoints],
        middleware=_cors(security),
        exception_handlers={
            UpnextError: on_error,
            HTTPException: on_error,
            ClientDisconnect: on_error,
            Exception: on_foreign_error,
        },
    )
    app.router.redirect_slashes = False  # a path is right or wrong
    app.state.endpoints = endpoints
    return app


def _cors(security: Security) -> Sequence[Middleware]:
    """Tells browsers which sites may read answers; where none is allowed, nothing is told."""
    if not security.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=[origin.decode() for origin in sorted(security.origins)],
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Upnext-Release", "Retry-After"],
        )
    ]
