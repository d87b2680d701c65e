"""HTTP over the live releases: the application that is made of the table of routes."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from upnext.errors import UpnextError
from upnext.serving.answering import Answering
from upnext.serving.collecting import Collector, TakesEvents
from upnext.serving.endpoints import Endpoint, Routes
from upnext.serving.failures import on_error, on_foreign_error
from upnext.serving.metrics import Metrics
from upnext.serving.routes import ENDPOINTS
from upnext.serving.security import Security, SecurityConfig, open_security
from upnext.serving.shedding import refusal_of


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
    return _Application(endpoints, security)


class _Application(Starlette):
    """Starlette's state, beginning and end; a request goes straight to its handler.

    A busy server passes by here for each page, and Starlette's own way, a dozen functions deep,
    takes longer than all else that is done for one beside answering it.
    """

    def __init__(self, endpoints: Sequence[Endpoint], security: Security) -> None:
        super().__init__()
        self._routes, self._security = Routes(endpoints), security
        self.state.endpoints = endpoints

    def build_middleware_stack(self) -> ASGIApp:
        """Tells browsers which sites may read answers; where none is allowed, nothing is told."""
        origins = self._security.origins
        if not origins:
            return self._handle
        return CORSMiddleware(
            self._handle,
            allow_origins=[origin.decode() for origin in sorted(origins)],
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Upnext-Release", "Retry-After"],
        )

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.router(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except (UpnextError, ClientDisconnect) as error:
            response = on_error(request, error)
        except Exception:
            await on_foreign_error(request)(scope, receive, send)
            raise  # the server logs it
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        """Nothing is read before it is known that there is a route, who asks, and room for him."""
        scope = request.scope
        endpoint = self._routes.find(scope)
        self._security.check(scope["headers"], endpoint.needs, scope["method"])
        if endpoint.sheds and self.state.answering.turns_away():
            return refusal_of(endpoint)
        return await endpoint.handler(request)
