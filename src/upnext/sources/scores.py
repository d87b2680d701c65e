"""What each source thinks of a candidate, as ranking is told it, in training and in serving."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.best import Places
from upnext.compiled import FLAGS, FLOATS, INDICES, ROWS, compiled, part, table
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows
from upnext.sources.blend import SOURCES, Moments, Sources

SOURCE_FEATURES = (
    "retrieval's score in deviations from the yardstick's",
    "share of the yardstick that retrieval scores lower",
    *(f"score of {source}" for source in SOURCES),
    "whether the sources knew the item",
)
NUM_YARDSTICK_ITEMS = 1_000

_LEAST_DEVIATION, _LEAST_WIDTH, _ALL_BUT_EQUAL = 1e-6, 1e-30, 1e-5


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
        item_rows = np.ascontiguousarray(item_rows, np.int32)
        request_index = np.ascontiguousarray(request_index, np.int64)
        return _told(
            np.ascontiguousarray(user_vectors),
            self.item_vectors.take(item_rows, axis=0),
            np.sort(user_vectors @ self._yardstick_vectors, axis=1),
            item_rows,
            request_index,
            self.sources.scores(moments, item_rows, request_index),
            self.known,
        )


def yardstick(num_watches: NDArray[Any]) -> Rows:
    """[Y] rows of items that were watched, evenly drawn, the same ones each time."""
    watched = np.flatnonzero(num_watches)
    watched = watched[watched >= NUM_RESERVED_ROWS]
    count = min(NUM_YARDSTICK_ITEMS, len(watched))
    drawn = np.random.default_rng(0).choice(watched, count, replace=False)
    return np.sort(drawn).astype(np.int32)


@part
def _spread(of_yardstick: Floats) -> tuple[Floats, Floats, Floats, Rows]:
    """How each line [Y] of ascending scores is spread, [R] each.

    Returns: mean; standard deviation; buckets per unit of score, of as many buckets of one width as
    there are scores; [R, Y + 2] how many scores are in the buckets before each one.
    """
    num_lines, num_scores = of_yardstick.shape
    means, deviations = np.empty(num_lines, np.float32), np.empty(num_lines, np.float32)
    per_unit = np.zeros(num_lines, np.float32)
    num_before = np.zeros((num_lines, num_scores + 2), np.int32)
    for line in range(num_lines):
        mean, squares = of_yardstick[line].mean(), 0.0
        for score in of_yardstick[line]:
            squares += (score - mean) ** 2
        means[line] = mean
        deviations[line] = max(np.sqrt(squares / num_scores), _LEAST_DEVIATION)
        if 0 < squares < np.inf:
            width = of_yardstick[line, num_scores - 1] - of_yardstick[line, 0]
            per_unit[line] = (num_scores - 1) / max(width, _LEAST_WIDTH)
            for score in of_yardstick[line]:
                bucket = int((score - of_yardstick[line, 0]) * per_unit[line])
                num_before[line, bucket + 1] += 1
            for bucket in range(num_scores):
                num_before[line, bucket + 1] += num_before[line, bucket]
    return means, deviations, per_unit, num_before


@compiled(table(FLOATS), table(FLOATS), table(FLOATS), ROWS, INDICES, table(FLOATS), FLAGS)
def _told(
    user_vectors: Floats,
    vectors: Floats,
    of_yardstick: Floats,
    item_rows: Rows,
    request_index: Places,
    counted: Floats,
    known: NDArray[np.bool_],
) -> Floats:
    """As `SourceScorer.scores`, from each candidate's vector [M, D] and what counts say [M, S].

    `of_yardstick` [R, Y]: the products of each user and the yardstick, ascending. How many of them
    are below a candidate's is looked up by bucket, where hardly one has to be compared; of a binary
    search a processor cannot guess the way.
    """
    means, deviations, per_unit, num_before = _spread(of_yardstick)
    last = of_yardstick.shape[1] - 1
    told = np.zeros((len(item_rows), counted.shape[1] + 3), np.float32)
    for place in range(len(item_rows)):
        row, request = item_rows[place], request_index[place]
        # Added items have rows beyond what was known at that time.
        if row < 0 or row >= len(known) or not known[row]:
            continue
        product = 0.0
        for axis in range(vectors.shape[1]):
            product += vectors[place, axis] * user_vectors[request, axis]
        told[place, 0] = (product - means[request]) / deviations[request]
        # An item of the yardstick is not below itself, however its product was rounded.
        score = np.float32(product - _ALL_BUT_EQUAL * deviations[request])
        num_below = 0
        if last >= 0 and score > of_yardstick[request, last]:
            num_below = last + 1
        elif last >= 0 and score > of_yardstick[request, 0]:
            bucket = int((score - of_yardstick[request, 0]) * per_unit[request])
            num_below = num_before[request, bucket]
            while of_yardstick[request, num_below] < score:
                num_below += 1
        told[place, 1] = num_below / max(1, last + 1)
        for source in range(counted.shape[1]):
            told[place, 2 + source] = counted[place, source]
        told[place, -1] = 1.0
    return told
