"""What visitors say in a form that they post."""

from urllib.parse import parse_qsl

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request

Fields = ImmutableMultiDict[str, str]


async def form_of(request: Request) -> Fields:
    """The fields of a form that was posted, those that were left empty too."""
    body = (await request.body()).decode("utf-8", "replace")
    return ImmutableMultiDict(parse_qsl(body, keep_blank_values=True))
