"""The Open Inference Protocol, version 2, over HTTP, with its extension for binary tensors.

Ids are BYTES in all answers, so that they are what the metadata says; an integer id is its digits.
Rows of unequal length are filled up at their ends: with empty texts, which are no ids, and zeros.
"""

import importlib.metadata
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from upnext.errors import RequestError
from upnext.serving.decoding import convert, decode
from upnext.serving.endpoints import answering_of, is_answering, json_response, read_body
from upnext.serving.models import (
    MODELS,
    Datatype,
    Predicted,
    Tensor,
    Wanted,
    held_versions,
    model_named,
    rows_of,
    version_wanted,
    wanted_by_path,
)
from upnext.serving.wire import MAX_BATCH, MAX_WAIT_MS

HEADER_LENGTH = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON; the binary tensors come behind them."""
MAX_TENSORS = 32
EXTENSIONS = ("binary_tensor_data",)

_Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class InputParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of an input whose values stand behind the JSON: how many bytes they take."""

    binary_data_size: _Size | None = None


class OutputParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the values of an output shall stand behind the JSON."""

    binary_data: bool | None = None


class InferParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a request wants to be served."""

    label: str | None = None
    deadline_ms: Annotated[float, Meta(gt=0, le=MAX_WAIT_MS)] | None = None
    is_logged: bool = True
    binary_data_output: bool = False


class InputTensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values of one input, row after row, flat or nested."""

    name: str
    shape: Annotated[list[_Size], Meta(min_length=1, max_length=2)]
    datatype: Datatype
    data: list[Any] | None = None
    parameters: InputParameters = InputParameters()


class OutputTensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tensors of the inputs that are given, and which outputs are asked; without a list, all."""

    inputs: Annotated[list[InputTensor], Meta(max_length=MAX_TENSORS)]
    outputs: Annotated[list[OutputTensor], Meta(max_length=MAX_TENSORS)] | None = None
    id: str | None = None
    parameters: InferParameters = InferParameters()


async def server_metadata(_request: Request) -> Response:
    """GET /v2."""
    version = importlib.metadata.version("upnext")
    return json_response({"name": "upnext", "version": version, "extensions": EXTENSIONS})


async def live(_request: Request) -> Response:
    """GET /v2/health/live."""
    return json_response({"live": True})


async def ready(request: Request) -> Response:
    """GET /v2/health/ready."""
    is_ready = is_answering(answering_of(request))
    return json_response({"ready": is_ready}, status=200 if is_ready else 503)


async def model_metadata(request: Request) -> Response:
    """GET /v2/models/{model}."""
    model = model_named(request.path_params["model"])
    answering = answering_of(request)
    version_wanted(answering, wanted_by_path(request.path_params))
    ready = [
        version for version, (state, _) in held_versions(answering).items() if state == "ready"
    ]
    return json_response(
        {
            "name": model.name,
            "versions": [str(version) for version in sorted(ready)],
            "platform": "upnext",
            "inputs": model.inputs,
            "outputs": model.outputs,
        }
    )


async def model_ready(request: Request) -> Response:
    """GET /v2/models/{model}/ready."""
    model = model_named(request.path_params["model"])
    version_wanted(answering_of(request), wanted_by_path(request.path_params))
    return json_response({"name": model.name, "ready": True})


async def infer(request: Request) -> Response:
    """POST /v2/models/{model}/infer."""
    model = model_named(request.path_params["model"])
    content, binary = _parted(await read_body(request), request.headers.get(HEADER_LENGTH))
    body = decode(content, InferBody)
    outputs = _outputs_asked(body, model.outputs)
    rows = rows_of(_columns(body.inputs, binary), where="body.inputs")
    how = body.parameters
    by_path = wanted_by_path(request.path_params)
    if how.label is not None and by_path.version is not None:
        raise RequestError("body.parameters.label", expected="a label or a version", got="both")
    wanted = Wanted(
        label=how.label,
        version=by_path.version,
        deadline_ms=how.deadline_ms,
        is_logged=how.is_logged,
    )
    predicted = await model.predict(answering_of(request), rows, wanted, where="body.inputs")
    return _answer(model.name, body.id, predicted, outputs)


def _outputs_asked(body: InferBody, known: Sequence[Tensor]) -> Sequence[tuple[Tensor, bool]]:
    """Which outputs are asked, and whether in binary. Raises RequestError: there is no such one."""
    all_binary = body.parameters.binary_data_output
    if body.outputs is None:
        return [(tensor, all_binary) for tensor in known]
    by_name = {tensor.name: tensor for tensor in known}
    asked = []
    for place, output in enumerate(body.outputs):
        if output.name not in by_name:
            where, got = f"body.outputs[{place}].name", repr(output.name[:100])
            raise RequestError(where, expected=f"one of {', '.join(by_name)}", got=got)
        binary = output.parameters.binary_data
        asked.append((by_name[output.name], all_binary if binary is None else binary))
    return asked


def _parted(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """The JSON of a body, and what stands behind it."""
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit()) or not (
        0 < (num_bytes := int(header_length[:10])) <= len(body)
    ):
        expected, got = f"1 to {len(body)}, the bytes of JSON", repr(header_length[:20])
        raise RequestError(HEADER_LENGTH, expected=expected, got=got)
    return body[:num_bytes], body[num_bytes:]


