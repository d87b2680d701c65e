"""The REST interface of TensorFlow Serving, version 1, over the same answers.

As told in its `api_rest.md`: the status and the metadata of a model, and `:predict` with rows
(`instances`) or columns (`inputs`). `:classify` and `:regress` take tf.Example features that no
model here has. NaN and Infinity, which that page allows, are refused: they are no JSON.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from upnext.errors import RequestError
from upnext.serving.decoding import decode
from upnext.serving.endpoints import answering_of, json_response, read_body
from upnext.serving.models import (
    Datatype,
    Model,
    Row,
    Tensor,
    Wanted,
    held_versions,
    model_named,
    rows_of,
    version_wanted,
    wanted_by_path,
)
from upnext.serving.wire import MAX_BATCH

SIGNATURE = "serving_default"
_DTYPES: Mapping[Datatype, str] = {
    "BYTES": "DT_STRING",
    "INT64": "DT_INT64",
    "FP32": "DT_FLOAT",
    "BOOL": "DT_BOOL",
}
_STATES = {"loading": "LOADING", "ready": "AVAILABLE", "draining": "UNLOADING", "failed": "END"}


class PredictBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either rows or columns; what stands in them is told by the model's metadata.

    Bytes may be written as an object with their base64 under `b64`; here they must be UTF-8.
    """

    signature_name: str = SIGNATURE
    instances: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MAX_BATCH)] | None = (
        None
    )
    inputs: dict[str, Any] | None = None


async def status(request: Request) -> Response:
    """GET /v1/models/{model}: of all versions, or of the one that is named or has the label."""
    model_named(request.path_params["model"])
    answering = answering_of(request)
    held = held_versions(answering)
    wanted = wanted_by_path(request.path_params)
    if wanted != Wanted():
        # A version that is loading, or has failed, has a status, though it answers nothing.
        version = wanted.version
        if version is None or version not in held:
            version = version_wanted(answering, wanted)
        held = {version: held[version]}
    told = [_version_status(version, *how) for version, how in sorted(held.items(), reverse=True)]
    return json_response({"model_version_status": told})


async def metadata(request: Request) -> Response:
    """GET /v1/models/{model}/metadata: inputs and outputs, as a TensorFlow signature."""
    model = model_named(request.path_params["model"])
    version = version_wanted(answering_of(request), wanted_by_path(request.path_params))
    signature = {
        "inputs": {tensor.name: _tensor_info(tensor) for tensor in model.inputs},
        "outputs": {tensor.name: _tensor_info(tensor) for tensor in model.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return json_response(
        {
            "model_spec": {"name": model.name, "signature_name": "", "version": str(version)},
            "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
        }
    )


async def predict(request: Request) -> Response:
    """POST /v1/models/{model}:predict."""
    model = model_named(request.path_params["model"])
    body = decode(await read_body(request), PredictBody)
    if body.signature_name not in (SIGNATURE, ""):
        got = repr(body.signature_name[:100])
        raise RequestError("body.signature_name", expected=SIGNATURE, got=got)
    rows, where = _rows_in(body)
    predicted = await model.predict(
        answering_of(request), rows, wanted_by_path(request.path_params), where=where
    )
    headers = {} if predicted.release is None else {"X-Upnext-Release": predicted.release}
    outputs = predicted.outputs
    if body.instances is not None:
        return json_response({"predictions": _as_rows(model, outputs)}, headers=headers)
    alone = next(iter(outputs.values())) if len(model.outputs) == 1 else outputs
    return json_response({"outputs": alone}, headers=headers)


def _rows_in(body: PredictBody) -> tuple[Sequence[Row], str]:
    """The rows of a body, without any `b64`, and what they are called in errors."""
    if body.instances is not None and body.inputs is None:
        return [_plain_values(row, "body.instances") for row in body.instances], "body.instances"
    if body.inputs is not None and body.instances is None:
        columns = _plain_values(body.inputs, "body.inputs")
        return rows_of(columns, where="body.inputs"), "body.inputs"
    got = "neither" if body.inputs is None else "both"
    raise RequestError("body", expected="instances or inputs", got=got)


def _as_rows(model: Model, outputs: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
    """One object a row, or one value where the model has one output."""
    if len(model.outputs) == 1:
        return next(iter(outputs.values()))
    names = list(outputs)
    return [dict(zip(names, row, strict=True)) for row in zip(*outputs.values(), strict=True)]


def _plain_values(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {name: _plain(value, f"{where}.{name[:100]}") for name, value in values.items()}


def _plain(value: Any, where: str, *, depth: int = 2) -> Any:
    """A value in which texts that came as base64 are texts; no input is deeper than a column."""
    match value:
        case list() if depth:
            return [_plain(inner, where, depth=depth - 1) for inner in value]
        case {"b64": str(encoded)} if len(value) == 1:
            try:
                return base64.b64decode(encoded, validate=True).decode()
            except (binascii.Error, UnicodeError):
                expected, got = "base64 of UTF-8", repr(encoded[:40])
                raise RequestError(f"{where}.b64", expected=expected, got=got) from None
        case _:
            return value


def _version_status(version: int, state: str, cause: str) -> dict[str, Any]:
    code = "OK" if not cause else "UNKNOWN"
    return {
        "version": str(version),
        "state": _STATES[state],
        "status": {"error_code": code, "error_message": cause},
    }


def _tensor_info(tensor: Tensor) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in tensor.shape]
    return {
        "dtype": _DTYPES[tensor.datatype],
        "tensor_shape": {"dim": dimensions, "unknown_rank": False},
        "name": f"{tensor.name}:0",
    }
