"""From a page's facts to its HTML; whatever stands in them is escaped."""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from upnext.console.client import Server
from upnext.console.operations import Operations
from upnext.console.watching import Watch
from upnext.metric_names import metric_label
from upnext.pictures import numbers
from upnext.pictures.picture import as_html

THEMES = ("light", "dark")


def url(path: str, **query: object) -> str:
    """A link; what is None is left out.

    >>> url("/item", item_id="a b/c", k=None)
    '/item?item_id=a+b%2Fc'
    """
    asked = {name: str(value) for name, value in query.items() if value is not None}
    return quote(path) + (f"?{urlencode(asked)}" if asked else "")


def render(request: Request, template: str, *, status: int = 200, **facts: Any) -> Response:
    """A page. Every template also knows the request's `path`, `query`, `now_ms`, and `watch`."""
    theme = request.cookies.get("theme")
    known: Mapping[str, Any] = {
        "path": request.url.path,
        "query": request.query_params,
        "now_ms": time.time() * 1e3,
        "theme": theme if theme in THEMES else None,
        "watch": watch_of(request),
        "server": server_of(request),
        "pages": request.app.state.pages,
    }
    html = _ENVIRONMENT.get_template(template).render({**known, **facts})
    return HTMLResponse(html, status)


def server_of(request: Request) -> Server:
    """The server that this console shows."""
    server: Server = request.app.state.server
    return server


def watch_of(request: Request) -> Watch:
    """What its counters did lately."""
    watch: Watch = request.app.state.watch
    return watch


def operations_of(request: Request) -> Operations:
    """What was set in motion."""
    operations: Operations = request.app.state.operations
    return operations


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("upnext.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(numbers, name)
        for name in ("short", "percent", "milliseconds", "seconds", "size", "when", "day", "ago")
    }
    environment.filters |= {"picture": as_html, "metric_label": metric_label}
    environment.globals |= {"url": url, "interval": numbers.interval}
    return environment


_ENVIRONMENT = _environment()
