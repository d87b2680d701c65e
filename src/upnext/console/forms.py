"""What a form of ours posts."""

from urllib.parse import parse_qsl

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request


async def form_of(request: Request) -> ImmutableMultiDict[str, str]:
    """Its fields, those that were left empty too."""
    body = (await request.body()).decode("utf-8", "replace")
    return ImmutableMultiDict(parse_qsl(body, keep_blank_values=True))
