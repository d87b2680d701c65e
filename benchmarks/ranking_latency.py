"""How long does it take to score 500 candidates, on one core, and what would other engines take?

    python -m benchmarks.ranking_latency REGISTRY [--release 1] [--num-requests 200] [--rounds 3]

Beside what upnext needs, this wants openvino and onnx. Requests are those of the release's users at
the end of its history, with their real candidates. The network of the release is cut in three: its
inputs side by side, the layers, and what makes seconds of their output. Each engine runs the
layers, and onnxruntime the rest; features are those that are served. All take turns on the same
requests.

Times are those of the processor, since machines are busy. Errors are relative to the seconds that
the release serves today, and the order is compared by the 20 best of each request.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from benchmarks.ranking_engines import (
    SERVED,
    Arrays,
    Engine,
    engines_of,
    first_layer,
    initializer_of,
    on_onnxruntime,
)
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from upnext.examples.places import places_of
from upnext.examples.ranking_inputs import CANDIDATE_INPUTS, RANKING_INPUTS, RankingInputs
from upnext.features.features import CANDIDATE_LEVELS
from upnext.recommender import Recommender
from upnext.recommender.files import Network
from upnext.recommender.ranker import Ranker
from upnext.registry.release import open_release
from upnext.schema import NUM_RESERVED_ROWS, Floats, RecommendationRequest

OF_CANDIDATES = {*CANDIDATE_INPUTS, "item_place", "item_vectors", CANDIDATE_LEVELS}
LAYERS = "network.layers."
NUM_CALIBRATION, NUM_WARM_UP, TOP = 40, 3, 20


@dataclass(frozen=True)
class Parts:
    """A network in three, and the names of what passes from the first to the others."""

    together: onnx.ModelProto
    layers: onnx.ModelProto
    seconds: onnx.ModelProto
    passed: tuple[str, ...]


class Recorder:
    """Stands in for a network's session, and keeps what it is fed."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session, self.feeds = session, list[dict[str, NDArray[Any]]]()

    def run(self, names: Any, feed: dict[str, NDArray[Any]]) -> Any:
        """As ever."""
        self.feeds.append(feed)
        return self.session.run(names, feed)


@dataclass(frozen=True)
class Listening(Ranker):
    """A ranker that remembers the raw inputs that it was told."""

    heard: list[Arrays] = field(default_factory=list)

    def seconds_of(self, raw: RankingInputs | Mapping[str, NDArray[Any]]) -> Floats:
        """As ever."""
        self.heard.append({name: np.array(raw[name]) for name in RANKING_INPUTS})
        return super().seconds_of(raw)


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--release", type=int, default=1)
    parser.add_argument("--num-requests", type=int, default=200)
    parser.add_argument("--num-candidates", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    torch.set_num_threads(1)
    recommender = Recommender.open(arguments.registry, arguments.release)
    path = open_release(arguments.registry, arguments.release).file("ranking/network.onnx")
    raws, feeds = real_feeds(
        recommender, arguments.num_requests + NUM_CALIBRATION, arguments.num_candidates
    )
    assert recommender.ranker is not None
    model = onnx.load(path)
    parts = cut(model)
    whole, together = on_onnxruntime(model), on_onnxruntime(parts.together)
    rest = on_onnxruntime(parts.seconds)
    told = [passed(parts, together, feed) for feed in feeds]
    calibration, asked = told[:NUM_CALIBRATION], told[NUM_CALIBRATION:]
    served = [whole(feed)[0] for feed in feeds[NUM_CALIBRATION:]]
    with tempfile.TemporaryDirectory() as folder:
        engines = dict(engines_of(parts.layers, parts.passed, calibration, Path(folder)))
    print_sizes(parts, asked[0])
    output = parts.layers.graph.output[0].name
    given = [one | {output: engines[SERVED](one)} for one in asked]
    own: dict[str, tuple[Engine, Sequence[Arrays]]] = {
        "features, as served": (recommender.ranker.features.levels, raws[NUM_CALIBRATION:]),
        "whole network, as served": (whole, feeds[NUM_CALIBRATION:]),
        "… from the layers' output to seconds": (rest, given),
    }
    layers: dict[str, tuple[Engine, Sequence[Arrays]]] = {
        f"layers: {name}": (engine, asked) for name, engine in engines.items()
    }
    taken = times(own | layers, rounds=arguments.rounds)
    print_header()
    for name in own:
        print(f"| {name} | {spread(taken[name])} | | | | | |")
    for name, (engine, _) in layers.items():
        seconds = [rest(one | {output: engine(one)})[0] for one in asked]
        print_line(name, taken[name], seconds, served)


def real_feeds(
    recommender: Recommender, num_requests: int, num_candidates: int
) -> tuple[list[Arrays], list[Arrays]]:
    """Raw inputs, and what the network is fed, of one request of each of some users.

    At the end of the logs; all with as many candidates.
    """
    ranker = recommender.ranker
    assert ranker is not None
    recorder = Recorder(ranker.network.session)
    listening = Listening(
        ranker.features, ranker.item_vectors, Network(recorder, ranker.network.inputs)
    )
    asked = replace(
        recommender,
        config=replace(recommender.config, num_candidates=num_candidates),
        ranker=listening,
    )
    known = np.arange(NUM_RESERVED_ROWS, recommender.users.num_rows)
    at_ms = int(recommender.history.watches.at_ms.max()) + 1
    for user in np.random.default_rng(0).choice(known, num_requests, replace=False):
        user_id = recommender.users.id(int(user))
        asked.recommend(RecommendationRequest(user_id=user_id, at_ms=at_ms))
    raws = [first_of_all(raw, num_candidates) for raw in listening.heard]
    for raw in raws:
        past = (raw["history_rows"], raw["shown_rows"])
        raw |= places_of(*past, raw["item_rows"], raw["request_index"])._asdict()
    return [*raws], [first_of_all(feed, num_candidates) for feed in recorder.feeds]


def first_of_all(arrays: Arrays, num_candidates: int) -> dict[str, NDArray[Any]]:
    """The arrays with the first candidates alone."""
    return {
        name: np.ascontiguousarray(array[:num_candidates] if name in OF_CANDIDATES else array)
        for name, array in arrays.items()
    }


def cut(model: onnx.ModelProto) -> Parts:
    """Parts the network before its first layer and behind its last."""
    (query,) = (
        node.input[0] for node in model.graph.node if "network.query_layer.weight" in node.input
    )
    first = first_layer(model)
    candidate, weight = first.input[0], numpy_helper.to_array(initializer_of(model, first.input[1]))
    told = numpy_helper.to_array(initializer_of(model, "network.query_layer.weight"))
    widths = {query: told.shape[1], candidate: weight.shape[0]}
    between = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [rows, widths[name]])
        for name, rows in ((query, "requests"), (candidate, "candidates"))
    ]
    last = max(one.name for one in model.graph.initializer if one.name.startswith(LAYERS))
    (name,) = (node.output[0] for node in model.graph.node if last in node.input)
    of_layers = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["candidates", None])
    given = list(model.graph.input)
    return Parts(
        together=subgraph(model, given, between),
        layers=subgraph(model, [*between, *given], [of_layers]),
        seconds=subgraph(model, [*between, of_layers, *given], list(model.graph.output)),
        passed=(query, candidate),
    )


