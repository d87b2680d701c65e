"""One request, top to bottom: history → user vector → candidates → ranked list.

Runs from a release alone, without torch. Evaluation measures this very object on many moments at
once; a server asks it for one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from upnext.config import config_of_release
from upnext.errors import ConfigError, RequestError
from upnext.examples.encoder import Encoder, ExamplesConfig, now_ms
from upnext.examples.history import History, Indices
from upnext.examples.impressions import EMBEDDED_ROWS, encode_ranking_inputs
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import Queries, QueryEncoder
from upnext.index import Index, load_index
from upnext.registry.release import Release, open_release
from upnext.schema import (
    NUM_RESERVED_ROWS,
    UNKNOWN_ROW,
    Candidates,
    Floats,
    Recommendation,
    RecommendationRequest,
    Recommendations,
    Rows,
    TimesMs,
)


@dataclass(frozen=True, kw_only=True)
class RecommenderConfig:
    """How a release answers."""

    num_candidates: int = 300
    """Items that retrieval hands to ranking."""
    example_age_days: float = 0.0
    """The example age that retrieval is told: 0 asks for what is watched at the end of the logs; a
    little below 0 for what will be."""

    def __post_init__(self) -> None:
        if self.num_candidates < 1:
            got = str(self.num_candidates)
            raise ConfigError("[recommender] num_candidates", expected="1 or more", got=got)


@dataclass(frozen=True)
class Ranker:
    """Stage 2 of a release: embedding tables by name, and the network that they feed."""

    tables: Mapping[str, Floats]
    network: onnxruntime.InferenceSession

    def expected_watch_time_s(
        self,
        encoder: Encoder,
        history: History,
        *,
        user_rows: Indices,
        at_ms: TimesMs,
        request_index: Indices,
        item_rows: Rows,
        position: Floats | None = None,
    ) -> Floats:
        """[M] seconds per impression; user_rows, at_ms [R] ask, item_rows [M] are asked for.

        Without a position every item is scored as if it stood first on the page, so that the
        order that a page once had does not leak into the new one.
        """
        if not len(item_rows):  # which the network's graph cannot broadcast over
            return np.zeros(0, np.float32)
        raw = encode_ranking_inputs(
            encoder,
            history,
            user_rows=user_rows,
            at_ms=at_ms,
            request_index=request_index,
            item_rows=item_rows,
            position=np.zeros(len(item_rows), np.float32) if position is None else position,
        ).arrays()
        vectors = {
            name: self.tables[table][raw[rows_name]]
            for name, (table, rows_name) in EMBEDDED_ROWS.items()
        }
        names = {node.name for node in self.network.get_inputs()}
        feed = {name: array for name, array in {**raw, **vectors}.items() if name in names}
        logits: Floats = self.network.run(None, feed)[0]
        return np.exp(logits)


@dataclass(frozen=True)
class Recommender:
    """Both stages of one release, and the histories that it was published with."""

    version: int
    config: RecommenderConfig
    encoder: Encoder
    users: Vocabulary
    history: History
    query_encoder: QueryEncoder
    watch_embeddings: Floats
    search_embeddings: Floats
    item_vectors: Floats
    tower: onnxruntime.InferenceSession
    index: Index
    ranker: Ranker | None

    @classmethod
    def open(
        cls, registry: Path, version: int, *, verify: bool = True, num_threads: int = 1
    ) -> "Recommender":
        """Opens a release; arrays are mapped into memory, not read.

        Args:
            verify: whether every file's hash is checked.
            num_threads: threads of each network.

        Raises: ReleaseError: there is no such release, it is damaged, or another version of upnext
            made it.
        """
        release = open_release(registry, version, verify=verify)
        kept, where = release.json("config.json"), f"release {version}, config.json"
        examples = config_of_release(kept.get("examples", {}), ExamplesConfig, where=where)
        config = config_of_release(kept.get("recommender", {}), RecommenderConfig, where=where)
        encoder = Encoder.from_arrays(_arrays(release, "encoder"), examples)
        item_vectors = release.array("retrieval/item_vectors.npy")
        return cls(
            version=version,
            config=config,
            encoder=encoder,
            users=Vocabulary(**_arrays(release, "users")),
            history=History.from_arrays(_arrays(release, "history")),
            query_encoder=QueryEncoder(encoder, release.array("retrieval/idle_bounds.npy")),
            watch_embeddings=release.array("retrieval/watch_embeddings.npy"),
            search_embeddings=release.array("retrieval/search_embeddings.npy"),
            item_vectors=item_vectors,
            tower=_session(release, "retrieval/tower.onnx", num_threads),
            index=load_index(release.path / "index", item_vectors),
            ranker=_ranker(release, num_threads),
        )

    @property
    def release(self) -> str:
        """The version, as it stands in every answer."""
        return str(self.version)

    def recommend(self, request: RecommendationRequest) -> Recommendations:
        """Answers one request.

        An unknown user or an empty history is an ordinary request: the user vector then comes
        from the time of day and the declared features alone.

        Raises: RequestError: k is below 1.
        """
        if request.k < 1:
            raise RequestError("k", expected="1 or more", got=str(request.k))
        began = time.perf_counter()
        at_ms = now_ms() if request.at_ms is None else request.at_ms
        history, user_row = self._past(request, at_ms)
        users, times = np.array([user_row]), np.array([at_ms], np.int64)
        user_vectors = self.user_vectors(history, self.query_encoder.queries(history, users, times))
        retrieved = time.perf_counter()
        excluded = history.watches.all_before(users, times)[1] if request.exclude_watched else None
        candidates = self.candidates(user_vectors, excluded, at_least=request.k)
        searched = time.perf_counter()
        seconds = self._expected_watch_time_s(history, users, times, candidates.item_rows)
        best = self._best_first(candidates, seconds)[: request.k]
        ranked = time.perf_counter()
        return Recommendations(
            items=[self._recommendation(candidates, seconds, place) for place in best],
            release=self.release,
            num_candidates=len(candidates.item_rows),
            timings_ms={
                "user_vector": (retrieved - began) * 1e3,
                "candidates": (searched - retrieved) * 1e3,
                "ranking": (ranked - searched) * 1e3,
                "total": (ranked - began) * 1e3,
            },
            degraded=self._degraded(request),
        )

    def _degraded(self, request: RecommendationRequest) -> list[str]:
        causes = [
            f"user feature {name!r} is not one that this release was trained with"
            for name in request.user_features
            if name not in self.encoder.user_features
        ]
        if self.ranker is None:
            causes.append("this release has no ranking: items are in the order of retrieval")
        return causes

    def user_vectors(self, history: History, queries: Queries) -> Floats:
        """[B, D]: stage 1 for B moments, at the example age of serving."""
        config = self.encoder.config
        watched = history.watches.rows_in(queries.watch_lo, queries.watch_hi, config.num_watches)
        # Items that were added after training, and have no embedding, count as unknown.
        watched = np.where(watched < len(self.watch_embeddings), watched, UNKNOWN_ROW)
        searched = history.searches.rows_in(
            queries.search_lo, queries.search_hi, config.num_searches
        )
        names = {node.name for node in self.tower.get_inputs()}
        feed: dict[str, NDArray[Any]] = {
            "watch_means": np.concatenate(
                [
                    mean_vectors(self.watch_embeddings, watched[:, -length:])
                    for length in config.watch_windows
                ],
                axis=1,
            ),
            "search_mean": mean_vectors(self.search_embeddings, searched),
            "context_rows": queries.context_rows.astype(np.int64),
            "context_values": queries.context_values,
            "example_age_days": np.full(len(queries), self.config.example_age_days, np.float32),
        }
        if "watch_vectors" in names:
            known, num_watched = oldest_first(watched)
            feed |= {"watch_vectors": self.watch_embeddings[known], "num_watched": num_watched}
        vectors: Floats = self.tower.run(None, {k: v for k, v in feed.items() if k in names})[0]
        return vectors

    def candidates_of(
        self, history: History, user_rows: Indices, at_ms: TimesMs, excluded: Sequence[Rows] | None
    ) -> Rows:
        """[B, K] stage 1 for B moments: rows of the nearest items, best first, -1 where too few."""
        queries = self.query_encoder.queries(history, user_rows, at_ms)
        rows, _ = self.index.search(
            self.user_vectors(history, queries),
            self.config.num_candidates,
            excluded_rows=None if excluded is None else [np.unique(rows) for rows in excluded],
        )
        return rows

    def ranked(
        self, history: History, user_rows: Indices, at_ms: TimesMs, candidates: Rows
    ) -> Rows:
        """[B, K] stage 2 for B moments: the candidates [B, K] in order of expected watch time."""
        if self.ranker is None:
            return candidates
        moments, places = np.nonzero(candidates >= NUM_RESERVED_ROWS)
        seconds = np.full(candidates.shape, -np.inf, np.float32)
        seconds[moments, places] = self.ranker.expected_watch_time_s(
            self.encoder,
            history,
            user_rows=user_rows,
            at_ms=at_ms,
            request_index=moments,
            item_rows=candidates[moments, places],
        )
        order = np.argsort(-seconds, axis=1, kind="stable")
        return np.take_along_axis(candidates, order, axis=1)

    def candidates(
        self, user_vector: Floats, excluded_rows: Rows | None, *, at_least: int = 0
    ) -> Candidates:
        """The items nearest to one user vector [1, D], best first."""
        num_items = self.encoder.catalogue.num_rows - NUM_RESERVED_ROWS
        count = min(max(self.config.num_candidates, at_least), num_items)
        excluded = None if excluded_rows is None else [np.unique(excluded_rows)]
        rows, scores = self.index.search(user_vector, count, excluded_rows=excluded)
        found = rows[0] >= NUM_RESERVED_ROWS
        return Candidates(rows[0][found], scores[0][found])

    def _past(self, request: RecommendationRequest, at_ms: int) -> tuple[History, int]:
        """The history that this request is answered from, and the user's row in it."""
        user_row = UNKNOWN_ROW if request.user_id is None else self.users.row(request.user_id)
        if request.history is None and request.searches is None and not request.user_features:
            return self.history, user_row
        stored = self.history.of_user(user_row)
        told = self.encoder.request_history(request, at_ms)
        return History(
            watches=stored.watches if request.history is None else told.watches,
            searches=stored.searches if request.searches is None else told.searches,
            shown=stored.shown,
            feature_rows=np.where(
                told.feature_rows == UNKNOWN_ROW, stored.feature_rows, told.feature_rows
            ),
        ), 0

    def _expected_watch_time_s(
        self, history: History, users: Indices, at_ms: TimesMs, item_rows: Rows
    ) -> Floats | None:
        if self.ranker is None:
            return None
        return self.ranker.expected_watch_time_s(
            self.encoder,
            history,
            user_rows=users,
            at_ms=at_ms,
            request_index=np.zeros(len(item_rows), np.int64),
            item_rows=item_rows,
        )

    def _best_first(self, candidates: Candidates, seconds: Floats | None) -> Indices:
        if seconds is None:
            return np.arange(len(candidates.item_rows))
        return np.argsort(-seconds, kind="stable")

    def _recommendation(
        self, candidates: Candidates, seconds: Floats | None, place: int
    ) -> Recommendation:
        row = int(candidates.item_rows[place])
        return Recommendation(
            item_id=self.encoder.catalogue.items.id(row),
            title=self.encoder.catalogue.title(row),
            expected_watch_time_s=None if seconds is None else float(seconds[place]),
            retrieval_score=float(candidates.scores[place]),
            retrieval_rank=int(place) + 1,
        )


