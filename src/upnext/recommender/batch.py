"""Some requests that are answered together: who asks when, and from which past."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder, now_ms
from upnext.examples.history import History, Indices
from upnext.examples.past import past_of
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import UNKNOWN_ROW, LivePast, RecommendationRequest, TimesMs


@dataclass(frozen=True)
class Batch:
    """B moments: request b is asked by user_rows[b] of `history` at at_ms[b]."""

    history: History
    user_rows: Indices
    at_ms: TimesMs

    def __post_init__(self) -> None:
        for name in ("user_rows", "at_ms"):  # every third of many may be asked for, as a view
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.int64))

    def __len__(self) -> int:
        return len(self.at_ms)

    def take(self, places: NDArray[np.int64]) -> "Batch":
        """Some of the requests, in the order given."""
        return replace(self, user_rows=self.user_rows[places], at_ms=self.at_ms[places])


def batch_of(
    encoder: Encoder,
    users: Vocabulary,
    stored: History,
    requests: Sequence[RecommendationRequest],
    live: Sequence[LivePast | None],
) -> Batch:
    """The moments of some requests, each with all that is known of its user's past.

    Where nothing but what is stored is known of anybody, that is used as it lies.
    """
    this_moment_ms = now_ms()
    times = [this_moment_ms if one.at_ms is None else one.at_ms for one in requests]
    rows = [UNKNOWN_ROW if one.user_id is None else users.row(one.user_id) for one in requests]
    if not any(map(_tells_a_past, requests)) and not any(live):
        return Batch(stored, np.array(rows, np.int64), np.array(times, np.int64))
    pasts = [
        past_of(encoder, stored, *one) for one in zip(rows, requests, live, times, strict=True)
    ]
    places = np.arange(len(pasts))
    return Batch(History.joined(pasts), places, np.array(times, np.int64))


def _tells_a_past(request: RecommendationRequest) -> bool:
    told = (request.history, request.searches, request.user_features or None)
    return any(one is not None for one in told)
