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
from upnext.recommender.repeats import with_repeats
from upnext.recommender.vectors import mean_vectors, oldest_first, window_means
from upnext.registry.release import Release
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Floats, Rows, TimesMs


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
    repeat_bonus: float = 0.0

    @classmethod
    def open(
        cls, release: Release, encoder: Encoder, *, example_age_days: float, num_threads: int
    ) -> Self:
        """Stage 1 of a release, its arrays mapped into memory."""
        item_vectors = release.array("retrieval/item_vectors.npy")
        told = "retrieval/repeat_bonus.npy"  # releases of before know of none
        return cls(
            encoder=encoder,
            query_encoder=QueryEncoder(encoder, release.array("retrieval/idle_bounds.npy")),
            watch_embeddings=release.array("retrieval/watch_embeddings.npy"),
            search_embeddings=release.array("retrieval/search_embeddings.npy"),
            item_vectors=item_vectors,
            tower=Network.open(release, "retrieval/tower.onnx", num_threads),
            index=load_index(release.path / "index", item_vectors),
            example_age_days=example_age_days,
            repeat_bonus=float(release.array(told)[0]) if told in release.files else 0.0,
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
        searched = history.searches.rows_in(
            queries.search_lo, queries.search_hi, config.num_searches
        )
        feed: dict[str, NDArray[Any]] = {
            "watch_means": window_means(self.watch_embeddings, watched, config.watch_windows),
            "search_mean": mean_vectors(self.search_embeddings, searched),
            "context_rows": queries.context_rows.astype(np.int64),
            "context_values": queries.context_values,
            "example_age_days": example_age_days,
        }
        if "watch_vectors" in self.tower.inputs:
            # Items that were added after training, and have no embedding, count as unknown.
            watched = np.where(watched < len(self.watch_embeddings), watched, UNKNOWN_ROW)
            known, num_watched = oldest_first(watched)
            feed |= {"watch_vectors": self.watch_embeddings[known], "num_watched": num_watched}
        return self.tower({name: feed[name] for name in self.tower.inputs})

    def nearest(
        self,
        user_vectors: Floats,
        count: int,
        excluded_rows: Sequence[Rows] | None,
        allowed_rows: Rows | None = None,
        *,
        again_rows: Sequence[Rows] | None = None,
    ) -> tuple[Rows, Floats]:
        """Rows and scores [B, K] of the nearest items, best first, -1 where there are too few.

        Args:
            allowed_rows: nothing else is found; None allows all.
            again_rows: what each user has watched and may be found again, whose scores are higher
                by `repeat_bonus`.
        """
        again = self._again(again_rows, allowed_rows, len(user_vectors))
        if not any(map(len, again)):
            return self.index.search(
                user_vectors, count, excluded_rows=excluded_rows, allowed_rows=allowed_rows
            )
        apart = again if excluded_rows is None else list(map(np.union1d, excluded_rows, again))
        found = self.index.search(
            user_vectors, count, excluded_rows=apart, allowed_rows=allowed_rows
        )
        lines = [
            with_repeats(
                (found[0][place], found[1][place]),
                count,
                again=rows,
                of_again=self.item_vectors[rows] @ user_vectors[place],
                bonus=self.repeat_bonus,
            )
            for place, rows in enumerate(again)
        ]
        return np.stack([rows for rows, _ in lines]), np.stack([scores for _, scores in lines])

    def with_bonus(self, scores: Floats, item_rows: Rows, again: Rows) -> Floats:
        """Scores [K] of these items with the bonus of those that are among `again`."""
        if self.repeat_bonus == 0.0 or not len(again):
            return scores
        bonus = np.float32(self.repeat_bonus)
        return np.where(np.isin(item_rows, again), scores + bonus, scores)

    def _again(
        self, again_rows: Sequence[Rows] | None, allowed_rows: Rows | None, num_users: int
    ) -> list[Rows]:
        """What the index can find of it, each once; nothing where a bonus changes nothing."""
        if again_rows is None or self.repeat_bonus == 0.0:
            return [np.zeros(0, np.int32)] * num_users
        gone = self.index.removed_rows
        again = []
        for watched in again_rows:
            rows = np.unique(watched)
            rows = rows[(rows >= NUM_RESERVED_ROWS) & (rows < len(self.item_vectors))]
            rows = rows[~np.isin(rows, gone)]
            again.append(rows if allowed_rows is None else rows[np.isin(rows, allowed_rows)])
        return again
