"""HTTP over the live releases: the application that is made of the table of routes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from upnext.errors import UpnextError
from upnext.serving.answering import Answering
from upnext.serving.collecting import Collector, EventStore
from upnext.serving.failures import on_error, on_foreign_error
from upnext.serving.releases import LiveReleases
from upnext.serving.routes import ENDPOINTS
from upnext.serving.security import Security, SecurityConfig, open_security

logger = logging.getLogger(__name__)


def create_app(
    answering: Answering,
    *,
    store: EventStore | None = None,
    security: Security | None = None,
    follow_every_s: float = 1.0,
) -> Starlette:
    """The application; the registry of `answering.live`, if any, is followed as it runs.

    `store`: where events go; None takes none. `security`: None is that of a loopback address.
    """
    security = security or open_security(SecurityConfig())
    app = Starlette(
        routes=[endpoint.route(security) for endpoint in ENDPOINTS],
        lifespan=_lifespan,
        middleware=_cors(security),
        exception_handlers={
            UpnextError: on_error,
            HTTPException: on_error,
            ClientDisconnect: on_error,
            Exception: on_foreign_error,
        },
    )
    app.router.redirect_slashes = False  # a path is right or wrong
    app.state.endpoints = ENDPOINTS
    app.state.answering = answering
    app.state.collector = None if store is None else Collector(store)
    app.state.follow_every_s = follow_every_s
    return app


def _cors(security: Security) -> Sequence[Middleware]:
    """Tells browsers which sites may read answers; where none is allowed, nothing is told."""
    if not security.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=[origin.decode() for origin in sorted(security.origins)],
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Upnext-Release", "Retry-After"],
        )
    ]


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    live = app.state.answering.live
    following = asyncio.create_task(_follow_labels(live, app.state.follow_every_s))
    yield
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def _follow_labels(live: LiveReleases, every_s: float) -> None:
    while True:
        try:
            await asyncio.to_thread(live.follow_labels)
        except Exception:  # a follower that dies would follow no label ever after
            logger.exception("the registry could not be followed")
        await asyncio.sleep(every_s)
