"""What ranking is told of requests and their candidates, as raw arrays by name."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import FLOATS, INDICES, INT, ROWS, compiled, table
from upnext.examples.encoder import Encoder
from upnext.examples.history import EventLog, History, Indices
from upnext.examples.once import once
from upnext.examples.places import Places, places_of
from upnext.schema import MS_PER_DAY, UNKNOWN_ROW, Floats, Rows, TimesMs


class RankingInputs:
    """What ranking may know of R requests and their M candidates: raw arrays, made when asked for.

    The one encoder of stage 2: training makes it of logged requests, serving of live ones. All
    that is derived of them is made in `features/`.

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
        self._user_rows, self._at_ms = user_rows, np.ascontiguousarray(at_ms, np.int64)
        self.request_index = np.ascontiguousarray(request_index, np.int64)
        self.item_rows, self.position = np.ascontiguousarray(item_rows, np.int32), position
        no_scores = np.zeros((len(item_rows), 0), np.float32)
        self.source_scores = no_scores if source_scores is None else source_scores

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = getattr(self, name)
        return array

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """All arrays by name, as a network takes them."""
        return {name: self[name] for name in RANKING_INPUTS}

    @once
    def context_rows(self) -> Rows:
        """[R, C] the clock and the declared user features."""
        return self._encoder.context_rows(self._history.feature_rows[self._user_rows], self._at_ms)

    @property
    def history_rows(self) -> Rows:
        """[R, H] items watched."""
        return self._watched.rows

    @property
    def history_channel_rows(self) -> Rows:
        """[R, H] their channels."""
        return self._watched.channel_rows

    @property
    def history_tag_rows(self) -> Rows:
        """[R, H, T] their tags."""
        return self._watched.tag_rows

    @property
    def history_duration_s(self) -> Floats:
        """[R, H] how long they are, 0 where that is not known."""
        return self._watch_times[0]

    @property
    def history_age_s(self) -> Floats:
        """[R, H] seconds since they were started."""
        return self._watched.age_s

    @property
    def history_watch_time_s(self) -> Floats:
        """[R, H] how long they had been watched by then."""
        return self._watch_times[1]

    @property
    def shown_rows(self) -> Rows:
        """[R, Hs] items shown."""
        return self._shown.rows

    @property
    def shown_channel_rows(self) -> Rows:
        """[R, Hs] their channels."""
        return self._shown.channel_rows

    @property
    def shown_tag_rows(self) -> Rows:
        """[R, Hs, T] their tags."""
        return self._shown.tag_rows

    @property
    def shown_age_s(self) -> Floats:
        """[R, Hs] seconds since they were shown."""
        return self._shown.age_s

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

    @property
    def channel_rows(self) -> Rows:
        """[M] the candidate's channel."""
        return self._candidates.channel_rows

    @property
    def tag_rows(self) -> Rows:
        """[M, T] its tags."""
        return self._candidates.tag_rows

    @property
    def duration_s(self) -> Floats:
        """[M] how long it is, 0 where that is not known."""
        return self._candidates.duration_s

    @property
    def item_age_days(self) -> Floats:
        """[M] days since it was published; 0 for an unknown item."""
        return self._candidates.age_days

    @once
    def item_counts(self) -> Floats:
        """[M, 4] impressions, watches, seconds and shares of the item by everybody."""
        return self._history.item_counts.before(self.item_rows, self._candidates.asked_at_ms)

    @once
    def channel_counts(self) -> Floats:
        """[M, 4] the same of its channel."""
        return self._history.channel_counts.before(self.channel_rows, self._candidates.asked_at_ms)

    @once
    def _watched(self) -> "_Past":
        return self._past(self._history.watches, self._encoder.config.num_watches_ranked)

    @once
    def _shown(self) -> "_Past":
        return self._past(self._history.shown, self._encoder.config.num_shown)

    def _past(self, log: EventLog, num_slots: int) -> "_Past":
        """The last events of a log before each request, in slots."""
        lo, hi = log.window_before(self._user_rows, self._at_ms, num_slots)
        items = self._encoder.catalogue
        of_items = items.channel_rows, items.tag_rows
        arrays = _in_slots(log.rows, log.at_ms, lo, hi, self._at_ms, num_slots, *of_items)
        return _Past(lo, hi, *arrays)

    @once
    def _watch_times(self) -> tuple[Floats, Floats]:
        """Durations and watch times of what was watched."""
        watched, spent_s = self._watched, self._history.watches.watch_time_s
        windows = watched.lo, watched.hi, watched.rows, watched.age_s
        return _run_by_then(spent_s, *windows, self._encoder.catalogue.duration_s)

    @once
    def _places(self) -> Places:
        return places_of(self.history_rows, self.shown_rows, self.item_rows, self.request_index)

    @once
    def _candidates(self) -> "_Candidates":
        items = self._encoder.catalogue
        return _Candidates(
            *_described(
                self.item_rows,
                self.request_index,
                self._at_ms,
                items.channel_rows,
                items.tag_rows,
                items.duration_s,
                items.published_at_ms,
            )
        )