def _columns(inputs: Sequence[InputTensor], binary: bytes) -> Mapping[str, object]:
    """Each input's values, one element a row."""
    columns: dict[str, object] = {}
    begin = 0
    for place, tensor in enumerate(inputs):
        where = f"body.inputs[{place}]"
        if tensor.name in columns:
            raise RequestError(where, expected="each input once", got=repr(tensor.name[:100]))
        num_bytes = tensor.parameters.binary_data_size
        if (num_bytes is None) == (tensor.data is None):
            expected = "data or binary_data_size"
            got = "neither" if tensor.data is None else "both"
            raise RequestError(where, expected=expected, got=got)
        if num_bytes is None:
            flat = _flat(tensor, where)
        else:
            flat = _from_binary(tensor.datatype, binary[begin : begin + num_bytes], where)
            begin += num_bytes
        columns[tensor.name] = _shaped(flat, tensor, where)
    if begin != len(binary):
        expected, got = f"{begin} bytes of binary tensors", str(len(binary))
        raise RequestError("body", expected=expected, got=got)
    return columns


def _flat(tensor: InputTensor, where: str) -> list[Any]:
    data: list[Any] = tensor.data or []
    if len(tensor.shape) > 1 and data and isinstance(data[0], list):
        data = [value for row in data for value in (row if isinstance(row, list) else [row])]
    return convert(data, _LISTS[tensor.datatype], where=f"{where}.data")


def _shaped(flat: list[Any], tensor: InputTensor, where: str) -> list[Any]:
    """Values by row: single ones where the tensor has one axis or is an input of one a row."""
    if tensor.shape[0] > MAX_BATCH:
        got = str(tensor.shape[0])
        raise RequestError(f"{where}.shape", expected=f"up to {MAX_BATCH} rows", got=got)
    num_values = math.prod(tensor.shape)
    if len(flat) != num_values:
        expected = f"{num_values} values, as the shape says"
        raise RequestError(where, expected=expected, got=str(len(flat)))
    if len(tensor.shape) == 1:
        return flat
    num_rows, size = tensor.shape
    if tensor.name in _ONE_A_ROW:
        if size != 1:
            raise RequestError(f"{where}.shape", expected="one value a row", got=str(size))
        return flat
    rows = (flat[place * size : (place + 1) * size] for place in range(num_rows))
    return [[value for value in row if value != ""] for row in rows]


def _from_binary(datatype: Datatype, content: bytes, where: str) -> list[Any]:
    match datatype:
        case "BYTES":
            return list(_texts(content, where))
        case "BOOL":
            return [bool(byte) for byte in content]
        case "INT64" | "FP32":
            dtype = np.dtype(_NUMBERS[datatype])
            if len(content) % dtype.itemsize:
                expected = f"a multiple of {dtype.itemsize} bytes"
                raise RequestError(where, expected=expected, got=str(len(content)))
            values: list[Any] = np.frombuffer(content, dtype).tolist()
            return values


def _texts(content: bytes, where: str) -> Iterator[str]:
    place = 0
    while place < len(content):
        begin = place + 4
        (num_bytes,) = struct.unpack("<I", content[place:begin].ljust(4, b"\0"))
        place = begin + num_bytes
        if place > len(content):
            raise RequestError(where, expected="texts, each behind its length", got="a part of one")
        try:
            yield content[begin:place].decode()
        except UnicodeDecodeError:
            raise RequestError(where, expected="texts in UTF-8", got="other bytes") from None


def _answer(
    name: str,
    request_id: str | None,
    predicted: Predicted,
    outputs: Sequence[tuple[Tensor, bool]],
) -> Response:
    told, behind = [], []
    for tensor, is_binary in outputs:
        flat, shape = _filled(predicted.outputs[tensor.name], tensor)
        one = {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}
        if is_binary:
            behind.append(_to_binary(flat, tensor.datatype))
            told.append({**one, "parameters": {"binary_data_size": len(behind[-1])}})
        else:
            told.append({**one, "data": flat})
    answer: dict[str, Any] = {"model_name": name, "outputs": told}
    headers = {}
    if predicted.release is not None:
        answer["model_version"] = headers["X-Upnext-Release"] = predicted.release
    if request_id is not None:
        answer["id"] = request_id
    if not behind:
        return json_response(answer, headers=headers)
    content = msgspec.json.encode(answer)
    headers[HEADER_LENGTH] = str(len(content))
    return Response(content + b"".join(behind), 200, headers, media_type="application/octet-stream")


def _filled(rows: Sequence[Any], tensor: Tensor) -> tuple[list[Any], list[int]]:
    """All values one after another, and their shape; rows are filled up to the longest."""
    as_value: Callable[[Any], Any] = str if tensor.datatype == "BYTES" else float
    if len(tensor.shape) == 1:
        return [as_value(value) for value in rows], [len(rows)]
    size = max(map(len, rows))
    flat = []
    for row in rows:
        flat += [as_value(value) for value in row]
        flat += [as_value("" if tensor.datatype == "BYTES" else 0)] * (size - len(row))
    return flat, [len(rows), size]


def _to_binary(flat: Sequence[Any], datatype: Datatype) -> bytes:
    if datatype == "BYTES":
        texts = [text.encode() for text in flat]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.asarray(flat, dtype=_NUMBERS[datatype]).tobytes()


_ONE_A_ROW = {
    tensor.name for model in MODELS.values() for tensor in model.inputs if len(tensor.shape) == 1
}
_NUMBERS = {"INT64": "<i8", "FP32": "<f4"}
_LISTS: Mapping[Datatype, type] = {
    "BYTES": list[str],
    "INT64": list[int],
    "FP32": list[float],
    "BOOL": list[bool],
}
