"""Which items a request might be shown: what retrieval finds, and what plain counts propose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from upnext.examples.encoder import Encoder
from upnext.examples.history import History, Indices
from upnext.recommender.batch import Batch
from upnext.recommender.files import arrays_in
from upnext.recommender.retriever import Retriever
from upnext.registry.release import Release
from upnext.schema import NUM_RESERVED_ROWS, Candidates, Floats, Rows, TimesMs
from upnext.sources import NOMINATORS, Moments, Nominations, Sources, SourcesConfig
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
    def sources(self) -> Sources:
        """The counted ones."""
        return self.scorer.sources

    @property
    def num_counted(self) -> int:
        """Candidates at most that the counted sources nominate together."""
        config = self.sources.config
        return config.num_together + config.num_popular + config.num_fresh

    def moments(self, batch: Batch) -> Moments:
        """What the counted sources know of some requests."""
        encoder, segment = self.retriever.encoder, self.segment
        return moments_of(encoder, batch.history, batch.user_rows, batch.at_ms, segment=segment)

    def nominate(
        self,
        moments: Moments,
        found_rows: Rows | None,
        *,
        excluded_rows: Sequence[Rows] | None,
        allowed_rows: Rows | None = None,
    ) -> Nominations:
        """Candidates of B moments: what retrieval found, then what the counts add.

        Args:
            found_rows: [B, K] best first, -1 pads; None where retrieval found nothing.
            excluded_rows: what nobody may nominate, such as what each user has watched.
            allowed_rows: what may be nominated at all; None allows everything.
        """
        both = self.sources.nominate(moments, found_rows=found_rows, excluded_rows=excluded_rows)
        if allowed_rows is None:
            return both
        is_allowed = np.isin(both.item_rows, allowed_rows)
        return Nominations(
            np.where(is_allowed, both.item_rows, np.int32(-1)),
            both.nominated_by & is_allowed[..., None],
        )

    def candidates(
        self, nominations: Nominations, place: int, user_vector: Floats | None, again: Rows
    ) -> Candidates:
        """Those of one moment of some nominations, with retrieval's score of each, or 0 without.

        `again`: what the user has watched and may be proposed again.
        """
        is_item = nominations.item_rows[place] >= NUM_RESERVED_ROWS
        rows = nominations.item_rows[place][is_item]
        scores: Floats = (
            np.zeros(len(rows), np.float32)
            if user_vector is None
            else self.retriever.with_bonus(
                self.retriever.item_vectors.take(rows, axis=0) @ user_vector, rows, again
            )
        )
        return Candidates(rows, scores, nominations.nominated_by[place][is_item])


def of_retrieval_alone(found_rows: Rows) -> Nominations:
    """What retrieval found [B, K], without any other nominator."""
    nominated_by = np.zeros((*found_rows.shape, len(NOMINATORS)), bool)
    nominated_by[..., 0] = found_rows >= NUM_RESERVED_ROWS
    return Nominations(found_rows, nominated_by)


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