class _Past(NamedTuple):
    """The last events before each request, those in [lo, hi), newest last, zeros before them."""

    lo: Indices
    hi: Indices
    rows: Rows
    channel_rows: Rows
    tag_rows: Rows
    age_s: Floats


class _Candidates(NamedTuple):
    """What is known of each candidate's item, and when it was asked for."""

    asked_at_ms: TimesMs
    channel_rows: Rows
    tag_rows: Rows
    duration_s: Floats
    age_days: Floats


@compiled(ROWS, INDICES, INDICES, INDICES, INDICES, INT, ROWS, table(ROWS))
def _in_slots(
    event_rows: Rows,
    event_ms: TimesMs,
    lo: Indices,
    hi: Indices,
    at_ms: TimesMs,
    num_slots: int,
    channel_rows: Rows,
    tag_rows: Rows,
) -> tuple[Rows, Rows, Rows, Floats]:
    """Of the last events before each time their items, these items' channels and tags, and age."""
    shape, num_tags = (len(hi), num_slots), tag_rows.shape[1]
    rows, channels = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    tags = np.zeros((len(hi), num_slots, num_tags), np.int32)
    age_s = np.zeros(shape, np.float32)
    for request in range(len(hi)):
        for event in range(lo[request], hi[request]):
            slot, row = num_slots - (hi[request] - event), event_rows[event]
            if not 0 <= row < len(channel_rows):
                raise IndexError("an event of an item that is beyond the catalogue")
            rows[request, slot], channels[request, slot] = row, channel_rows[row]
            for tag in range(num_tags):
                tags[request, slot, tag] = tag_rows[row, tag]
            age_s[request, slot] = (at_ms[request] - event_ms[event]) / 1000
    return rows, channels, tags, age_s


@compiled(FLOATS, INDICES, INDICES, table(ROWS), table(FLOATS), FLOATS)
def _run_by_then(
    event_watch_time_s: Floats,
    lo: Indices,
    hi: Indices,
    rows: Rows,
    age_s: Floats,
    item_duration_s: Floats,
) -> tuple[Floats, Floats]:
    """Of watches in slots how long their items are, and how long they had run by each time."""
    duration_s, watch_time_s = np.zeros_like(age_s), np.zeros_like(age_s)
    num_slots = rows.shape[1]
    for request in range(len(hi)):
        for event in range(lo[request], hi[request]):
            slot = num_slots - (hi[request] - event)
            duration_s[request, slot] = item_duration_s[rows[request, slot]]
            watch_time_s[request, slot] = min(event_watch_time_s[event], age_s[request, slot])
    return duration_s, watch_time_s


@compiled(ROWS, INDICES, INDICES, ROWS, table(ROWS), FLOATS, INDICES)
def _described(
    item_rows: Rows,
    request_index: Indices,
    at_ms: TimesMs,
    channel_rows: Rows,
    tag_rows: Rows,
    duration_s: Floats,
    published_at_ms: TimesMs,
) -> tuple[TimesMs, Rows, Rows, Floats, Floats]:
    """When each was asked for; its channel, tags and duration; days since it was published."""
    num_candidates, num_tags = len(item_rows), tag_rows.shape[1]
    asked_at_ms = np.empty(num_candidates, np.int64)
    channels = np.empty(num_candidates, np.int32)
    tags = np.empty((num_candidates, num_tags), np.int32)
    durations_s = np.empty(num_candidates, np.float32)
    age_days = np.zeros(num_candidates, np.float32)
    for place, row in enumerate(item_rows):
        if not 0 <= row < len(channel_rows):
            raise IndexError("a candidate that is beyond the catalogue")
        asked_at_ms[place] = at_ms[request_index[place]]
        channels[place], durations_s[place] = channel_rows[row], duration_s[row]
        for tag in range(num_tags):
            tags[place, tag] = tag_rows[row, tag]
        if row > UNKNOWN_ROW:
            age_days[place] = (asked_at_ms[place] - published_at_ms[row]) / MS_PER_DAY
    return asked_at_ms, channels, tags, durations_s, age_days


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
