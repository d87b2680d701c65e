"""Promote: load a release and warm it, then point a label at it: two steps, each seen."""

import re

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from upnext.console.asked import VERSION
from upnext.console.changing import change_facts, check_words, start, token_in
from upnext.console.forms import Fields, form_of
from upnext.console.rendering import render, server_of, url
from upnext.console.standing import (
    held_by,
    is_ready_everywhere,
    label_in_query,
    release_in,
    version_in_path,
)
from upnext.errors import RequestError


async def show(request: Request) -> Response:
    """GET /releases/3/promote?label=stable; POST takes a step, and leads back."""
    version, label = version_in_path(request), label_in_query(request)
    if request.method != "POST":
        return await _page(request, version, label)
    fields = await form_of(request)
    try:
        number = await _step(request, fields, version, label)
    except RequestError as refusal:
        return await _page(
            request, version, label, refusal=refusal, reason=fields.get("reason", "")
        )
    return RedirectResponse(url(request.url.path, label=label, operation=number), 303)


async def _step(request: Request, fields: Fields, version: int, label: str) -> int:
    """The number of what was set in motion. Raises RequestError: nothing was."""
    match fields.get("step"):
        case "load":
            path, title = f"releases/{version}/load", f"Load and warm release {version}"
            return start(request, title, "POST", path, {}, token=token_in(fields)).number
        case "point":
            return await _point(request, fields, version, label)
        case other:
            raise RequestError("step", expected="load or point", got=repr(other)[:100])


async def _point(request: Request, fields: Fields, version: int, label: str) -> int:
    check_words(fields, f"{label} {version}")
    token, previous = token_in(fields), _previous(fields)
    held = held_by(await server_of(request).look("releases"), version)
    if not is_ready_everywhere(held):
        raise RequestError(
            f"release {version}",
            expected="that it is ready in every server process",
            got="; ".join(f"process {one.pid}: {one.state}" for one in held) or "no process",
            hint="load and warm it first; nothing was sent to the server.",
        )
    body = {
        "version": version,
        "expected_previous": previous,
        "reason": fields.get("reason", "").strip(),
    }
    title = f"Point {label} at release {version}"
    return start(request, title, "PUT", f"labels/{label}", body, token=token).number


def _previous(fields: Fields) -> int | None:
    """Where the page showed that the label stands; None: nowhere yet."""
    text = fields.get("expected_previous")
    if text is None or not re.fullmatch(f"({VERSION})?", text):
        expected = "the version that the page showed"
        raise RequestError("expected_previous", expected=expected, got=repr(text)[:100])
    return int(text) if text else None


async def _page(
    request: Request,
    version: int,
    label: str,
    *,
    refusal: RequestError | None = None,
    reason: str = "",
) -> Response:
    told = await server_of(request).look("releases")
    release, held = release_in(told, version), held_by(told, version)
    return render(
        request,
        "promote.html",
        status=400 if refusal else 404 if release is None else 200,
        title=f"Promote release {version}",
        version=version,
        label=label,
        labels=sorted({*told["labels"], "stable", "canary", label}),
        release=release,
        held=held,
        is_ready=is_ready_everywhere(held),
        stands_at=told["labels"].get(label),
        **change_facts(request, refusal),
        reason=reason,
    )
