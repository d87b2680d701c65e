"""Ways to run the layers of a ranking network: onnxruntime, openvino and torch, in less precision.

For `ranking_latency`. Each engine maps what the layers are given to their output [M, 1].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime import quantization

Arrays = Mapping[str, NDArray[Any]]
Engine = Callable[[Arrays], Any]

SERVED = "onnxruntime float32, as served"
HIDDEN = ("network.layers.1", "network.layers.3")


def engines_of(
    dense: onnx.ModelProto, passed: Sequence[str], calibration: Sequence[Arrays], folder: Path
) -> Iterator[tuple[str, Engine]]:
    """Each way to run the layers; `passed` names the inputs of the request and the candidates."""
    active = with_active_units(dense)
    paths = {
        name: folder / f"{name}.onnx" for name in ("dense", "dynamic", "hidden", "static", "mixed")
    }
    onnx.save(dense, paths["dense"])
    gemms = [node.name for node in dense.graph.node if node.op_type == "Gemm"]
    hidden = [
        node.name
        for node in dense.graph.node
        if any(f"{name}.weight" in node.input for name in HIDDEN)
    ]
    for name, nodes in (("dynamic", gemms), ("hidden", hidden)):
        products = [f"{node}_MatMul" for node in nodes]  # what it makes of a Gemm first
        quantization.quantize_dynamic(
            paths["dense"], paths[name], per_channel=True, nodes_to_quantize=products
        )
    for name, nodes in (("static", gemms), ("mixed", hidden)):
        quantization.quantize_static(
            paths["dense"],
            paths[name],
            Reader(dense, calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_quantize=nodes,
        )
    models = {name: onnx.load(path) for name, path in paths.items()}
    yield SERVED, first_of(on_onnxruntime(dense))
    yield "onnxruntime float32, active units", first_of(on_onnxruntime(active))
    yield "onnxruntime int8, dynamic", first_of(on_onnxruntime(models["dynamic"]))
    yield "onnxruntime int8, static", first_of(on_onnxruntime(models["static"]))
    yield "onnxruntime, hidden layers int8, dynamic", first_of(on_onnxruntime(models["hidden"]))
    yield "onnxruntime, hidden layers int8, static", first_of(on_onnxruntime(models["mixed"]))
    for precision, name, model in (
        ("f32", "openvino float32", dense),
        ("bf16", "openvino bfloat16", dense),
        ("bf16", "openvino bfloat16, active units", active),
        ("f32", "openvino int8, static", models["static"]),
        ("bf16", "openvino bfloat16, hidden layers int8, static", models["mixed"]),
    ):
        yield name, on_openvino(model, precision)
    yield "torch bfloat16, eager", in_torch(dense, passed)


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Requests by which static quantisation finds its ranges."""

    def __init__(self, model: onnx.ModelProto, requests: Sequence[Arrays]) -> None:
        names = [one.name for one in model.graph.input]
        self.requests = iter([{name: one[name] for name in names} for one in requests])

    def get_next(self) -> Arrays | None:
        """The next request."""
        return next(self.requests, None)


def with_active_units(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same numbers from fewer products: units that are 0 for all candidates are left out.

    After a ReLU, many units are 0 for every candidate of a request, since its query part is the
    same for all. A later layer need not multiply their weights.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    axis = numpy_helper.from_array(np.array([0], np.int64), "first_axis")
    graph.initializer.append(axis)
    for place, node in reversed(list(enumerate(graph.node))):
        layer = next((name for name in HIDDEN if f"{name}.weight" in node.input), None)
        if layer is None:
            continue
        weight = initializer_of(changed, f"{layer}.weight")
        turned = np.ascontiguousarray(numpy_helper.to_array(weight).T)
        graph.initializer.append(numpy_helper.from_array(turned, f"{layer}.turned"))
        names = {key: f"{layer}.{key}" for key in ("most", "found", "units", "values", "weights")}
        nodes = [
            helper.make_node("ReduceMax", [node.input[0], axis.name], [names["most"]], keepdims=0),
            helper.make_node("NonZero", [names["most"]], [names["found"]]),
            helper.make_node("Squeeze", [names["found"], axis.name], [names["units"]]),
            helper.make_node("Gather", [node.input[0], names["units"]], [names["values"]], axis=1),
            helper.make_node("Gather", [f"{layer}.turned", names["units"]], [names["weights"]]),
            helper.make_node(
                "Gemm", [names["values"], names["weights"], node.input[2]], list(node.output)
            ),
        ]
        del graph.node[place]
        for new in reversed(nodes):
            graph.node.insert(place, new)
    return changed


def on_onnxruntime(model: onnx.ModelProto) -> Engine:
    """A session as the recommender makes it; all its outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_inputs()]
    return lambda arrays: session.run(None, {name: arrays[name] for name in names})


def first_of(engine: Engine) -> Engine:
    """The first output alone."""
    return lambda arrays: engine(arrays)[0]


def on_openvino(model: onnx.ModelProto, precision: str) -> Engine:
    """One stream, one thread."""
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    request = compiled.create_infer_request()
    told = {one.name for one in model.graph.input}
    ports = {next(iter(port.get_names() & told)): port for port in compiled.inputs}

    def run(arrays: Arrays) -> NDArray[Any]:
        feed = {port: arrays[name] for name, port in ports.items()}
        return np.array(request.infer(feed, share_inputs=True, share_outputs=True)[0])

    return run


def in_torch(model: onnx.ModelProto, passed: Sequence[str]) -> Engine:
    """Linear and ReLU, eager."""
    weights = {
        one.name: torch.from_numpy(numpy_helper.to_array(one).copy()).bfloat16()
        for one in model.graph.initializer
        if one.name.startswith("network.")
    }
    linear = torch.nn.functional.linear
    turned = numpy_helper.to_array(initializer_of(model, first_layer(model).input[1]))
    of_candidate = torch.from_numpy(turned.T.copy()).bfloat16()

    def run(arrays: Arrays) -> NDArray[Any]:
        query, candidate = (torch.from_numpy(arrays[name]).bfloat16() for name in passed)
        with torch.inference_mode():
            values = linear(candidate, of_candidate)
            values += linear(query, *both(weights, "network.query_layer"))
            for place in (1, 3, 5):
                values = linear(values.relu_(), *both(weights, f"network.layers.{place}"))
        output: NDArray[Any] = values.float().numpy()
        return output

    return run


def first_layer(model: onnx.ModelProto) -> onnx.NodeProto:
    """What multiplies the candidates first; behind it is a ReLU, and the second layer."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    (second,) = (node for node in model.graph.node if "network.layers.1.weight" in node.input)
    first: onnx.NodeProto = made_by[made_by[second.input[0]].input[0]]
    return first


def both(weights: Mapping[str, torch.Tensor], layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias."""
    return weights[f"{layer}.weight"], weights[f"{layer}.bias"]


def initializer_of(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """A weight by its name."""
    found: onnx.TensorProto = next(one for one in model.graph.initializer if one.name == name)
    return found
