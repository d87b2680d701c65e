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
from upnext.console.pages import home, item_map
from upnext.console.rendering import render
from upnext.console.watching import Watch
from upnext.errors import RequestError
from upnext.pictures import stylesheet

Show = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page. `is_listed`: whether the navigation leads there. `methods`: GET shows it."""

    path: str
    title: str
    show: Show
    is_listed: bool = True
    methods: tuple[str, ...] = ("GET",)


PAGES = (
    Page(path="/", title="Home", show=home.show),
    Page(path="/map", title="Map", show=item_map.show),
    Page(path="/map/points.json", title="Points of the map", show=item_map.points, is_listed=False),
)
"""Every page, in the order of the navigation."""


def create_console_app(server: Server, *, hosts: Collection[str] | None) -> Starlette:
    """The application; it watches the server while it runs.

    `hosts`: names that it answers to; None answers to all.
    """
    watch = Watch(server)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with server, watch.watching():
            yield

    app = Starlette(
        routes=[
            *(Route(page.path, page.show, methods=list(page.methods)) for page in PAGES),
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
    app.state.operations, app.state.pages = Operations(), PAGES
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
