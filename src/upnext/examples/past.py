"""The past that a request is answered from: a release keeps it, a live store, or a client tells."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from upnext.examples.encoder import Encoder
from upnext.examples.history import EventLog, History
from upnext.examples.searches import query_tokens
from upnext.schema import UNKNOWN_ROW, Floats, LivePast, PastWatch, RecommendationRequest, TimesMs


def past_of(
    encoder: Encoder,
    stored: History,
    user_row: int,
    request: RecommendationRequest,
    live: LivePast | None,
    at_ms: int,
) -> History:
    """The past of one request, as that of user 0, with the counts of all.

    To what is stored comes what happened since (`live`); an event that is in both, the same item at
    the same time, counts once. Watches or searches that the request tells take the place of both,
    and so does each user feature that it tells.

    A request without a time is one of this moment, and all that it or the live store knows has
    happened: times at or after it, as of a client's clock that is fast, count as the millisecond
    before.
    """
    past = stored.of_user(user_row)
    if live:
        past = _with_live(encoder, past, live, at_ms if request.at_ms is None else None)
    if request.history is not None:
        past = replace(past, watches=_told_watches(encoder, request.history, at_ms))
    if request.searches is not None:
        tokens = [token for query in request.searches for token in query_tokens(query)]
        times = np.arange(at_ms - len(tokens), at_ms, dtype=np.int64)
        past = replace(past, searches=EventLog.of_one(encoder.search_tokens.rows(tokens), times))
    if request.user_features:
        told = [
            encoder.user_features[name].row(request.user_features[name])
            if name in request.user_features
            else UNKNOWN_ROW
            for name in encoder.user_features
        ]
        rows = np.array([told], np.int32).reshape(1, len(told))
        feature_rows = np.where(rows == UNKNOWN_ROW, past.feature_rows, rows)
        past = replace(past, feature_rows=feature_rows)
    return past


def told_by(encoder: Encoder, request: RecommendationRequest, at_ms: int) -> History:
    """The past of a stranger, of whom is known just what the request tells."""
    nothing = History.empty(UNKNOWN_ROW + 1, len(encoder.user_features))
    return past_of(encoder, nothing, UNKNOWN_ROW, request, None, at_ms)


def _with_live(encoder: Encoder, past: History, live: LivePast, now_ms: int | None) -> History:
    """`now_ms`: what events at or after it are taken to precede; None takes times as they are."""

    def times(at_ms: Sequence[int]) -> TimesMs:
        told = np.array(at_ms, np.int64)
        return told if now_ms is None else np.minimum(told, now_ms - 1)

    items = encoder.catalogue.items
    if live.watched:
        spent = np.array(live.watch_time_s, np.float32)
        more = EventLog.of_one(items.rows(live.watched), times(live.started_at_ms), spent)
        past = replace(past, watches=past.watches.and_later(more))
    if live.shown:
        more = EventLog.of_one(items.rows(live.shown), times(live.shown_at_ms))
        past = replace(past, shown=past.shown.and_later(more))
    if live.searched:
        tokens = [query_tokens(query) for query in live.searched]
        at_ms = np.repeat(times(live.searched_at_ms), [len(some) for some in tokens])
        rows = encoder.search_tokens.rows([token for some in tokens for token in some])
        past = replace(past, searches=past.searches.and_later(EventLog.of_one(rows, at_ms)))
    return past


def _told_watches(encoder: Encoder, told: Sequence[PastWatch], at_ms: int) -> EventLog:
    """Watches without a time are taken to have followed one another, the last ending just now.

    Those without a watch time count as watched to the end. The watches keep their order.
    """
    rows = encoder.catalogue.items.rows([watch.item_id for watch in told])
    spent = np.array(
        [
            float(encoder.catalogue.duration_s[row])
            if watch.watch_time_s is None
            else watch.watch_time_s
            for row, watch in zip(rows, told, strict=True)
        ],
        np.float32,
    )
    started_at_ms = _started_at_ms(told, spent, at_ms)
    order = np.argsort(started_at_ms, kind="stable")
    return EventLog.of_one(rows[order], np.minimum(started_at_ms[order], at_ms - 1), spent[order])


def _started_at_ms(told: Sequence[PastWatch], watch_time_s: Floats, at_ms: int) -> TimesMs:
    told_ms = np.array([watch.started_at_ms or 0 for watch in told], np.int64)
    is_untold = np.array([watch.started_at_ms is None for watch in told], bool)
    lengths_ms = np.maximum(np.ceil(1000 * watch_time_s.astype(np.float64)), 1) * is_untold
    until_request_ms = np.cumsum(lengths_ms[::-1])[::-1].astype(np.int64)
    return np.where(is_untold, at_ms - until_request_ms, told_ms)
