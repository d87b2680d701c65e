"""Stage-2 examples: a request and its candidates → watched or not, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.examples.catalogue import Catalogue
from upnext.examples.encoder import Encoder
from upnext.examples.history import EventLog, History, Indices
from upnext.examples.once import once
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import MS_PER_DAY, UNKNOWN_ROW, Floats, Impressions, Rows, TimesMs


class RankingInputs:
    """What ranking may know of R requests and their M candidates: raw arrays, made when asked for.

    The one encoder of stage 2: training makes it of logged requests, serving of live ones. All
    derived features are the network's.

    Of requests: context_rows [R, C]; history_* the last H watches, newest last, 0 pads, with age
    and watch time *as of the request* (a watch that is still running counts what has run); shown_*
    the last impressions, watched or not. Of candidates: request_index [M] says whose they are;
    item_counts and channel_counts [M, 4] what everybody did with them, as `counts.COUNTED` names
    it; source_scores [M, S] what each source of candidates thinks of them.
    """

    def __init__(
        self,
        encoder: Encoder,
        history: History,
        *,
        user_rows: NDArray[Any],
        at_ms: TimesMs,
        request_index: Indices,
        item_rows: Rows,
        position: Floats,
        source_scores: Floats | None = None,
    ) -> None:
        """user_rows, at_ms [R] ask for item_rows, position [M] of requests request_index [M].

        Without `source_scores` there is no column of them.
        """
        self._encoder, self._history = encoder, history
        self._user_rows, self._at_ms = user_rows, at_ms
        self.request_index, self.item_rows, self.position = request_index, item_rows, position
        no_scores = np.zeros((len(item_rows), 0), np.float32)
        self.source_scores = no_scores if source_scores is None else source_scores

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = getattr(self, name)
        return array

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """All arrays by name, as a network takes them."""
        return {name: self[name] for name in RANKING_INPUTS}

    @property
    def _catalogue(self) -> Catalogue:
        return self._encoder.catalogue

    @once
    def _watched(self) -> "_Slots":
        return _Slots(
            self._history.watches,
            self._user_rows,
            self._at_ms,
            self._encoder.config.num_watches_ranked,
        )

    @once
    def _shown(self) -> "_Slots":
        return _Slots(
            self._history.shown, self._user_rows, self._at_ms, self._encoder.config.num_shown
        )

    @once
    def context_rows(self) -> Rows:
        """[R, C] the clock and the declared user features."""
        return self._encoder.context_rows(self._history.feature_rows[self._user_rows], self._at_ms)

    @once
    def history_rows(self) -> Rows:
        """[R, H] items watched."""
        return self._watched.rows

    @once
    def history_channel_rows(self) -> Rows:
        """[R, H] their channels."""
        return self._catalogue.channel_rows[self.history_rows]

    @once
    def history_tag_rows(self) -> Rows:
        """[R, H, T] their tags."""
        return self._catalogue.tag_rows[self.history_rows]

    @once
    def history_duration_s(self) -> Floats:
        """[R, H] how long they are, 0 where that is not known."""
        return self._catalogue.duration_s[self.history_rows]

    @once
    def history_age_s(self) -> Floats:
        """[R, H] seconds since they were started."""
        return self._watched.age_s

    @once
    def history_watch_time_s(self) -> Floats:
        """[R, H] how long they had been watched by then."""
        spent = self._history.watches.watch_time_s
        seconds: Floats = np.minimum(self._watched.take(spent), self.history_age_s)
        return seconds

    @once
    def shown_rows(self) -> Rows:
        """[R, Hs] items shown."""
        return self._shown.rows

    @once
    def shown_channel_rows(self) -> Rows:
        """[R, Hs] their channels."""
        return self._catalogue.channel_rows[self.shown_rows]

    @once
    def shown_tag_rows(self) -> Rows:
        """[R, Hs, T] their tags."""
        return self._catalogue.tag_rows[self.shown_rows]

    @once
    def shown_age_s(self) -> Floats:
        """[R, Hs] seconds since they were shown."""
        return self._shown.age_s

    @once
    def _places(self) -> "Places":
        return places_of(self.history_rows, self.shown_rows, self.item_rows, self.request_index)

    @property
    def history_place(self) -> Indices:
        """[R, H] which candidate was watched, as `Places` tells it."""
        return self._places.history_place

    @property
    def shown_place(self) -> Indices:
        """[R, Hs] which candidate was shown."""
        return self._places.shown_place

    @property
    def item_place(self) -> Indices:
        """[M] which place is the candidate's own."""
        return self._places.item_place

    @once
    def channel_rows(self) -> Rows:
        """[M] the candidate's channel."""
        return self._catalogue.channel_rows[self.item_rows]

    @once
    def tag_rows(self) -> Rows:
        """[M, T] its tags."""
        return self._catalogue.tag_rows[self.item_rows]

    @once
    def duration_s(self) -> Floats:
        """[M] how long it is, 0 where that is not known."""
        return self._catalogue.duration_s[self.item_rows]

    @once
    def item_age_days(self) -> Floats:
        """[M] days since it was published; 0 for an unknown item."""
        age_ms = self._asked_at_ms - self._catalogue.published_at_ms[self.item_rows]
        known = self.item_rows > UNKNOWN_ROW
        return np.where(known, age_ms / MS_PER_DAY, 0.0).astype(np.float32)

    @once
    def item_counts(self) -> Floats:
        """[M, 4] impressions, watches, seconds and shares of the item by everybody."""
        return self._history.item_counts.before(self.item_rows, self._asked_at_ms)

    @once
    def channel_counts(self) -> Floats:
        """[M, 4] the same of its channel."""
        return self._history.channel_counts.before(self.channel_rows, self._asked_at_ms)

    @property
    def _asked_at_ms(self) -> TimesMs:
        return self._at_ms[self.request_index]


