"""The routes that tell of the server itself: is it alive, is it ready, and what may be asked."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from upnext.serving.endpoints import Endpoint, answering_of, is_answering, json_response
from upnext.serving.openapi import openapi_document


async def healthz(_request: Request) -> Response:
    """GET /healthz."""
    return json_response({"alive": True})


async def readyz(request: Request) -> Response:
    """GET /readyz."""
    answering = answering_of(request)
    state, is_ready = answering.live.state, is_answering(answering)
    content = {
        "ready": is_ready,
        "labels": state.labels,
        "releases": sorted(state.recommenders),
        "problems": state.problems,
    }
    return json_response(content, status=200 if is_ready else 503)


async def front_page(request: Request) -> Response:
    """GET /."""
    paths: dict[str, list[str]] = {}
    for endpoint in _endpoints_of(request):
        paths.setdefault(endpoint.shown_path, []).append(endpoint.method)
    return json_response({"name": "upnext", "routes": paths})


async def openapi(request: Request) -> Response:
    """GET /openapi.json."""
    return json_response(openapi_document(_endpoints_of(request)))


def _endpoints_of(request: Request) -> Sequence[Endpoint]:
    endpoints: Sequence[Endpoint] = request.app.state.endpoints
    return endpoints


DESCRIBING_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/",
        handler=front_page,
        needs="public",
        summary="Which routes are there?",
    ),
    Endpoint(
        method="GET",
        path="/openapi.json",
        handler=openapi,
        needs="public",
        summary="This description",
    ),
)
"""What every address tells of itself, to anybody."""
