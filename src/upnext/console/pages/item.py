"""An item: what is known of it, what lies near it, and how popular it was and is believed to be."""

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from upnext.console.client import Json, Server, ServerRefusedError, escaped
from upnext.console.forms import finite, number_in
from upnext.console.known import Answer, answer_of
from upnext.console.rendering import render, server_of
from upnext.pictures.popularity import item_picture, probability_picture

NUM_FOUND, NUM_NEIGHBOURS = 40, 20
LEAST_AGE_DAYS = 30.0
"""How far the slider goes at least."""


async def show(request: Request) -> Response:
    """GET /item: the items that a text finds, or one item."""
    item_id = request.query_params.get("item_id")
    return await (_one(request, item_id) if item_id else _search(request))


async def show_ageing(request: Request) -> Response:
    """GET /item/ageing: the one picture that the slider moves, without the page around it."""
    of_release = _of_release(request.query_params)
    item_id, age_days = request.query_params.get("item_id", ""), _age_days(request)
    ageing = await _ageing(server_of(request), item_id, age_days, of_release)
    return render(request, "item_ageing.html", ageing=ageing, picture_of=probability_picture)


async def _search(request: Request) -> Response:
    fields = request.query_params
    search = fields.get("search", "")
    of_release = _of_release(fields)
    told = await server_of(request).look("items", search=search, k=NUM_FOUND, **of_release)
    return render(
        request,
        "items.html",
        title="Items",
        search=search,
        of_release=of_release,
        items=told["items"],
        release=told["release"],
    )


async def _one(request: Request, item_id: str) -> Response:
    server, of_release = server_of(request), _of_release(request.query_params)
    age_days = _age_days(request)
    told, near, ageing = await asyncio.gather(
        server.look(f"items/{escaped(item_id)}", **of_release),
        answer_of(server, "neighbours", item_id=item_id, k=NUM_NEIGHBOURS, **of_release),
        _ageing(server, item_id, age_days, of_release),
    )
    return render(
        request,
        "item.html",
        title=told["item"]["title"] or item_id,
        item_id=item_id,
        of_release=of_release,
        told=told,
        near=near,
        ageing=ageing,
        age_days=age_days,
        most_days=_most_days(ageing, age_days),
        by_day=item_picture(told),
        picture_of=probability_picture,
    )


async def _ageing(
    server: Server, item_id: str, age_days: float, of_release: Mapping[str, str | None]
) -> Answer:
    return await answer_of(
        server, "probability", item_id=item_id, example_age_days=age_days, **of_release
    )


def _most_days(ageing: Answer, age_days: float) -> int:
    """The end of the slider: the oldest example that training had, in whole days."""
    days: Json = {} if isinstance(ageing, ServerRefusedError) else ageing
    return round(max(LEAST_AGE_DAYS, age_days, *(days.get("days") or ())))


def _age_days(request: Request) -> float:
    return number_in(request.query_params, "example_age_days", finite, "days") or 0.0


def _of_release(fields: Mapping[str, str]) -> dict[str, str | None]:
    """Which release is looked into; what is named there stays named in links."""
    return {name: fields.get(name) or None for name in ("label", "version")}
