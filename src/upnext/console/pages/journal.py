"""Journal: every move of a label, when, by whom and why."""

from starlette.requests import Request
from starlette.responses import Response

from upnext.console.asked import MOST, number_asked, same_page
from upnext.console.client import Json
from upnext.console.rendering import render, server_of

NUM_SHOWN = 200


async def show(request: Request) -> Response:
    """GET /journal?label=stable&num=200."""
    num = number_asked(request, "num", NUM_SHOWN)
    # One more than is shown tells whether there are older ones.
    told = await server_of(request).look("journal", num=num + 1)
    looked_at: list[Json] = told["moves"][-num:]
    label = request.query_params.get("label") or None
    labels = {move["label"] for move in looked_at} | ({label} if label else set())
    return render(
        request,
        "journal.html",
        title="Journal",
        moves=[move for move in reversed(looked_at) if label in (None, move["label"])],
        num_looked_at=len(looked_at),
        has_older=len(told["moves"]) > num,
        num=num,
        older=same_page(request, num=min(MOST, num + NUM_SHOWN)),
        label=label,
        labels=sorted(labels),
    )
