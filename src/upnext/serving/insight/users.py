"""The users of a live release: found, and what one of them did up to now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from upnext.events.event import ID_MAX_BYTES
from upnext.insight import UserCard, UserPast
from upnext.serving.endpoints import Endpoint, answering_of, read_query
from upnext.serving.insight.asking import OF_A_RELEASE, Number, answer, in_release
from upnext.serving.releases import Recommender
from upnext.serving.wire import ReleaseQuery


class UsersQuery(ReleaseQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How ids begin; nothing: the users of the latest watches."""

    prefix: Annotated[str, Meta(max_length=ID_MAX_BYTES)] = ""
    k: Number = 20


class PastQuery(ReleaseQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose past, and how many watches and searches of it."""

    user_id: Annotated[str, Meta(min_length=1, max_length=ID_MAX_BYTES)]
    num: Number = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """The users that were found."""

    users: Sequence[UserCard]


async def search_users(request: Request) -> Response:
    """GET /insight/v1/users."""
    query = read_query(request, UsersQuery)

    def see(recommender: Recommender) -> Iterator[Users]:
        yield Users(users=recommender.insight.users(query.prefix, query.k))

    return await answer(request, query, see)


async def past(request: Request) -> Response:
    """GET /insight/v1/past."""
    query, answering = read_query(request, PastQuery), answering_of(request)

    def see(recommender: Recommender) -> Iterator[UserPast]:
        user_id = recommender.insight.user_id(query.user_id)
        live, causes = answering.live_past(recommender, user_id)
        yield replace(recommender.insight.past(user_id, query.num, live), degraded=causes)

    return await answer(request, query, see)


USER_ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        method="GET",
        path="/insight/v1/users",
        handler=search_users,
        needs="read",
        summary="Finds users by the beginning of their ids, those of the latest watches first",
        query=UsersQuery,
        answers=in_release(Users),
        failures=OF_A_RELEASE,
    ),
    Endpoint(
        method="GET",
        path="/insight/v1/past",
        handler=past,
        needs="read",
        summary="What a user did, in the logs of a release and since",
        query=PastQuery,
        answers=in_release(UserPast),
        failures=OF_A_RELEASE,
    ),
)
"""What may be asked of the users of a release that is loaded."""
