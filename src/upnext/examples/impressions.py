"""Stage-2 examples: a request and its candidates → watched or not, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder
from upnext.examples.history import EventLog, History, Indices
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import MS_PER_DAY, UNKNOWN_ROW, Floats, Impressions, Rows, TimesMs


@dataclass(frozen=True)
class RankingInputs:
    """Raw arrays for R requests and their M candidates; all derived features are the network's.

    history_*: the last H watches, newest last, 0 pads, with age and watch time *as of the request*
    (a watch that is still running counts what has run). shown_*: the last impressions.
    request_index [M] says which request a candidate belongs to.
    """

    context_rows: Rows
    history_rows: Rows
    history_channel_rows: Rows
    history_tag_rows: Rows
    history_duration_s: Floats
    history_age_s: Floats
    history_watch_time_s: Floats
    shown_rows: Rows
    shown_age_s: Floats
    request_index: Indices
    item_rows: Rows
    channel_rows: Rows
    tag_rows: Rows
    duration_s: Floats
    item_age_days: Floats
    position: Floats

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The arrays by name, as a network takes them."""
        return vars(self)


EMBEDDED_ROWS: Mapping[str, tuple[str, str]] = {
    "item_vectors": ("item", "item_rows"),
    "channel_vectors": ("channel", "channel_rows"),
    "tag_vectors": ("tag", "tag_rows"),
    "history_item_vectors": ("item", "history_rows"),
    "history_channel_vectors": ("channel", "history_channel_rows"),
}
"""Which table's vectors, at which rows, each embedded input of the network holds.

One shared table per ID space, fed separately per feature. Source: Covington, Adams, Sargin 2016,
section 4.1.
"""


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

    @property
    def num_requests(self) -> int:
        """R."""
        return len(self.user_rows)

    def impressions_of(self, requests: NDArray[Any]) -> tuple[Indices, Indices]:
        """The impressions of these requests, and the place of each one's request: 2 × [M]."""
        counts = self.starts[requests + 1] - self.starts[requests]
        request_index = np.repeat(np.arange(len(requests)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.starts[requests][request_index] + within, request_index

    def inputs(self, encoder: Encoder, requests: NDArray[Any]) -> tuple[RankingInputs, Indices]:
        """The inputs of some requests, and the indices of their impressions, [M]."""
        chosen, request_index = self.impressions_of(requests)
        inputs = encode_ranking_inputs(
            encoder,
            self.history,
            user_rows=self.user_rows[requests],
            at_ms=self.at_ms[requests],
            request_index=request_index,
            item_rows=self.item_rows[chosen],
            position=self.position[chosen],
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
    )


def encode_ranking_inputs(
    encoder: Encoder,
    history: History,
    *,
    user_rows: NDArray[Any],
    at_ms: TimesMs,
    request_index: Indices,
    item_rows: Rows,
    position: Floats,
) -> RankingInputs:
    """What ranking may know: user_rows, at_ms [R] ask for item_rows [M] of requests request_index.

    The one encoder of stage 2: training calls it with logged requests, serving with live ones.
    """
    config, catalogue = encoder.config, encoder.catalogue
    watches, shown = history.watches, history.shown
    index, filled = watches.slots(
        *watches.window_before(user_rows, at_ms, config.num_watches), config.num_watches
    )
    history_rows = watches.take(watches.rows, index, filled)
    history_age_s = _age_s(watches, index, filled, at_ms)
    shown_index, shown_filled = shown.slots(
        *shown.window_before(user_rows, at_ms, config.num_shown), config.num_shown
    )
    item_age_ms = at_ms[request_index] - catalogue.published_at_ms[item_rows]
    known = item_rows > UNKNOWN_ROW
    return RankingInputs(
        context_rows=encoder.context_rows(history.feature_rows[user_rows], at_ms),
        history_rows=history_rows,
        history_channel_rows=catalogue.channel_rows[history_rows],
        history_tag_rows=catalogue.tag_rows[history_rows],
        history_duration_s=catalogue.duration_s[history_rows],
        history_age_s=history_age_s,
        history_watch_time_s=np.minimum(
            watches.take(watches.watch_time_s, index, filled), history_age_s
        ),
        shown_rows=shown.take(shown.rows, shown_index, shown_filled),
        shown_age_s=_age_s(shown, shown_index, shown_filled, at_ms),
        request_index=request_index,
        item_rows=item_rows,
        channel_rows=catalogue.channel_rows[item_rows],
        tag_rows=catalogue.tag_rows[item_rows],
        duration_s=catalogue.duration_s[item_rows],
        item_age_days=np.where(known, item_age_ms / MS_PER_DAY, 0.0).astype(np.float32),
        position=position,
    )


def _age_s(log: EventLog, index: Indices, filled: NDArray[np.bool_], at_ms: TimesMs) -> Floats:
    """Seconds from each event to its request, 0 in empty slots: [R, H]."""
    age_ms = np.where(filled, at_ms[:, None] - log.take(log.at_ms, index, filled), 0)
    return (age_ms / 1000).astype(np.float32)
