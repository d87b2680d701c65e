"""Which items a request might be shown: what retrieval finds, and what plain counts propose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from upnext.examples.encoder import Encoder
from upnext.examples.history import History, Indices
from upnext.recommender.files import arrays_in
from upnext.recommender.retriever import Retriever
from upnext.registry.release import Release
from upnext.schema import NUM_RESERVED_ROWS, Candidates, Floats, Rows, TimesMs
from upnext.sources import Moments, Nominations, Sources, SourcesConfig
from upnext.sources.scores import SourceScorer, yardstick

NUM_WATCHES = 50
"""Last watches that counted sources are told; they look at fewer."""


@dataclass(frozen=True)
class Nominators:
    """Retrieval and the counted sources of one release, which nominate candidates together."""

    retriever: Retriever
    scorer: SourceScorer
    segment: str | None

    @classmethod
    def open(cls, release: Release, retriever: Retriever, config: SourcesConfig) -> Self:
        """Those of a release, its arrays mapped into memory."""
        arrays = arrays_in(release, "sources")
        num_watches = retriever.encoder.catalogue.num_watches
        scorer = SourceScorer(
            item_vectors=retriever.item_vectors,
            sources=Sources.from_arrays(arrays, config),
            yardstick_rows=yardstick(num_watches),
            known=num_watches > 0,
        )
        return cls(retriever, scorer, config.segment)

    @property
    def num_counted(self) -> int:
        """Candidates at most that the counted sources nominate together."""
        config = self.scorer.sources.config
        return config.num_together + config.num_popular + config.num_fresh

    def nominate(
        self,
        history: History,
        user_rows: Indices,
        at_ms: TimesMs,
        user_vectors: Floats,
        *,
        num_found: int,
        excluded_rows: Sequence[Rows] | None,
        allowed_rows: Rows | None = None,
    ) -> Nominations:
        """Candidates of B moments: the nearest `num_found` first, then what the counts add.

        Args:
            user_vectors: [B, D] of the moments.
            excluded_rows: what nobody may nominate, such as what each user has watched.
            allowed_rows: what may be nominated at all; None allows everything.
        """
        found, _ = self.retriever.nearest(user_vectors, num_found, excluded_rows, allowed_rows)
        moments = moments_of(
            self.retriever.encoder, history, user_rows, at_ms, segment=self.segment
        )
        both = self.scorer.sources.nominate(moments, found_rows=found, excluded_rows=excluded_rows)
        if allowed_rows is None:
            return both
        is_allowed = np.isin(both.item_rows, allowed_rows)
        return Nominations(
            np.where(is_allowed, both.item_rows, np.int32(-1)),
            both.nominated_by & is_allowed[..., None],
        )

    def candidates(self, nominations: Nominations, user_vector: Floats) -> Candidates:
        """Those of the one moment of some nominations, with retrieval's score of each."""
        is_item = nominations.item_rows[0] >= NUM_RESERVED_ROWS
        rows = nominations.item_rows[0][is_item]
        scores: Floats = self.retriever.item_vectors[rows] @ user_vector[0]
        return Candidates(rows, scores, nominations.nominated_by[0][is_item])

    def scores(
        self,
        history: History,
        user_rows: Indices,
        at_ms: TimesMs,
        user_vectors: Floats,
        item_rows: Rows,
        request_index: Indices,
    ) -> Floats:
        """[M, S] what all sources think of given candidates, as ranking is told it."""
        moments = moments_of(
            self.retriever.encoder, history, user_rows, at_ms, segment=self.segment
        )
        return self.scorer.scores(user_vectors, moments, item_rows, request_index)


def moments_of(
    encoder: Encoder,
    history: History,
    user_rows: Indices,
    at_ms: TimesMs,
    *,
    segment: str | None,
) -> Moments:
    """What the counted sources know of requests: the last watches, the segment, the time."""
    window = history.watches.window_before(user_rows, at_ms, NUM_WATCHES)
    segment_rows = np.zeros(len(user_rows), np.int32)
    if segment is not None:
        segment_rows = history.feature_rows[user_rows, encoder.user_feature_column(segment)]
    return Moments(history.watches.rows_in(*window, NUM_WATCHES), segment_rows, at_ms)
