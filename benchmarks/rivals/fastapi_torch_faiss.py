"""The server that many write: FastAPI, pydantic, eager torch, faiss; for a release of upnext.

    python -m benchmarks.rivals.fastapi_torch_faiss REGISTRY --release 1 --port 8090 --index FILE

Needs fastapi beside what upnext needs for training. The release's own weights, in the modules that
training has, called eagerly. A request: the user's past, from arrays in memory → means of
embeddings → tower → the best 300 of faiss' inverted lists, without what was watched → the raw
inputs of ranking → all features and layers → the best k, as pydantic models. That is upnext's work
for a request, but for two things, in the rival's favour: no candidates from counts beside those 300
(upnext ranks up to 150 more), and, as features, everybody's counts as of the end of the logs, a
plain look-up.

Histories are not padded, threads of torch and faiss are one each, since requests come in parallel,
and the endpoint is a plain `def`, which FastAPI runs in its pool of threads. Lists that a search
opens: as few as find 95% of the true best 100. The index is built once and kept in FILE.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import fastapi
import numpy as np
import onnx
import torch
import uvicorn
from benchmarks.rivals.eager_features import EagerFeatures
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import BaseModel

from upnext.examples.encoder import now_ms
from upnext.examples.history import History
from upnext.examples.places import places_of
from upnext.ranking.config import RankingConfig
from upnext.ranking.front import Sizes
from upnext.ranking.model import ScoringNetwork
from upnext.recommender import Recommender
from upnext.registry.release import Release, open_release
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import InputSizes, Tower
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, UNKNOWN_ROW

NUM_CANDIDATES = 300
NUM_LISTS = 4_000
MIN_RECALL, NUM_TUNED_WITH = 0.95, 300

Array = NDArray[Any]


class Request(BaseModel):
    """Who asks."""

    user_id: str
    k: int = 10


class Item(BaseModel):
    """One recommended item."""

    item_id: str
    title: str | None
    expected_watch_time_s: float
    retrieval_score: float


class Answer(BaseModel):
    """The page."""

    items: list[Item]
    release: str
    num_candidates: int


@dataclass(frozen=True, kw_only=True)
class Past:
    """Of one user, oldest first: rows, ages and seconds of watches; rows and ages of the shown."""

    watched: Array
    watched_age_s: Array
    watch_time_s: Array
    shown: Array
    shown_age_s: Array


class Service:
    """All of a release in memory, and the way of a request through it."""

    def __init__(self, registry: Path, version: int, index_file: Path) -> None:
        release = open_release(registry, version, verify=False)
        known = Recommender.open(registry, version, verify=False)
        assert known.ranker is not None
        self.release = str(version)
        self.encoder, self.history = known.encoder, _in_memory(known.history)
        ids = known.users.series().to_list()
        self.user_rows = {one: row for row, one in enumerate(ids, NUM_RESERVED_ROWS)}
        catalogue = self.encoder.catalogue
        self.item_ids = [None, None, *catalogue.items.series().to_list()]
        self.titles = [catalogue.title(row) for row in range(catalogue.num_rows)]
        self.channels, self.tags = np.array(catalogue.channel_rows), np.array(catalogue.tag_rows)
        self.durations_s = np.array(catalogue.duration_s)
        self.published_at_ms = np.array(catalogue.published_at_ms)
        everything = np.arange(catalogue.num_rows)
        end_ms = np.full(len(everything), now_ms())
        self.item_counts = known.history.item_counts.before(everything, end_ms)
        self.channel_counts = known.history.channel_counts.before(self.channels, end_ms)
        self.watch_embeddings = torch.from_numpy(np.array(known.retriever.watch_embeddings))
        self.idle_bounds = known.retriever.query_encoder
        self.item_vectors = np.array(known.retriever.item_vectors)
        self.ranked_vectors = torch.from_numpy(np.array(known.ranker.item_vectors))
        self.yardstick = self.item_vectors[known.nominators.scorer.yardstick_rows]
        self.num_sources = known.ranker.num_sources
        self.features = EagerFeatures(known.ranker.features, channels=self.channels, tags=self.tags)
        self.tower = _tower(release, known)
        self.network = _network(release, known, self.ranked_vectors.shape[1])
        self.index = _index(self.item_vectors, index_file)
        self._tune()

    def recommend(self, request: Request) -> Answer:
        """The best k of 300."""
        at_ms = now_ms()
        user_row = self.user_rows.get(request.user_id, UNKNOWN_ROW)
        past = self._past(user_row, at_ms)
        with torch.inference_mode():
            user_vector = self._user_vector(user_row, past, at_ms)
            rows, scores = self._candidates(user_vector, past)
            seconds = self.network(self._inputs(past, rows, scores, user_vector, at_ms))
            best = torch.topk(seconds, min(request.k, len(rows))).indices.tolist()
            watch_times = seconds.tolist()
        items = [
            Item(
                item_id=str(self.item_ids[rows[place]]),
                title=self.titles[rows[place]],
                expected_watch_time_s=watch_times[place],
                retrieval_score=float(scores[place]),
            )
            for place in best
        ]
        return Answer(items=items, release=self.release, num_candidates=len(rows))

    def _past(self, user_row: int, at_ms: int) -> Past:
        config, watches, shown = self.encoder.config, self.history.watches, self.history.shown
        lo, hi = watches.starts[user_row], watches.starts[user_row + 1]
        last = slice(max(lo, hi - config.num_watches_ranked), hi)
        shown_lo, shown_hi = shown.starts[user_row], shown.starts[user_row + 1]
        last_shown = slice(max(shown_lo, shown_hi - config.num_shown), shown_hi)
        return Past(
            watched=watches.rows[last],
            watched_age_s=((at_ms - watches.at_ms[last]) / 1e3).astype(np.float32),
            watch_time_s=watches.watch_time_s[last],
            shown=shown.rows[last_shown],
            shown_age_s=((at_ms - shown.at_ms[last_shown]) / 1e3).astype(np.float32),
        )

    def _user_vector(self, user_row: int, past: Past, at_ms: int) -> torch.Tensor:
        queries = self.idle_bounds.queries(self.history, np.array([user_row]), np.array([at_ms]))
        means = [
            self.watch_embeddings[past.watched[-length:]].mean(dim=0)
            if len(past.watched)
            else torch.zeros(self.watch_embeddings.shape[1])
            for length in self.encoder.config.watch_windows
        ]
        vector: torch.Tensor = self.tower(
            torch.cat(means)[None],
            torch.zeros(1, RetrievalConfig().network.search_embedding_size),
            torch.from_numpy(queries.context_rows).long(),
            torch.from_numpy(queries.context_values),
            torch.zeros(1),
        )
        return vector

    def _candidates(self, user_vector: torch.Tensor, past: Past) -> tuple[Array, Array]:
        wanted = NUM_CANDIDATES + len(past.watched)
        scores, found = self.index.search(user_vector.numpy(), wanted)
        rows = found[0] + NUM_RESERVED_ROWS
        kept = (found[0] >= 0) & ~np.isin(rows, past.watched)
        return rows[kept][:NUM_CANDIDATES], scores[0][kept][:NUM_CANDIDATES]

    def _inputs(
        self, past: Past, rows: Array, scores: Array, user_vector: torch.Tensor, at_ms: int
    ) -> dict[str, torch.Tensor]:
        request_index = np.zeros(len(rows), np.int64)
        places = places_of(past.watched[None], past.shown[None], rows, request_index)
        arrays = places._asdict() | {
            "context_rows": np.zeros((1, len(self.encoder.context_sizes)), np.int32),
            "history_rows": past.watched[None],
            "history_channel_rows": self.channels[past.watched][None],
            "history_tag_rows": self.tags[past.watched][None],
            "history_duration_s": self.durations_s[past.watched][None],
            "history_age_s": past.watched_age_s[None],
            "history_watch_time_s": np.minimum(past.watch_time_s, past.watched_age_s)[None],
            "shown_rows": past.shown[None],
            "shown_channel_rows": self.channels[past.shown][None],
            "shown_tag_rows": self.tags[past.shown][None],
            "shown_age_s": past.shown_age_s[None],
            "request_index": request_index,
            "item_rows": rows,
            "channel_rows": self.channels[rows],
            "tag_rows": self.tags[rows],
            "duration_s": self.durations_s[rows],
            "item_age_days": ((at_ms - self.published_at_ms[rows]) / MS_PER_DAY).astype(np.float32),
            "position": np.zeros(len(rows), np.float32),
            "item_counts": self.item_counts[rows],
            "channel_counts": self.channel_counts[rows],
            "source_scores": self._source_scores(scores, user_vector.numpy()),
        }
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return self.features.levels(inputs) | {
            "context_rows": inputs["context_rows"],
            "request_index": inputs["request_index"],
            "duration_s": inputs["duration_s"],
            "item_vectors": self.ranked_vectors[inputs["item_rows"]],
            "history_pooled": self._pooled(past.watched),
            "shown_pooled": self._pooled(past.shown),
        }

    def _source_scores(self, scores: Array, user_vector: Array) -> Array:
        usual = np.sort(self.yardstick @ user_vector[0])
        told = np.zeros((len(scores), self.num_sources), np.float32)
        told[:, 0] = (scores - usual.mean()) / max(float(usual.std()), 1e-6)
        told[:, 1] = np.searchsorted(usual, scores) / len(usual)
        told[:, -1] = 1.0
        return told

    def _pooled(self, rows: Array) -> torch.Tensor:
        summed: torch.Tensor = self.ranked_vectors[rows].sum(dim=0, keepdim=True)
        return summed / math.sqrt(max(len(rows), 1))

    def _tune(self) -> None:
        """Opens as few lists as the recall needs."""
        with torch.inference_mode():
            asked = np.concatenate(
                [
                    self._user_vector(row, self._past(row, now_ms()), now_ms()).numpy()
                    for row in range(NUM_RESERVED_ROWS, NUM_RESERVED_ROWS + NUM_TUNED_WITH)
                ]
            )
        exact = faiss.IndexFlatIP(asked.shape[1])
        exact.add(self.item_vectors[NUM_RESERVED_ROWS:])
        _, truth = exact.search(asked, 100)
        for num_opened in (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512):
            self.index.nprobe = num_opened
            _, found = self.index.search(asked, 100)
            recall = np.mean([np.isin(*pair).mean() for pair in zip(truth, found, strict=True)])
            if recall >= MIN_RECALL:
                break
        print(f"{num_opened} of {NUM_LISTS:,} lists, recall@100 {recall:.3f}", file=sys.stderr)


def create_app(service: Service) -> fastapi.FastAPI:
    """One endpoint, and a sign of life."""
    app = fastapi.FastAPI()
    app.add_api_route("/v1/recommendations", service.recommend, methods=["POST"])
    app.add_api_route("/readyz", _ready)
    return app


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--release", type=int, default=1)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--index", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(2)
    service = Service(arguments.registry, arguments.release, arguments.index)
    faiss.omp_set_num_threads(1)
    app = create_app(service)
    uvicorn.run(app, port=arguments.port, log_level="warning", access_log=False)


def _ready() -> dict[str, bool]:
    return {"ready": True}


def _in_memory(history: History) -> History:
    """The same with its events read, not mapped."""
    logs = {
        name: type(log)(*(np.array(array) for array in vars(log).values()))
        for name, log in vars(history).items()
        if name in ("watches", "searches", "shown")
    }
    return History(**logs, feature_rows=np.array(history.feature_rows))


def _weights(release: Release, name: str) -> dict[str, torch.Tensor]:
    """The constants of an exported network, by the names that they had in training."""
    arrays = {
        one.name: numpy_helper.to_array(one)
        for one in onnx.load(release.file(name)).graph.initializer
    }
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _tower(release: Release, known: Recommender) -> Tower:
    encoder = known.encoder
    sizes = InputSizes(
        num_items=encoder.catalogue.num_rows,
        num_search_tokens=encoder.search_tokens.num_rows,
        context_sizes=encoder.context_sizes,
        num_context_values=known.retriever.query_encoder.num_context_values,
        watch_windows=encoder.config.watch_windows,
        longest_age_days=1.0,
    )
    tower = Tower(RetrievalConfig().network, sizes)
    weights = _weights(release, "retrieval/tower.onnx")
    tower.load_state_dict({name: weights[name] for name in tower.state_dict()})
    return tower.eval()


def _network(release: Release, known: Recommender, item_vector_size: int) -> ScoringNetwork:
    encoder = known.encoder
    assert known.ranker is not None
    sizes = Sizes(
        item_vector=item_vector_size,
        contexts=encoder.context_sizes,
        query_levels=known.ranker.features.widths[0],
        candidate_levels=known.ranker.features.widths[1],
    )
    network = ScoringNetwork(RankingConfig(), encoder, sizes, num_outputs=1)
    weights = _weights(release, "ranking/network.onnx")
    wanted = network.state_dict()
    renamed = {name: one for name, one in weights.items() if name not in wanted}
    weights |= {
        name: _found_again(one, renamed) for name, one in wanted.items() if name not in weights
    }
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network.eval()


def _found_again(wanted: torch.Tensor, renamed: dict[str, torch.Tensor]) -> torch.Tensor:
    """A constant that the export folded into another; all of one form keep their order.

    It may have turned it over.
    """
    forms: dict[tuple[int, ...], Callable[[torch.Tensor], torch.Tensor]] = {
        tuple(wanted.shape): lambda one: one,
        tuple(wanted.shape[::-1]): lambda one: one.T,
    }
    for form, as_wanted in forms.items():
        for name, one in renamed.items():
            if tuple(one.shape) == form and one.dtype == wanted.dtype:
                return as_wanted(renamed.pop(name))
    raise KeyError(tuple(wanted.shape))


def _index(item_vectors: Array, path: Path) -> Any:
    if path.exists():
        return faiss.read_index(str(path))
    items = item_vectors[NUM_RESERVED_ROWS:]
    num_lists = min(NUM_LISTS, len(items) // 40)
    by_product = faiss.IndexFlatIP(items.shape[1])
    index = faiss.IndexIVFFlat(by_product, items.shape[1], num_lists, faiss.METRIC_INNER_PRODUCT)
    drawn = np.random.default_rng(0).permutation(len(items))[: 64 * num_lists]
    index.train(items[drawn])
    index.add(items)
    faiss.write_index(index, str(path))
    return index


if __name__ == "__main__":
    main()
