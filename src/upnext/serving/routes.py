"""The one table of routes: routing, checks and the description are all made from it."""

from collections.abc import Sequence

from upnext.serving import open_inference, tensorflow_serving
from upnext.serving.about import DESCRIBING_ENDPOINTS, healthz, readyz
from upnext.serving.collecting import collect
from upnext.serving.endpoints import Endpoint
from upnext.serving.recommending import recommend, recommend_batch, similar
from upnext.serving.wire import (
    AnswerBody,
    AppendedBody,
    BatchAnswerBody,
    BatchBody,
    EventsBody,
    RequestBody,
    SimilarQuery,
)

_TENSORFLOW = "/v1/models/{model}"
_OPEN_INFERENCE = "/v2/models/{model}"

ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        method="POST",
        path="/v1/recommendations",
        handler=recommend,
        needs="read",
        summary="Recommends items to a user",
        takes=RequestBody,
        answers=AnswerBody,
        failures=(404, 429, 503),
        sheds=True,
    ),
    Endpoint(
        method="POST",
        path="/v1/events",
        handler=collect,
        needs="events",
        summary="Tells what happened; answered once it is durable",
        takes=EventsBody,
        answers=AppendedBody,
        failures=(429, 501, 503),
    ),
    Endpoint(
        method="POST",
        path="/v1/recommendations:batch",
        handler=recommend_batch,
        needs="read",
        summary="Answers some requests, each as if asked alone",
        takes=BatchBody,
        answers=BatchAnswerBody,
    ),
    Endpoint(
        method="GET",
        path="/v1/items/{item_id:path}/similar",
        handler=similar,
        needs="read",
        summary="Items like one item",
        query=SimilarQuery,
        answers=AnswerBody,
        failures=(400, 404, 429, 503),
    ),
    *(
        Endpoint(
            method="POST",
            path=f"{_TENSORFLOW}{release}:predict",
            handler=tensorflow_serving.predict,
            needs="read",
            summary="TensorFlow Serving: predictions by rows or columns",
            takes=tensorflow_serving.PredictBody,
            failures=(404, 429, 503),
            sheds=True,
        )
        for release in ("", "/versions/{version}", "/labels/{label}")
    ),
    *(
        Endpoint(
            method="GET",
            path=f"{_TENSORFLOW}{release}{what}",
            handler=handler,
            needs="read",
            summary=f"TensorFlow Serving: the {handler.__name__} of a model",
            failures=(400, 404, 503),
        )
        for what, handler in (
            ("", tensorflow_serving.status),
            ("/metadata", tensorflow_serving.metadata),
        )
        for release in ("", "/versions/{version}", "/labels/{label}")
    ),
    *(
        Endpoint(
            method="POST",
            path=f"{_OPEN_INFERENCE}{release}/infer",
            handler=open_inference.infer,
            needs="read",
            summary="Open Inference Protocol: tensors in, tensors out",
            takes=open_inference.InferBody,
            failures=(404, 429, 503),
            may_be_binary=True,
            sheds=True,
        )
        for release in ("", "/versions/{version}")
    ),
    *(
        Endpoint(
            method="GET",
            path=f"{_OPEN_INFERENCE}{release}{what}",
            handler=handler,
            needs="read",
            summary=f"Open Inference Protocol: {told} of a model",
            failures=(400, 404, 503),
        )
        for what, handler, told in (
            ("", open_inference.model_metadata, "inputs and outputs"),
            ("/ready", open_inference.model_ready, "readiness"),
        )
        for release in ("", "/versions/{version}")
    ),
    Endpoint(
        method="GET",
        path="/v2",
        handler=open_inference.server_metadata,
        needs="public",
        summary="Open Inference Protocol: name, version and extensions",
    ),
    Endpoint(
        method="GET",
        path="/v2/health/live",
        handler=open_inference.live,
        needs="public",
        summary="Open Inference Protocol: is the process alive?",
    ),
    Endpoint(
        method="GET",
        path="/v2/health/ready",
        handler=open_inference.ready,
        needs="public",
        summary="Open Inference Protocol: are requests answered?",
        failures=(503,),
    ),
    Endpoint(
        method="GET",
        path="/healthz",
        handler=healthz,
        needs="public",
        summary="Is the process alive?",
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        handler=readyz,
        needs="public",
        summary="Which releases answer?",
        failures=(503,),
    ),
    *DESCRIBING_ENDPOINTS,
)
"""Every route, what it needs, what it takes and what it answers; the busiest first."""