def mean_vectors(table: Floats, rows: Rows) -> Floats:
    """Mean vector of the known rows of each line: table [N, D], rows [B, H] → [B, D]."""
    known = rows > UNKNOWN_ROW
    summed = np.where(known[..., None], table[rows], np.float32(0)).sum(axis=1, dtype=np.float32)
    means: Floats = summed / np.maximum(known.sum(axis=1, keepdims=True), 1).astype(np.float32)
    return means


def oldest_first(rows: Rows) -> tuple[Rows, Indices]:
    """The known rows of each line, oldest first, and how many: [B, H] → [B, L], [B].

    Lines end in zeros where others are longer; L is at least 1.

    >>> oldest_first(np.array([[0, 5, 1, 4], [0, 0, 0, 0]], np.int32))
    (array([[5, 4],
           [0, 0]], dtype=int32), array([2, 0]))
    """
    known = rows > UNKNOWN_ROW
    num_known = known.sum(axis=1)
    order = np.argsort(~known, axis=1, kind="stable")[:, : max(1, num_known.max(initial=1))]
    return np.take_along_axis(np.where(known, rows, rows.dtype.type(0)), order, axis=1), num_known


def _arrays(release: Release, folder: str) -> dict[str, NDArray[Any]]:
    prefix = f"{folder}/"
    return {
        name.removeprefix(prefix).removesuffix(".npy"): release.array(name)
        for name in release.files
        if name.startswith(prefix) and name.endswith(".npy")
    }


def _ranker(release: Release, num_threads: int) -> Ranker | None:
    if "ranking/network.onnx" not in release.files:
        return None
    return Ranker(
        tables=_arrays(release, "ranking"),
        network=_session(release, "ranking/network.onnx", num_threads),
    )


def _session(release: Release, name: str, num_threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        release.file(name), options, providers=["CPUExecutionProvider"]
    )
