"""How a live release is looked into: in its turn, and the answer tells which release it was."""

from collections.abc import Callable, Iterator
from dataclasses import fields, make_dataclass
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


def in_release(kind: type[T]) -> Any:
    """The type of a body that has the fields of what is seen, and the `release` and its `label`."""
    return make_dataclass(
        f"{kind.__name__}Body",
        [("release", str), ("label", str | None)],
        bases=(kind,),
        namespace={"__doc__": kind.__doc__},
        frozen=True,
        kw_only=True,
    )


async def answer(
    request: Request,
    query: ReleaseQuery,
    see: Callable[[Recommender], Iterator[T | None]],
) -> Response:
    """What is seen of the release that is asked, in a body as `in_release` describes it.

    Args:
        see: as for `Answering.look`.

    Raises: RefusedError: the release does not know the item (404). And what `look` raises.
    """
    with unknown_items_missing():
        looked = await answering_of(request).look(see, label=query.label, version=query.version)
    told = {field.name: getattr(looked.seen, field.name) for field in fields(looked.seen)}
    return json_response({**told, "release": looked.release, "label": looked.label})
