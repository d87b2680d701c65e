"""The console's application: one table of pages, from which routes and navigation are made."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from upnext.console.client import Server, ServerDownError, ServerRefusedError
from upnext.console.guard import Guard
from upnext.console.operations import Operations
from upnext.console.pages import (
    data,
    home,
    item,
    item_map,
    journal,
    promote,
    quality,
    recommend,
    release,
    releases,
    rollback,
    shares,
    traffic,
    training,
)
from upnext.console.rendering import render
from upnext.console.watching import Watch
from upnext.errors import RequestError
from upnext.pictures import stylesheet

Show = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page. `takes_posts`: whether its forms change something; they are sent to itself."""

    path: str
    title: str
    show: Show
    takes_posts: bool = False

    @property
    def route(self) -> Route:
        """Where it is found."""
        methods = ["GET", "POST"] if self.takes_posts else ["GET"]
        return Route(self.path, self.show, methods=methods)


RELEASE = "/releases/{version}"
LISTED = (
    Page(path="/", title="Home", show=home.show),
    Page(path="/recommend", title="Recommend", show=recommend.show, takes_posts=True),
    Page(path="/item", title="Items", show=item.show),
    Page(path="/map", title="Map", show=item_map.show),
    Page(path="/releases", title="Releases", show=releases.show),
    Page(path="/training", title="Training", show=training.show),
    Page(path="/quality", title="Quality", show=quality.show),
    Page(path="/traffic", title="Traffic", show=traffic.show),
    Page(path="/data", title="Data", show=data.show),
)
"""Where the navigation leads, in its order."""
PAGES = (
    *LISTED,
    Page(path="/item/ageing", title="How an item ages", show=item.show_ageing),
    Page(path="/map/points.json", title="Points of the map", show=item_map.points),
    Page(path=RELEASE, title="Release", show=release.show),
    Page(path=f"{RELEASE}/promote", title="Promote", show=promote.show, takes_posts=True),
    Page(path="/rollback", title="Roll back", show=rollback.show, takes_posts=True),
    Page(path="/shares", title="Shares", show=shares.show, takes_posts=True),
    Page(path="/journal", title="Journal", show=journal.show),
)
"""Every page."""


def create_console_app(server: Server, *, hosts: Collection[str]) -> Starlette:
    """The application; it watches the server while it runs.

    `hosts`: names that it answers to.
    """
    watch = Watch(server)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with server, watch.watching():
            yield

    app = Starlette(
        routes=[
            *(page.route for page in PAGES),
            Route("/static/pictures.css", _pictures_css),
            Mount("/static", StaticFiles(packages=[("upnext.console", "static")])),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={
            ServerDownError: _down,
            ServerRefusedError: _refused,
            RequestError: _misunderstood,
            HTTPException: _missing,
        },
        lifespan=lifespan,
    )
    app.state.server, app.state.watch = server, watch
    app.state.operations, app.state.pages = Operations(), LISTED
    return app


async def _pictures_css(_request: Request) -> Response:
    return Response(stylesheet(), media_type="text/css")


async def _down(request: Request, error: Exception) -> Response:
    return render(request, "down.html", status=503, title="The server does not answer", error=error)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, ServerRefusedError) else 502
    title = "Not found" if status == 404 else "The server said no"
    return render(request, "error.html", status=status, title=title, error=error)


async def _misunderstood(request: Request, error: Exception) -> Response:
    return render(request, "error.html", status=400, title="Not understood", error=error)


async def _missing(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return render(request, "error.html", status=status, title="Not found", error=None)
