"""The map: items on a plane, like ones near each other, and the true neighbours of one of them."""

import asyncio
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from upnext.console.client import Json, Server, escaped
from upnext.console.colouring import COLOURS, Colour, colouring
from upnext.console.rendering import render, server_of
from upnext.errors import RequestError

NUM_NEIGHBOURS, NUM_FOUND = 20, 20


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What stands in the URL. `label`, `version`: of the release; stable where neither is named."""

    colour: Colour
    item_id: str | None
    search: str | None
    label: str | None
    version: str | None

    @classmethod
    def by(cls, request: Request) -> "Asked":
        """Raises: RequestError: there is no such colouring."""
        fields = request.query_params
        told = fields.get("colour") or COLOURS[0]
        colour = next((one for one in COLOURS if one == told), None)
        if colour is None:
            raise RequestError("colour", expected=f"one of {', '.join(COLOURS)}", got=repr(told))
        return cls(
            colour=colour,
            item_id=fields.get("item_id") or None,
            search=(fields.get("search") or "").strip() or None,
            label=fields.get("label") or None,
            version=fields.get("version") or None,
        )

    @property
    def of_release(self) -> dict[str, str | None]:
        """The release as the server is asked for it, and as links name it."""
        return {"label": self.label, "version": self.version}


async def show(request: Request) -> Response:
    """GET /map."""
    asked, server = Asked.by(request), server_of(request)
    told, selected, found = await asyncio.gather(
        server.look("map", **asked.of_release), _selected(server, asked), _found(server, asked)
    )
    places = dict(
        zip(map(str, told["item_id"]), zip(told["x"], told["y"], strict=True), strict=True)
    )
    return render(
        request,
        "map.html",
        title="Map",
        asked=asked,
        colours=COLOURS,
        told=told,
        groups=colouring(told, asked.colour).groups,
        selected=selected,
        found=found,
        places=places,
    )


async def points(request: Request) -> Response:
    """GET /map/points.json: what the script draws, in columns; `groups` by colouring."""
    told = await server_of(request).look("map", **Asked.by(request).of_release)
    kept = {name: told[name] for name in ("release", "item_id", "title", "x", "y")}
    groups = {colour: colouring(told, colour).group_of for colour in COLOURS}
    return JSONResponse({**kept, "groups": groups})


async def _selected(server: Server, asked: Asked) -> Json | None:
    """The item that is selected, and its neighbours in truth, the nearest first."""
    if asked.item_id is None:
        return None
    one, near = await asyncio.gather(
        server.look(f"items/{escaped(asked.item_id)}", **asked.of_release),
        server.look("neighbours", item_id=asked.item_id, k=NUM_NEIGHBOURS, **asked.of_release),
    )
    return {"item": one["item"], "exact": near["exact"]}


async def _found(server: Server, asked: Asked) -> list[Json] | None:
    if asked.search is None:
        return None
    told = await server.look("items", search=asked.search, k=NUM_FOUND, **asked.of_release)
    items: list[Json] = told["items"]
    return items
