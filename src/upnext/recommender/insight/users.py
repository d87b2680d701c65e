"""Users by the beginning of their ids, those of the latest watches first."""

import numpy as np
from numpy.typing import NDArray

from upnext.examples.history import EventLog, Indices
from upnext.examples.vocabulary import Vocabulary
from upnext.insight import UserCard
from upnext.schema import UNKNOWN_ROW, TimesMs

NEVER_MS = np.iinfo(np.int64).min


def last_watches_ms(watches: EventLog) -> TimesMs:
    """[U] when each user's last watch began; `NEVER_MS` of those who have none."""
    last_ms = np.full(watches.num_users, NEVER_MS)
    has_watched = np.diff(watches.starts) > 0
    last_ms[has_watched] = watches.at_ms[watches.starts[1:][has_watched] - 1]
    return last_ms


def find_users(
    users: Vocabulary, watches: EventLog, last_ms: TimesMs, text: str, k: int
) -> list[UserCard]:
    """The first k: the user of this very id, then those whose ids begin with it, latest first."""
    exact = users.rows([text])
    beginning = users.rows_beginning(text)
    beginning = beginning[_latest(last_ms[beginning], k + 1)]
    found = exact[exact != UNKNOWN_ROW]
    found = np.concatenate([found, beginning[~np.isin(beginning, found)]])[:k]
    return [
        UserCard(
            user_id=users.id(row),
            num_watches=int(watches.starts[row + 1] - watches.starts[row]),
            last_watch_ms=None if last_ms[row] == NEVER_MS else int(last_ms[row]),
        )
        for row in found.tolist()
    ]


def _latest(at_ms: NDArray[np.int64], k: int) -> Indices:
    """Places of the k greatest, greatest first, ties to the smaller place; sorts these alone."""
    least = np.partition(at_ms, -k)[-k] if len(at_ms) > k else NEVER_MS
    places = np.flatnonzero(at_ms >= least)
    return places[np.argsort(at_ms[places], kind="stable")[::-1]][:k]
