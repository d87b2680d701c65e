"""Shares: which label answers how many users, which answers unseen, and when one is taken back."""

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from upnext.console.changing import change_facts, check_words, start, token_in
from upnext.console.client import Json
from upnext.console.forms import Fields, form_of
from upnext.console.rendering import render, server_of, url
from upnext.console.sharing import as_percent, fingerprint, shares_of, traffic_in
from upnext.errors import RequestError

WORDS = "change shares"


async def show(request: Request) -> Response:
    """GET /shares; POST changes them, and leads back."""
    server = server_of(request)
    traffic, told = await asyncio.gather(server.look("traffic"), server.look("releases"))
    labels = sorted({*told["labels"], *traffic["split"]})
    if request.method != "POST":
        return _page(request, traffic, told, labels)
    fields = await form_of(request)
    try:
        number = _send(request, fields, traffic, labels)
    except RequestError as refusal:
        return _page(request, traffic, told, labels, refusal=refusal, fields=fields)
    return RedirectResponse(url("/shares", operation=number), 303)


def _send(request: Request, fields: Fields, traffic: Json, labels: list[str]) -> int:
    """The number of what was set in motion. Raises RequestError: nothing was."""
    check_words(fields, WORDS)
    wanted, token = traffic_in(fields, labels), token_in(fields)
    if fields.get("shown") != fingerprint(traffic):
        raise RequestError(
            "shares",
            expected="that they are still those that the page showed",
            got="others",
            hint="somebody changed them in the meantime; look again, then decide anew.",
        )
    shares = ", ".join(f"{label} {as_percent(share)}%" for label, share in wanted["split"].items())
    body = {**wanted, "expected_previous": shares_of(traffic)}
    return start(request, f"Shares: {shares}", "PUT", "traffic", body, token=token).number


def _page(
    request: Request,
    traffic: Json,
    told: Json,
    labels: list[str],
    *,
    refusal: RequestError | None = None,
    fields: Fields | None = None,
) -> Response:
    return render(
        request,
        "shares.html",
        status=400 if refusal else 200,
        title="Shares",
        traffic=traffic,
        stands_at=told["labels"],
        typed=_typed(traffic, labels, fields or {}),
        labels=labels,
        shown=fingerprint(traffic),
        words=WORDS,
        **change_facts(request, refusal),
    )


def _typed(traffic: Json, labels: list[str], fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of the form: as they stand, but for what somebody has typed. No token."""
    shadow = traffic["shadow"] or {}
    shares = {f"share-{label}": as_percent(traffic["split"].get(label, 0.0)) for label in labels}
    standing = shares | {
        "shadow": shadow.get("label", ""),
        "shadow-share": as_percent(shadow.get("share")),
    }
    return {name: fields.get(name, value) for name, value in standing.items()}
