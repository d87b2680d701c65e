"""Roll back: a label goes to the version that it had before."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from upnext.console.changing import change_facts, check_words, start, token_in
from upnext.console.forms import Fields, form_of
from upnext.console.rendering import render, server_of, url
from upnext.console.standing import held_by, label_in_query, release_in
from upnext.errors import RequestError


async def show(request: Request) -> Response:
    """GET /rollback?label=stable; POST sends it off, and leads back."""
    label = label_in_query(request)
    if request.method != "POST":
        return await _page(request, label)
    fields = await form_of(request)
    try:
        number = await _send(request, fields, label)
    except RequestError as refusal:
        return await _page(request, label, refusal=refusal, reason=fields.get("reason", ""))
    return RedirectResponse(url("/rollback", label=label, operation=number), 303)


async def _send(request: Request, fields: Fields, label: str) -> int:
    """The number of what was set in motion. Raises RequestError: nothing was."""
    told = await server_of(request).look("releases")
    current, before = told["labels"].get(label), told["rollback"].get(label)
    if before is None:
        expected = "an earlier version to go back to"
        raise RequestError(f"label {label}", expected=expected, got="none")
    shown = (fields.get("from"), fields.get("to"))
    if shown != (str(current), str(before)):
        # The server would compare where it stands, but not where it goes.
        raise RequestError(
            f"label {label}",
            expected=f"that it goes from {shown[0]} to {shown[1]}, as the page showed",
            got=f"from {current} to {before}",
            hint="it moved in the meantime; look again, then decide anew.",
        )
    check_words(fields, f"{label} {before}")
    body = {"expected_previous": current, "reason": fields.get("reason", "").strip()}
    title = f"Roll {label} back from release {current} to {before}"
    path = f"labels/{label}/rollback"
    return start(request, title, "POST", path, body, token=token_in(fields)).number


async def _page(
    request: Request,
    label: str,
    *,
    refusal: RequestError | None = None,
    reason: str = "",
) -> Response:
    told = await server_of(request).look("releases")
    current, before = told["labels"].get(label), told["rollback"].get(label)
    return render(
        request,
        "rollback.html",
        status=400 if refusal else 200,
        title="Roll back",
        label=label,
        labels=sorted({*told["labels"], label}),
        current=current,
        before=before,
        lines=[one for version in (current, before) if (one := release_in(told, version))],
        held=held_by(told, before) if before is not None else [],
        **change_facts(request, refusal),
        reason=reason,
    )
