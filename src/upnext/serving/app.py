"""HTTP over the live releases: recommendations, health, readiness, and a description of itself."""

import asyncio
import logging
import reprlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from upnext.errors import RequestError, UpnextError
from upnext.serving.openapi import openapi_document
from upnext.serving.releases import DEFAULT_LABEL, LiveReleases, NotServedError
from upnext.serving.wire import decode_request, encode_answer, encode_error

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024


def create_app(live: LiveReleases, *, num_threads: int = 2) -> Starlette:
    """The application; who keeps `live` as a registry wants it is told in `following.py`.

    Recommenders compute for some milliseconds, so they run in `num_threads` threads of their
    own and the event loop stays free for health checks. Few threads: NumPy, faiss and
    onnxruntime keep the cores busy by themselves, and more would only make requests share them.
    """
    routes = [
        Route("/", _front_page),
        Route("/v1/recommendations", _recommend, methods=["POST"]),
        Route("/healthz", _healthz),
        Route("/readyz", _readyz),
        Route("/openapi.json", _openapi),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            UpnextError: _on_upnext_error,
            HTTPException: _on_http_exception,
            ClientDisconnect: _on_disconnect,
            Exception: _on_exception,
        },
    )
    app.state.live = live
    app.state.threads = ThreadPoolExecutor(num_threads, thread_name_prefix="recommend")
    return app


async def _recommend(request: Request) -> Response:
    asked, label = decode_request(await _read_body(request))
    live: LiveReleases = request.app.state.live
    loop = asyncio.get_running_loop()
    try:
        with live.acquire(label) as route:
            answer = await loop.run_in_executor(
                request.app.state.threads, route.recommender.recommend, asked
            )
    except NotServedError as error:
        told = RequestError(
            f"body.{error.where}",
            expected=error.expected,
            got=reprlib.repr(label),
            hint="GET /readyz tells which releases are loaded.",
        )
        # Clients that name no label did nothing wrong: the server is not ready for them.
        return _error(503 if label == DEFAULT_LABEL else 404, told)
    content = encode_answer(answer, label)
    return _json(content, headers={"X-Upnext-Release": answer.release})


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413)
    return bytes(body)


async def _healthz(_request: Request) -> Response:
    return _json(msgspec.json.encode({"alive": True}))


async def _readyz(request: Request) -> Response:
    live: LiveReleases = request.app.state.live
    state = live.state
    ready = DEFAULT_LABEL in state.labels
    content = {
        "ready": ready,
        "labels": state.labels,
        "releases": sorted(state.recommenders),
        "problems": state.problems,
    }
    return _json(msgspec.json.encode(content), status=200 if ready else 503)


async def _front_page(request: Request) -> Response:
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    paths = {route.path: sorted((route.methods or set()) - {"HEAD"}) for route in routes}
    return _json(msgspec.json.encode({"name": "upnext", "routes": paths}))


async def _openapi(_request: Request) -> Response:
    return _json(msgspec.json.encode(openapi_document()))


async def _on_upnext_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestError):
        return _error(400, error)
    logger.error("%s failed", request.url.path, exc_info=error)
    return _failed(request)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    match error.status_code:
        case 413:
            told = RequestError("body", expected=f"up to {MAX_BODY_BYTES:,} bytes", got="more")
            headers["Connection"] = "close"  # the rest of the body is not read
        case 405:
            told = RequestError(request.url.path, expected="another method", got=request.method)
        case _:
            told = RequestError(request.url.path, expected="a route", got="none", hint="see GET /.")
    return _error(error.status_code, told, headers)


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody is left to read it


async def _on_exception(request: Request, _error: Exception) -> Response:
    return _failed(request)  # Starlette raises it once more, and the server logs it


def _failed(request: Request) -> Response:
    told = UpnextError(
        request.url.path, expected="an answer", got="a failure", hint="the server's log says why."
    )
    return _error(500, told)


def _error(status: int, error: UpnextError, headers: Mapping[str, str] | None = None) -> Response:
    return _json(encode_error(error), status=status, headers=headers)


def _json(
    content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(content, status, headers, media_type="application/json")
