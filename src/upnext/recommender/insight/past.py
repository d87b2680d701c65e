"""What one user did, as a release holds it and the live store goes on: each event once."""

from dataclasses import dataclass

import numpy as np

from upnext.examples.encoder import Encoder
from upnext.examples.history import EventLog
from upnext.insight import SearchCard, UserPast, WatchCard
from upnext.recommender.insight.cards import card_fields, id_or_none
from upnext.recommender.opened import OpenedRelease
from upnext.schema import UNKNOWN_ROW, Id, LivePast


@dataclass(frozen=True)
class _Watch:
    """`item_id`: as the live store tells it, of an item that training need not have known."""

    row: int
    started_at_ms: int
    watch_time_s: float
    item_id: Id | None = None
    is_live: bool = False


def past_of_user(release: OpenedRelease, user_id: Id, num: int, live: LivePast | None) -> UserPast:
    """The last `num` watches and searches.

    An event that both hold, the same item at the same time, is the release's, as in a request.
    """
    encoder, live = release.encoder, live or LivePast()
    user_row = release.users.row(user_id)
    stored = release.history.of_user(user_row)
    items = encoder.catalogue.items
    shown = EventLog.of_one(items.rows(live.shown), np.array(live.shown_at_ms, np.int64))
    new = _new_watches(encoder, stored.watches, live)
    latest = sorted(
        _stored_watches(stored.watches, num) + new, key=lambda watch: watch.started_at_ms
    )
    return UserPast(
        user_id=user_id,
        is_known=user_row != UNKNOWN_ROW,
        num_watches=len(stored.watches.rows) + len(new),
        num_shown=len(stored.shown.rows) + int(stored.shown.lacks(shown).sum()),
        watches=[_watch_card(encoder, watch) for watch in latest[: -num - 1 : -1]],
        searches=_searches(encoder, stored.searches, live)[: -num - 1 : -1],
    )


def _stored_watches(log: EventLog, num: int) -> list[_Watch]:
    columns = (log.rows, log.at_ms, log.watch_time_s)
    lines = zip(*(column[-num:].tolist() for column in columns), strict=True)
    return [_Watch(*line) for line in lines]


def _new_watches(encoder: Encoder, stored: EventLog, live: LivePast) -> list[_Watch]:
    """Those that the live store alone holds."""
    rows = encoder.catalogue.items.rows(live.watched)
    is_new = stored.lacks(EventLog.of_one(rows, np.array(live.started_at_ms, np.int64)))
    lines = zip(rows.tolist(), live.started_at_ms, live.watch_time_s, live.watched, strict=True)
    return [_Watch(*line, is_live=True) for line, new in zip(lines, is_new, strict=True) if new]


def _watch_card(encoder: Encoder, watch: _Watch) -> WatchCard:
    fields = card_fields(encoder.catalogue, watch.row)
    duration_s = fields["duration_s"]
    if fields["item_id"] is None:
        fields["item_id"] = watch.item_id
    return WatchCard(
        **fields,
        started_at_ms=watch.started_at_ms,
        watch_time_s=watch.watch_time_s,
        watch_share=min(1.0, watch.watch_time_s / duration_s) if duration_s else None,
        is_live=watch.is_live,
    )


def _searches(encoder: Encoder, stored: EventLog, live: LivePast) -> list[SearchCard]:
    """Oldest first. Of a search that both hold, the live store still knows the query."""
    queries = dict(zip(live.searched_at_ms, live.searched, strict=True))
    tokens: dict[int, list[str]] = {}
    for row, at_ms in zip(stored.rows.tolist(), stored.at_ms.tolist(), strict=True):
        token = id_or_none(encoder.search_tokens, row)
        tokens.setdefault(at_ms, []).extend([] if token is None else [str(token)])
    known = [
        SearchCard(query=queries.get(at_ms), tokens=words, searched_at_ms=at_ms, is_live=False)
        for at_ms, words in tokens.items()
    ]
    new = [
        SearchCard(query=query, tokens=[], searched_at_ms=at_ms, is_live=True)
        for query, at_ms in zip(live.searched, live.searched_at_ms, strict=True)
        if at_ms not in tokens
    ]
    return sorted(known + new, key=lambda search: search.searched_at_ms)
