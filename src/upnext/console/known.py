"""What a server knows of who asks, before anything is recommended."""

import asyncio
from dataclasses import dataclass

from upnext.console.client import Json, Server, ServerRefusedError, escaped
from upnext.console.column import name_of
from upnext.console.question import Question
from upnext.schema import Id

NUM_USERS, NUM_PAST, NUM_FOUND = 30, 20, 10
Answer = Json | ServerRefusedError


@dataclass(frozen=True, kw_only=True)
class Known:
    """Of one question.

    `users`: those of the latest watches. `ready`: which releases answer. `past`: None where nobody
    is named. `made`: the items of the history made by hand, in its order; None where the release
    does not know one. `found`: items that may be put into it.
    """

    users: list[Json]
    ready: Json
    past: Answer | None
    made: list[Json | None]
    found: list[Json]

    def user_id(self, question: Question) -> Id | None:
        """In the owner's own type, which may be an integer."""
        if isinstance(self.past, dict):
            told: Id = self.past["user_id"]
            return told
        return question.user_id

    def titles(self) -> dict[str, str]:
        """Of the items that may be named in reasons, by their ids as texts."""
        past = self.past["watches"] if isinstance(self.past, dict) else []
        items = [*past, *filter(None, self.made)]
        return {str(item["item_id"]): name_of(item) for item in items}


async def known_of(server: Server, question: Question, search: str | None) -> Known:
    """Asks the server; what it refuses is left out, but for the past, which tells why."""
    users, ready, past, found, made = await asyncio.gather(
        answer_of(server, "users", k=NUM_USERS),
        server.ready(),
        _past(server, question),
        _found(server, question, search),
        asyncio.gather(*(_made(server, question, one.item_id) for one in question.history)),
    )
    return Known(
        users=users["users"] if isinstance(users, dict) else [],
        ready=ready,
        past=past,
        made=made,
        found=found,
    )


async def answer_of(server: Server, path: str, **query: str | int | float | None) -> Answer:
    """What the server tells, or why it does not."""
    try:
        return await server.look(path, **query)
    except ServerRefusedError as error:
        return error


async def _past(server: Server, question: Question) -> Answer | None:
    if question.user_id is None:
        return None
    of_release = question.of_release()
    return await answer_of(server, "past", user_id=question.user_id, num=NUM_PAST, **of_release)


async def _found(server: Server, question: Question, search: str | None) -> list[Json]:
    if search is None:
        return []
    told = await answer_of(server, "items", search=search, k=NUM_FOUND, **question.of_release())
    return told["items"] if isinstance(told, dict) else []


async def _made(server: Server, question: Question, item_id: str) -> Json | None:
    told = await answer_of(server, f"items/{escaped(item_id)}", **question.of_release())
    return told["item"] if isinstance(told, dict) else None
