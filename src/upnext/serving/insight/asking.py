"""How a live release is looked into: in its turn, and the answer tells which release it was."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from upnext.serving.endpoints import answering_of, json_response, unknown_items_missing
from upnext.serving.releases import Recommender
from upnext.serving.wire import ReleaseQuery

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

OF_A_RELEASE = (404, 429, 503)
"""What may befall whoever asks a loaded release; see `Endpoint.failures`."""

Number = Annotated[int, Meta(ge=1, le=1000, description="How many at most.")]


async def answer(
    request: Request,
    query: ReleaseQuery,
    see: Callable[[Recommender], Iterator[T | None]],
    body: Callable[..., Any],
) -> Response:
    """What is seen of the release that is asked, as a body that has its fields.

    Args:
        see: as for `Answering.look`.
        body: made of the fields of what is seen, `release` and `label`.

    Raises: RefusedError: the release does not know the item (404). And what `look` raises.
    """
    with unknown_items_missing():
        looked = await answering_of(request).look(see, label=query.label, version=query.version)
    told = {field.name: getattr(looked.seen, field.name) for field in fields(looked.seen)}
    return json_response(body(**told, release=looked.release, label=looked.label))
