"""Stage-2 examples: a request and its candidates → watched or not, and for how long."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder
from upnext.examples.history import History, Indices, ranges
from upnext.examples.ranking_inputs import RankingInputs
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import UNKNOWN_ROW, Floats, Impressions, Rows, TimesMs


@dataclass(frozen=True)
class ImpressionExamples:
    """R logged requests with their M impressions, request after request.

    Request r's impressions are those in [starts[r], starts[r + 1]). Histories stay in `history`
    and are read when a batch is encoded, so memory does not grow with H.
    """

    history: History
    user_rows: Indices
    at_ms: TimesMs
    starts: Indices
    item_rows: Rows
    position: Floats
    watched: NDArray[np.bool_]
    watch_time_s: Floats
    source_scores: Floats

    @property
    def num_requests(self) -> int:
        """R."""
        return len(self.user_rows)

    def take(self, requests: Indices) -> "ImpressionExamples":
        """Some of the requests, in the order given."""
        chosen, _ = self.impressions_of(requests)
        counts = self.starts[requests + 1] - self.starts[requests]
        return ImpressionExamples(
            history=self.history,
            user_rows=self.user_rows[requests],
            at_ms=self.at_ms[requests],
            starts=np.concatenate([[0], np.cumsum(counts)]),
            item_rows=self.item_rows[chosen],
            position=self.position[chosen],
            watched=self.watched[chosen],
            watch_time_s=self.watch_time_s[chosen],
            source_scores=self.source_scores[chosen],
        )

    def as_known_then(self) -> Self:
        """The same, but that an item nobody had watched before is unknown, as it then was.

        A vocabulary is counted to the end of training. Without this, an unknown item in training
        would be one that was never to be watched, and ranking would learn just that of all unknown
        ones. What the sources think of such an item is unknown too.
        """
        watches = self.history.watches
        num_rows = int(max(self.item_rows.max(initial=0), watches.rows.max(initial=0))) + 1
        first_ms = np.full(num_rows, np.iinfo(np.int64).max)
        np.minimum.at(first_ms, watches.rows, watches.at_ms)
        known = first_ms[self.item_rows] < np.repeat(self.at_ms, np.diff(self.starts))
        return replace(
            self,
            item_rows=np.where(known, self.item_rows, np.int32(UNKNOWN_ROW)),
            source_scores=np.where(known[:, None], self.source_scores, np.float32(0)),
        )

    def impressions_of(self, requests: NDArray[Any]) -> tuple[Indices, Indices]:
        """The impressions of these requests, and the place of each one's request: 2 × [M]."""
        lo, hi = self.starts[requests], self.starts[requests + 1]
        return ranges(lo, hi), np.repeat(np.arange(len(requests)), hi - lo)

    def inputs(self, encoder: Encoder, requests: NDArray[Any]) -> tuple[RankingInputs, Indices]:
        """The inputs of some requests, and the indices of their impressions, [M]."""
        chosen, request_index = self.impressions_of(requests)
        inputs = RankingInputs(
            encoder,
            self.history,
            user_rows=self.user_rows[requests],
            at_ms=self.at_ms[requests],
            request_index=request_index,
            item_rows=self.item_rows[chosen],
            position=self.position[chosen],
            source_scores=self.source_scores[chosen],
        )
        return inputs, chosen


def build_impression_examples(
    encoder: Encoder, history: History, users: Vocabulary, impressions: Impressions
) -> ImpressionExamples:
    """Groups impressions into requests, in order of time. Unknown items stay in, as row 1.

    A request is one user's, even if another's has the same id, and shown at one time: that of
    its first impression. Only what was watched has a watch time; any other counts as 0.
    """
    keys = ["request_id", "user_id"]
    first_shown = pl.col("shown_at_ms").min().over(keys)
    frame = impressions.frame.with_columns(first_shown).sort(
        ["shown_at_ms", *keys, "position"], maintain_order=True
    )
    differs = pl.any_horizontal(pl.col(keys).ne_missing(pl.col(keys).shift()))
    begins = frame.select(differs).to_series()
    begins_at = np.flatnonzero(begins.to_numpy())
    watched = frame["watched"].to_numpy()
    return ImpressionExamples(
        history=history,
        user_rows=users.rows(frame["user_id"].gather(begins_at)).astype(np.int64),
        at_ms=frame["shown_at_ms"].to_numpy()[begins_at],
        starts=np.append(begins_at, frame.height),
        item_rows=encoder.catalogue.items.rows(frame["item_id"]),
        position=frame["position"].to_numpy().astype(np.float32),
        watched=watched,
        watch_time_s=np.where(watched, frame["watch_time_s"].to_numpy(), np.float32(0)),
        source_scores=np.zeros((frame.height, 0), np.float32),
    )
