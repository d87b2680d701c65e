"""Recommend: what a user did, what would be recommended, why, and what one watch more changes."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Self

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from upnext.console.changing import token_in
from upnext.console.client import Server, ServerRefusedError, escaped
from upnext.console.column import Column, column
from upnext.console.curl import curl_command
from upnext.console.forms import Fields, form_of
from upnext.console.known import Answer, Known, answer_of, known_of
from upnext.console.question import LAST_MS, Question, time_field
from upnext.console.rendering import render, server_of
from upnext.console.watch_event import event_of

ASKED = "/v1/recommendations"
WANTS_A_TOKEN = (401, 403)
BEFORE = "the list before the watch"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A watch that the server took, as the URL tells it once the form was sent."""

    item_id: str
    at_ms: int
    num_new: int
    num_repeated: int

    @classmethod
    def of(cls, fields: Fields) -> Self | None:
        """None where nothing was sent."""
        numbers = [fields.get(name, "") for name in ("sent_at_ms", "num_new", "num_repeated")]
        if "sent" not in fields or not all(n.isdecimal() and len(n) < 16 for n in numbers):
            return None
        at_ms, num_new, num_repeated = map(int, numbers)
        if at_ms > LAST_MS:
            return None
        return cls(item_id=fields["sent"], at_ms=at_ms, num_new=num_new, num_repeated=num_repeated)


async def show(request: Request) -> Response:
    """GET /recommend; POST sends a watch, and leads back."""
    question = Question.of(request.query_params)
    if request.method == "POST":
        return await _send(request, question)
    return await _page(request, question, sent=Sent.of(request.query_params))


async def _send(request: Request, question: Question) -> Response:
    """Tells the server a watch; a refusal is shown in the page, and nothing has changed."""
    fields = await form_of(request)
    event = event_of(fields, at_ms=question.at_ms)
    token = token_in(fields)
    try:
        told = await server_of(request).tell_event(event, token=token)
    except ServerRefusedError as error:
        question = question.but(asks_token=question.asks_token or error.status in WANTS_A_TOKEN)
        return await _page(request, question, refusal=error, tried=fields)
    if question.at_ms is not None:  # time goes on while somebody watches
        question = question.but(at_ms=question.at_ms + max(1, round(1e3 * event["watch_time_s"])))
    sent = {
        "sent": event["item_id"],
        "sent_at_ms": event["started_at_ms"],
        "num_new": told["num_accepted"],
        "num_repeated": told["num_duplicates"],
    }
    return RedirectResponse(question.url(**sent), 303)


async def _page(
    request: Request,
    question: Question,
    *,
    sent: Sent | None = None,
    refusal: ServerRefusedError | None = None,
    tried: Fields | None = None,
) -> Response:
    server, fields = server_of(request), request.query_params
    known = await known_of(server, question, fields.get("search") or None)
    columns = await _columns(server, question, known, sent) if fields else []
    refused = refusal or (columns[0].refusal if columns else None)
    body = question.body(known.user_id(question))
    return render(
        request,
        "recommend.html",
        status=200 if refused is None else refused.status,
        title="Recommend",
        question=question,
        search=fields.get("search", ""),
        known=known,
        user_id=known.user_id(question),
        user_key=json.dumps(known.user_id(question)),
        time_field=time_field,
        asked_at_ms=time.time() * 1e3 if question.at_ms is None else question.at_ms,
        columns=columns,
        known_until_ms=await _known_until_ms(server, columns),
        sent=sent,
        refusal=refusal,
        tried=tried or {},
        wants_token=refusal is not None and refusal.status in WANTS_A_TOKEN,
        curl=curl_command(f"{server.public_url}{ASKED}", body, has_token=server.has_token),
    )


async def _columns(
    server: Server, question: Question, known: Known, sent: Sent | None
) -> list[Column]:
    """One list, or two side by side. After a watch one list is held against itself before it."""
    name = _name(question.release)
    if question.beside is not None:
        other = question.but(release=question.beside)
        first, second = await asyncio.gather(
            _answer(server, question, known), _answer(server, other, known)
        )
        return _side_by_side((name, first), (_name(question.beside), second), question, known)
    if sent is None:
        base, answer = None, await _answer(server, question, known)
    else:
        then = question.but(at_ms=sent.at_ms, why=None)
        before, answer = await asyncio.gather(
            _answer(server, then, known), _answer(server, question, known)
        )
        base = (BEFORE, before) if isinstance(before, dict) else None
    return [column(name, answer, base=base, why=question.why, titles=known.titles())]


def _name(release: str | None) -> str:
    if release is None:
        return "As traffic has it"
    return f"release {release}" if release.isdecimal() else release


def _side_by_side(
    first: tuple[str, Answer], second: tuple[str, Answer], question: Question, known: Known
) -> list[Column]:
    titles, why = known.titles(), question.why
    (name, one), (beside, other) = first, second
    return [
        column(
            name, one, beside=other if isinstance(other, dict) else None, why=why, titles=titles
        ),
        column(
            beside,
            other,
            base=(name, one) if isinstance(one, dict) else None,
            why=why,
            titles=titles,
        ),
    ]


async def _answer(server: Server, question: Question, known: Known) -> Answer:
    try:
        return await server.ask(ASKED, question.body(known.user_id(question)))
    except ServerRefusedError as error:
        return error


async def _known_until_ms(server: Server, columns: list[Column]) -> int | None:
    """Where the logs of the release that answered end, as it tells of any of its items."""
    if not columns or not columns[0].slots:
        return None
    path = f"items/{escaped(str(columns[0].slots[0].item['item_id']))}"
    told = await answer_of(server, path, version=columns[0].answer["release"])
    return int(told["known_until_ms"]) if isinstance(told, dict) else None
