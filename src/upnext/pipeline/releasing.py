"""What was trained becomes the files of a release: plain arrays, ONNX networks, JSON."""

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import Dim

from upnext.config import config_to_table
from upnext.examples.encoder import Encoder
from upnext.examples.history import EventLog, History
from upnext.examples.ranking_inputs import REQUEST_INPUTS, RankingInputs
from upnext.examples.vocabulary import Vocabulary
from upnext.features.features import QUERY_LEVELS
from upnext.index import Index
from upnext.pipeline.config import RunConfig
from upnext.pipeline.item_map import draw_item_map
from upnext.ranking.train import TrainedRanking
from upnext.registry.release import Release, publish
from upnext.retrieval.model import EXPORTED_WATCHES, AttentiveTower
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import NUM_RESERVED_ROWS
from upnext.sources import Sources
from upnext.training.logbook import Epoch
from upnext.training.side_features import side_arrays

NUM_WARM_UP = 32
"""Last requests of the logs that a release brings along to be tried."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """All that was learned from training logs."""

    encoder: Encoder
    retrieval: TrainedRetrieval
    index: Index
    sources: Sources
    ranking: TrainedRanking | None

    def facts(self) -> dict[str, Any]:
        """What each epoch gave; a metric that had nothing to measure is left out."""
        ranking = self.ranking.epochs if self.ranking else ()
        return {
            "retrieval_epochs": list(map(_measured, self.retrieval.epochs)),
            "ranking_epochs": list(map(_measured, ranking)),
        }


def publish_release(
    registry: Path,
    learned: Learned,
    *,
    config: RunConfig,
    users: Vocabulary,
    history: History,
    facts: Mapping[str, Any],
) -> Release:
    """Writes a release, in one step, under the next free version.

    `users`, `history`: the users that the release knows, and their past up to the end of the logs.
    """

    def write_files(directory: Path) -> Mapping[str, Any]:
        table = config_to_table(config)
        (directory / "config.json").write_text(json.dumps(table, indent=2, sort_keys=True))
        _save(directory / "encoder", learned.encoder.to_arrays())
        _save(directory / "users", asdict(users))
        _save(directory / "history", history.to_arrays())
        _write_retrieval(directory / "retrieval", learned)
        _save(directory / "sources", learned.sources.to_arrays())
        (directory / "index").mkdir()
        learned.index.save(directory / "index")
        if learned.ranking is not None:
            _write_ranking(directory / "ranking", learned.encoder, learned.ranking)
        _write_warm_up(directory / "warm_up", users, history)
        return {**facts, **_write_map(directory / "map", learned, config)}

    return publish(registry, write_files)


def _measured(epoch: Epoch) -> dict[str, Any]:
    """Where each page of validation was watched whole, say, no share of watch time is misplaced."""
    found = {name: value for name, value in epoch.metrics.items() if math.isfinite(value)}
    return {**asdict(epoch), "metrics": found}


def _save(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def _write_warm_up(folder: Path, users: Vocabulary, history: History) -> None:
    """The last requests of the logs: a server tries them before it answers anybody."""
    ended_ms = np.zeros(history.shown.num_users, np.int64)
    for log in (history.watches, history.shown):
        has_any = np.flatnonzero(np.diff(log.starts))
        ended_ms[has_any] = np.maximum(ended_ms[has_any], log.at_ms[log.starts[has_any + 1] - 1])
    latest = np.argsort(-ended_ms, kind="stable")[:NUM_WARM_UP]
    requests = [
        {"user_id": users.id(int(row)), "at_ms": int(ended_ms[row])}
        for row in latest
        if row >= NUM_RESERVED_ROWS and ended_ms[row]
    ]
    folder.mkdir()
    (folder / "requests.json").write_text(json.dumps(requests), encoding="utf-8")


def _write_map(folder: Path, learned: Learned, config: RunConfig) -> Mapping[str, Any]:
    """What there is to tell of it."""
    vectors = learned.retrieval.item_vectors()
    item_map = draw_item_map(learned.encoder.catalogue, vectors, config.map)
    if item_map is None:
        return {}
    item_map.save(folder)
    return {"map": item_map.facts()}


def _write_retrieval(folder: Path, learned: Learned) -> None:
    retrieval, config = learned.retrieval, learned.encoder.config
    model = retrieval.model.to("cpu")
    arrays = {
        "watch_embeddings": retrieval.watch_vectors(),
        "search_embeddings": _array(model.search_table),
        "item_vectors": retrieval.item_vectors(),
        "idle_bounds": retrieval.query_encoder.idle_bounds,
        "repeat_bonus": np.array([retrieval.repeat_bonus], np.float32),
    }
    _save(folder, arrays)
    if model.side is not None:
        _save(folder / "side", side_arrays(model.side))
    size, num_windows = model.watch_table.weight.shape[1], len(config.watch_windows)
    batch = Dim("batch")
    query = {
        "watch_means": torch.zeros(2, size * num_windows),
        "search_mean": torch.zeros(2, model.search_table.weight.shape[1]),
        "context_rows": torch.zeros(2, len(learned.encoder.context_sizes), dtype=torch.int64),
        "context_values": torch.zeros(2, retrieval.query_encoder.num_context_values),
        "example_age_days": torch.zeros(2),
    }
    network: nn.Module = model.tower
    inputs = query
    if model.tower.attention is not None:
        network = AttentiveTower(model.tower)
        past = {
            "watch_vectors": torch.zeros(2, EXPORTED_WATCHES, size),
            "num_watched": torch.tensor([3, 1]),
        }
        inputs = past | query
    shapes: dict[str, Any] = {name: {0: batch} for name in inputs}
    if "watch_vectors" in inputs:
        shapes["watch_vectors"] = {
            0: batch,
            1: Dim("watches", max=max(EXPORTED_WATCHES, config.num_watches)),
        }
    _export(
        network,
        folder / "tower.onnx",
        inputs,
        input_names=list(inputs),
        output_name="user_vectors",
        dynamic_shapes=shapes,
    )


def _write_ranking(folder: Path, encoder: Encoder, ranking: TrainedRanking) -> None:
    model = ranking.model.to("cpu")
    num_sources = model.features.num_sources
    _save(folder, {"item_vectors": model.items.every_vector()})
    _save(folder / "features", model.features.to_arrays())
    _save(folder / "tables", {name: _array(table) for name, table in model.items.tables.items()})
    if model.items.side is not None:
        _save(folder / "side", side_arrays(model.items.side))
    raw = RankingInputs(
        encoder,
        _nobody(len(encoder.user_features)),
        user_rows=np.zeros(2, np.int64),
        at_ms=np.zeros(2, np.int64),
        request_index=np.array([0, 1, 1]),
        item_rows=np.full(3, NUM_RESERVED_ROWS, np.int32),
        position=np.zeros(3, np.float32),
        source_scores=np.zeros((3, num_sources), np.float32),
    )
    inputs = {name: value.detach() for name, value in model.to("cpu").inputs(raw).items()}
    requests, candidates = Dim("requests"), Dim("candidates")
    of_requests = {QUERY_LEVELS, "history_pooled", "shown_pooled", "history_vectors"}
    of_requests.update(REQUEST_INPUTS)
    shapes = {name: {0: requests if name in of_requests else candidates} for name in inputs}
    _export(
        model.scoring,
        folder / "network.onnx",
        {"inputs": inputs},
        input_names=list(inputs),
        output_name="expected_watch_time_s",
        dynamic_shapes={"inputs": shapes},
    )


def _export(
    network: nn.Module,
    path: Path,
    arguments: dict[str, Any],
    *,
    input_names: list[str],
    output_name: str,
    dynamic_shapes: Any,
) -> None:
    network.eval()
    with _quietly():
        torch.onnx.export(
            network.to("cpu"),
            (),
            path,
            kwargs=arguments,
            input_names=input_names,
            output_names=[output_name],
            dynamic_shapes=dynamic_shapes,
            dynamo=True,
            external_data=False,
            optimize=True,
            verbose=False,
        )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter tells of every pass it makes; only its errors are worth reading."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


def _array(table: nn.Module) -> NDArray[np.float32]:
    weights: NDArray[np.float32] = table.get_parameter("weight").detach().cpu().numpy()
    return weights


def _nobody(num_features: int) -> History:
    nothing = EventLog.empty(1)
    return History(nothing, nothing, nothing, np.zeros((1, num_features), np.int32))