REQUEST_INPUTS = (
    "context_rows",
    "history_rows",
    "history_channel_rows",
    "history_tag_rows",
    "history_duration_s",
    "history_age_s",
    "history_watch_time_s",
    "shown_rows",
    "shown_channel_rows",
    "shown_tag_rows",
    "shown_age_s",
)
CANDIDATE_INPUTS = (
    "request_index",
    "item_rows",
    "channel_rows",
    "tag_rows",
    "duration_s",
    "item_age_days",
    "position",
    "item_counts",
    "channel_counts",
    "source_scores",
)
PLACE_INPUTS = ("history_place", "shown_place", "item_place")
"""What `places_of` tells of the rows among these."""
RANKING_INPUTS = REQUEST_INPUTS + CANDIDATE_INPUTS + PLACE_INPUTS


class Places(NamedTuple):
    """Which candidate of its request each past event is of, so that nobody compares them all.

    A place is the index in [M] of the first candidate of this request with this item, plus 1; 0
    stands for no candidate, an unknown item or a pad. `history_place` [R, H], `shown_place`
    [R, Hs], `item_place` [M].
    """

    history_place: Indices
    shown_place: Indices
    item_place: Indices


def places_of(
    history_rows: Rows, shown_rows: Rows, item_rows: Rows, request_index: NDArray[Any]
) -> Places:
    """The places of events [R, H], [R, Hs] and candidates [M] of requests request_index [M].

    >>> places_of(np.array([[0, 5, 7]]), np.array([[1, 9]]), np.array([1, 7, 9, 7]),
    ...           np.zeros(4, np.int64))
    Places(history_place=array([[0, 0, 2]]), shown_place=array([[0, 3]]), \
item_place=array([0, 2, 3, 2]))
    """
    keys = (request_index.astype(np.int64) << 32) + item_rows
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]

    def places(requests: NDArray[Any], rows: Rows) -> Indices:
        place, known = np.zeros(rows.shape, np.int64), rows > UNKNOWN_ROW
        wanted = ((requests.astype(np.int64) << 32) + rows)[known]  # others may be most of them
        found = np.minimum(np.searchsorted(in_order, wanted), len(order) - 1)
        place[known] = np.where(in_order[found] == wanted, order[found] + 1, 0)
        return place

    if not len(keys):
        return Places(*(np.zeros(r.shape, np.int64) for r in (history_rows, shown_rows, item_rows)))
    requests = np.arange(len(history_rows))[:, None]
    return Places(
        places(requests, history_rows),
        places(requests, shown_rows),
        places(request_index, item_rows),
    )


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
        counts = self.starts[requests + 1] - self.starts[requests]
        request_index = np.repeat(np.arange(len(requests)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.starts[requests][request_index] + within, request_index

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


class _Slots:
    """The last events of a log before each request, in slots [R, H]."""

    def __init__(
        self, log: EventLog, user_rows: NDArray[Any], at_ms: TimesMs, num_slots: int
    ) -> None:
        self._log, self._at_ms = log, at_ms
        window = log.window_before(user_rows, at_ms, num_slots)
        self._index, self._filled = log.slots(*window, num_slots)

    def take(self, values: NDArray[Any]) -> NDArray[Any]:
        return self._log.take(values, self._index, self._filled)

    @property
    def rows(self) -> Rows:
        rows: Rows = self.take(self._log.rows)
        return rows

    @property
    def age_s(self) -> Floats:
        """Seconds from each event to its request, 0 in empty slots."""
        age_ms = np.where(self._filled, self._at_ms[:, None] - self.take(self._log.at_ms), 0)
        return (age_ms / 1000).astype(np.float32)
