"""upnext's own questions over HTTP: recommendations, alone and in batches, and similar items."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from upnext.errors import RequestError
from upnext.serving.answering import Answering
from upnext.serving.asked import Answered
from upnext.serving.decoding import decode, decode_part
from upnext.serving.endpoints import (
    answering_of,
    is_answering,
    json_response,
    read_body,
    read_query,
)
from upnext.serving.failures import failure_of
from upnext.serving.security import RefusedError
from upnext.serving.wire import (
    AnswerBody,
    BatchAnswerBody,
    BatchBody,
    RefusalBody,
    RequestBody,
    SimilarQuery,
    answer_body,
    asked_of,
    error_detail,
)


async def recommend(request: Request) -> Response:
    """POST /v1/recommendations."""
    asked = asked_of(decode(await read_body(request), RequestBody))
    return _told(await answering_of(request).recommend(asked))


async def recommend_batch(request: Request) -> Response:
    """POST /v1/recommendations:batch; one request that is refused does not spoil the others."""
    batch = decode(await read_body(request), BatchBody)
    answering = answering_of(request)
    parts = [
        _answer_part(answering, part, f"body.requests[{place}]")
        for place, part in enumerate(batch.requests)
    ]
    return json_response(BatchAnswerBody(answers=await asyncio.gather(*parts)))


async def similar(request: Request) -> Response:
    """GET /v1/items/{item_id}/similar."""
    query = read_query(request, SimilarQuery)
    item_id: str = request.path_params["item_id"]
    try:
        answered = await answering_of(request).similar(
            item_id, query.k, label=query.label, version=query.version
        )
    except RequestError as error:
        if error.where != "item_id":
            raise
        raise RefusedError(404, "item_id", expected=error.expected, got=error.got) from None
    return _told(answered)


async def _answer_part(
    answering: Answering, part: msgspec.Raw, where: str
) -> AnswerBody | RefusalBody:
    try:
        asked = asked_of(decode_part(part, RequestBody, where=where))
        return answer_body(await answering.recommend(asked))
    except Exception as error:  # whatever befalls one request, the others are answered
        failure = failure_of(error, where, is_ready=is_answering(answering))
        return RefusalBody(status=failure.status, error=error_detail(failure.told))


def _told(answered: Answered) -> Response:
    headers = {"X-Upnext-Release": answered.recommendations.release}
    return json_response(answer_body(answered), headers=headers)
