"""Stage 1 of a release: histories in, user vectors and their nearest items out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder
from upnext.examples.history import History, Indices
from upnext.examples.watches import QueryEncoder
from upnext.index import Index, load_index
from upnext.recommender.files import Network
from upnext.recommender.vectors import mean_vectors, oldest_first
from upnext.registry.release import Release
from upnext.schema import UNKNOWN_ROW, Floats, Rows, TimesMs


@dataclass(frozen=True)
class Retriever:
    """The tower with the embeddings that feed it, and the index of the item vectors [N, D]."""

    encoder: Encoder
    query_encoder: QueryEncoder
    watch_embeddings: Floats
    search_embeddings: Floats
    item_vectors: Floats
    tower: Network
    index: Index
    example_age_days: float

    @classmethod
    def open(
        cls, release: Release, encoder: Encoder, *, example_age_days: float, num_threads: int
    ) -> Self:
        """Stage 1 of a release, its arrays mapped into memory."""
        item_vectors = release.array("retrieval/item_vectors.npy")
        return cls(
            encoder=encoder,
            query_encoder=QueryEncoder(encoder, release.array("retrieval/idle_bounds.npy")),
            watch_embeddings=release.array("retrieval/watch_embeddings.npy"),
            search_embeddings=release.array("retrieval/search_embeddings.npy"),
            item_vectors=item_vectors,
            tower=Network.open(release, "retrieval/tower.onnx", num_threads),
            index=load_index(release.path / "index", item_vectors),
            example_age_days=example_age_days,
        )

    def user_vectors(self, history: History, user_rows: Indices, at_ms: TimesMs) -> Floats:
        """[B, D]: stage 1 for B moments, at the example age of serving."""
        age_days = np.full(len(at_ms), self.example_age_days, np.float32)
        return self.user_vectors_at_age(history, user_rows, at_ms, age_days)

    def user_vectors_at_age(
        self, history: History, user_rows: Indices, at_ms: TimesMs, example_age_days: Floats
    ) -> Floats:
        """As `user_vectors`, each as if it were an example of this age [B] in training."""
        config = self.encoder.config
        queries = self.query_encoder.queries(history, user_rows, at_ms)
        watched = history.watches.rows_in(queries.watch_lo, queries.watch_hi, config.num_watches)
        # Items that were added after training, and have no embedding, count as unknown.
        watched = np.where(watched < len(self.watch_embeddings), watched, UNKNOWN_ROW)
        searched = history.searches.rows_in(
            queries.search_lo, queries.search_hi, config.num_searches
        )
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
            "example_age_days": example_age_days,
        }
        if "watch_vectors" in self.tower.inputs:
            known, num_watched = oldest_first(watched)
            feed |= {"watch_vectors": self.watch_embeddings[known], "num_watched": num_watched}
        return self.tower({name: feed[name] for name in self.tower.inputs})

    def nearest(
        self,
        user_vectors: Floats,
        count: int,
        excluded_rows: Sequence[Rows] | None,
        allowed_rows: Rows | None = None,
    ) -> tuple[Rows, Floats]:
        """Rows and scores [B, K] of the nearest items, best first, -1 where there are too few.

        Nothing but `allowed_rows` is found; None allows all.
        """
        return self.index.search(
            user_vectors,
            count,
            excluded_rows=None
            if excluded_rows is None
            else [np.unique(rows) for rows in excluded_rows],
            allowed_rows=allowed_rows,
        )
