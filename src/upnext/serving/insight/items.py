"""The items of a live release: found, one by one, their neighbours, their ageing, and on a map."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from upnext.events.event import ID_MAX_BYTES
from upnext.insight import ItemAgeing, ItemCard, ItemDays, ItemMap, Neighbours
from upnext.serving.endpoints import Endpoint, read_query
from upnext.serving.insight.asking import OF_A_RELEASE, Number, answer, in_release
from upnext.serving.releases import Recommender
from upnext.serving.wire import ReleaseQuery

ItemIdText = Annotated[str, Meta(min_length=1, max_length=ID_MAX_BYTES, examples=["v00312"])]


class ItemsQuery(ReleaseQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An id, its beginning, or words of a title; nothing: the most watched items."""

    search: Annotated[str, Meta(max_length=200)] = ""
    k: Number = 20


class NeighboursQuery(ReleaseQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many neighbours, and of which item."""

    item_id: ItemIdText
    k: Number = 20


class ProbabilityQuery(ReleaseQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which item, at which example age beside those of training, and for how many users."""

    item_id: ItemIdText
    example_age_days: Annotated[float, Meta(ge=-36_500, le=36_500)] = 0.0
    num_users: Annotated[int, Meta(ge=1, le=1000, description="Fewer, where items are many.")] = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The items that were found."""

    items: Sequence[ItemCard]


async def search_items(request: Request) -> Response:
    """GET /insight/v1/items."""
    query = read_query(request, ItemsQuery)

    def see(recommender: Recommender) -> Iterator[Items]:
        yield Items(items=recommender.insight.items(query.search, query.k))

    return await answer(request, query, see)


async def one_item(request: Request) -> Response:
    """GET /insight/v1/items/{item_id}."""
    query = read_query(request, ReleaseQuery)
    item_id: str = request.path_params["item_id"]

    def see(recommender: Recommender) -> Iterator[ItemDays]:
        yield recommender.insight.item(item_id)

    return await answer(request, query, see)


async def neighbours(request: Request) -> Response:
    """GET /insight/v1/neighbours."""
    query = read_query(request, NeighboursQuery)

    def see(recommender: Recommender) -> Iterator[Neighbours]:
        yield recommender.insight.neighbours(query.item_id, query.k)

    return await answer(request, query, see)


async def probability(request: Request) -> Response:
    """GET /insight/v1/probability."""
    query = read_query(request, ProbabilityQuery)

    def see(recommender: Recommender) -> Iterator[ItemAgeing | None]:
        yield from recommender.insight.ageing(
            query.item_id, query.example_age_days, query.num_users
        )

    return await answer(request, query, see)


async def item_map(request: Request) -> Response:
    """GET /insight/v1/map."""
    query = read_query(request, ReleaseQuery)

    def see(recommender: Recommender) -> Iterator[ItemMap]:
        yield recommender.insight.map()

    return await answer(request, query, see)


ITEM_ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        method="GET",
        path="/insight/v1/items",
        handler=search_items,
        needs="read",
        summary="Finds items by id or by words of their titles, the most watched first",
        query=ItemsQuery,
        answers=in_release(Items),
        failures=OF_A_RELEASE,
    ),
    Endpoint(
        method="GET",
        path="/insight/v1/items/{item_id:path}",
        handler=one_item,
        needs="read",
        summary="What a release knows of an item, day by day",
        query=ReleaseQuery,
        answers=in_release(ItemDays),
        failures=OF_A_RELEASE,
    ),
    Endpoint(
        method="GET",
        path="/insight/v1/neighbours",
        handler=neighbours,
        needs="read",
        summary="Items like one item, in truth and as the index finds them",
        query=NeighboursQuery,
        answers=in_release(Neighbours),
        failures=OF_A_RELEASE,
    ),
    Endpoint(
        method="GET",
        path="/insight/v1/probability",
        handler=probability,
        needs="read",
        summary="How probable an item is by days since its publication",
        query=ProbabilityQuery,
        answers=in_release(ItemAgeing),
        failures=OF_A_RELEASE,
    ),
    Endpoint(
        method="GET",
        path="/insight/v1/map",
        handler=item_map,
        needs="read",
        summary="Items on a plane, like ones near each other",
        query=ReleaseQuery,
        answers=in_release(ItemMap),
        failures=OF_A_RELEASE,
    ),
)
"""What may be asked of the items of a release that is loaded."""
