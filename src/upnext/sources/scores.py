"""What each source thinks of a candidate, as ranking is told it, in training and in serving."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows
from upnext.sources.best import pair_keys, rising
from upnext.sources.blend import SOURCES, Moments, Sources

SOURCE_FEATURES = (
    "retrieval's score in deviations from the yardstick's",
    "share of the yardstick that retrieval scores lower",
    *(f"score of {source}" for source in SOURCES),
    "whether the sources knew the item",
)
NUM_YARDSTICK_ITEMS = 1_000


@dataclass(frozen=True)
class SourceScorer:
    """The item vectors [N, D] and counted sources of one time, and what to measure scores by.

    Inner products of two trainings are no one scale, so retrieval's score is told relative to
    those of the same user with `yardstick_rows` [Y], a fixed sample of the items: how many
    deviations it is above their mean, and the share of them that it beats. `known` [N]: items that
    were watched before that time; of others nothing is told.
    """

    item_vectors: Floats
    sources: Sources
    yardstick_rows: Rows
    known: NDArray[np.bool_]

    @cached_property
    def _yardstick_vectors(self) -> Floats:
        """[D, Y], side by side once and not scattered over the catalogue at each request."""
        return np.ascontiguousarray(self.item_vectors[self.yardstick_rows].T)

    def scores(
        self,
        user_vectors: Floats,
        moments: Moments,
        item_rows: NDArray[Any],
        request_index: NDArray[Any],
    ) -> Floats:
        """[M, S] in the order of `SOURCE_FEATURES`, of candidates item_rows [M].

        Args:
            user_vectors: [R, D] of the requests.
            moments: what the counted sources know of them.
            request_index: [M] whose candidate each is.
        """
        told = np.zeros((len(item_rows), len(SOURCE_FEATURES)), np.float32)
        of_yardstick = np.sort(user_vectors @ self._yardstick_vectors, axis=1)
        vectors = self.item_vectors.take(item_rows, axis=0)
        products = np.einsum("md,md->m", user_vectors[request_index], vectors)
        deviation = np.maximum(of_yardstick.std(axis=1), 1e-6)[request_index]
        told[:, 0] = (products - of_yardstick.mean(axis=1)[request_index]) / deviation
        # An item of the yardstick is not below itself, however its product was rounded.
        told[:, 1] = _share_below(of_yardstick, products - 1e-5 * deviation, request_index)
        told[:, 2:-1] = self.sources.scores(moments, item_rows, request_index)
        told[:, -1] = 1.0
        # Added items have rows beyond what was known at that time.
        inside = np.minimum(item_rows, len(self.known) - 1)
        is_known = self.known[inside] & (item_rows < len(self.known))
        return np.where(is_known[:, None], told, np.float32(0))


def yardstick(num_watches: NDArray[Any]) -> Rows:
    """[Y] rows of items that were watched, evenly drawn, the same ones each time."""
    watched = np.flatnonzero(num_watches)
    watched = watched[watched >= NUM_RESERVED_ROWS]
    count = min(NUM_YARDSTICK_ITEMS, len(watched))
    drawn = np.random.default_rng(0).choice(watched, count, replace=False)
    return np.sort(drawn).astype(np.int32)


def _share_below(sorted_scores: Floats, scores: Floats, request_index: NDArray[Any]) -> Floats:
    """[M] share of each request's sorted scores [R, Y] that are below its candidate's."""
    num_requests, num_scores = sorted_scores.shape
    requests = np.arange(num_requests)[:, None]
    of_all = pair_keys(requests, rising(sorted_scores)).ravel()
    found = np.searchsorted(of_all, pair_keys(request_index, rising(scores)))
    below = found - num_scores * request_index
    shares: Floats = (below / max(1, num_scores)).astype(np.float32)
    return shares