def subgraph(
    model: onnx.ModelProto, inputs: Sequence[Any], outputs: Sequence[Any]
) -> onnx.ModelProto:
    """All that is needed to get from some values to others."""
    given, needed = {one.name for one in inputs}, {one.name for one in outputs}
    nodes = []
    for node in reversed(model.graph.node):
        if needed & (set(node.output) - given):
            nodes.append(node)
            needed |= set(node.input)
    graph = helper.make_graph(
        nodes[::-1],
        "part",
        [one for one in inputs if one.name in needed],
        outputs,
        [one for one in model.graph.initializer if one.name in needed],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import)
    part.ir_version = model.ir_version
    return part


def passed(parts: Parts, together: Engine, feed: Arrays) -> dict[str, NDArray[Any]]:
    """What the layers are given of a request."""
    raw = {name: feed[name] for name in ("request_index", "duration_s")}
    return raw | dict(zip(parts.passed, together(feed), strict=True))


def times(
    engines: Mapping[str, tuple[Engine, Sequence[Arrays]]], *, rounds: int
) -> dict[str, list[float]]:
    """CPU milliseconds of each engine on its requests, in turn."""
    for engine, requests in engines.values():
        for arrays in requests[:NUM_WARM_UP]:
            engine(arrays)
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for place in range(min(len(requests) for _, requests in engines.values())):
            for name, (engine, requests) in engines.items():
                taken[name].append(cpu_ms(engine, requests[place]))
    return taken


def cpu_ms(run: Engine, arrays: Arrays) -> float:
    """Milliseconds of the processor."""
    began = process_time()
    run(arrays)
    return (process_time() - began) * 1e3


def print_sizes(parts: Parts, arrays: Arrays) -> None:
    """How many inputs there are."""
    query, candidate = (arrays[name].shape for name in parts.passed)
    print(f"{candidate[0]} candidates of {candidate[1]} inputs, query of {query[1]}\n")


def print_header() -> None:
    """Of a Markdown table."""
    print("| | CPU ms p50 | p99 | least | within 1e-2 | error mean | max | top 20 kept | least |")
    print("|---|---|---|---|---|---|---|---|---|")


def print_line(
    name: str,
    taken: Sequence[float],
    seconds: Sequence[NDArray[Any]],
    served: Sequence[NDArray[Any]],
) -> None:
    """An engine: times, errors, and what becomes of the best."""
    errors = np.concatenate(
        [np.abs(one - other) / other for one, other in zip(seconds, served, strict=True)]
    )
    kept = [len(best(one) & best(other)) / TOP for one, other in zip(seconds, served, strict=True)]
    print(
        f"| {name} | {spread(taken)} | {(errors <= 1e-2).mean():.2%} | {errors.mean():.1e} "
        f"| {errors.max():.1e} | {np.mean(kept):.1%} | {min(kept):.0%} |"
    )


def best(seconds: NDArray[Any]) -> set[int]:
    """Places of the 20 best."""
    return set(np.argsort(-seconds, kind="stable")[:TOP].tolist())


def spread(taken: Sequence[float]) -> str:
    """Median, 99th percentile, least."""
    return f"{np.median(taken):.2f} | {np.quantile(taken, 0.99):.2f} | {min(taken):.2f}"


if __name__ == "__main__":
    main()
