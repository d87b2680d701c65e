"""The full distribution over all items for one user, as the softmax of training defines it."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import RequestError
from upnext.export.items import item_table
from upnext.export.vectors import moments_ms, user_vectors_at
from upnext.index.search import check_user_vectors
from upnext.recommender import Recommender
from upnext.schema import NUM_RESERVED_ROWS, Floats, Id

ROWS_AT_ONCE = 65_536


def class_probabilities(recommender: Recommender, user_vector: Floats) -> NDArray[np.float64]:
    """P(next watch = i | user) of every item i: [N] float64 by item row, 0 in the reserved rows.

        p_i = e^{u · v_i} / Σ_j e^{u · v_j}

    They sum to 1. Sums and exponentials are in float64, item vectors are read a block at a time,
    and the greatest score is taken off first, so that no score is too great. A softmax, full or
    sampled, learns just this, and so does NCE; negative sampling does not, and its probabilities
    are not calibrated.

    Args:
        user_vector: [D], such as a line of user_vectors.npy.

    Raises: ValueError: the vector has another size, or is not finite.

    Source: Covington, Adams, Sargin 2016, section 3.1.
    """
    item_vectors, vector = recommender.retriever.item_vectors, np.asarray(user_vector)
    check_user_vectors(vector[None], item_vectors)
    scores = np.full(len(item_vectors), -np.inf)
    for start in range(NUM_RESERVED_ROWS, len(scores), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        scores[part] = item_vectors[part].astype(np.float64) @ vector.astype(np.float64)
    weights: NDArray[np.float64] = np.exp(scores - scores.max())
    weights /= weights.sum()
    return weights


def most_probable(
    recommender: Recommender, user_id: Id, *, k: int = 0, at_ms: int | None = None
) -> pl.DataFrame:
    """The k items that a user most probably watches next, most probable first, ties by row.

    Columns: item_id, title, channel_id, num_watches, probability. What the user has watched counts
    as any other item. A user whom the release does not know has no history.

    Args:
        k: how many; 0 takes all.
        at_ms: as of this time; otherwise just after the user's last event.

    Raises: RequestError: k is below 0.
    """
    if k < 0:
        raise RequestError("k", expected="1 or more, or 0 for all", got=str(k))
    row = np.array([recommender.users.row(user_id)])
    times = moments_ms(recommender.history, at_ms)[row]
    probabilities = class_probabilities(recommender, user_vectors_at(recommender, row, times)[0])
    best = np.argsort(-probabilities[NUM_RESERVED_ROWS:], kind="stable")[: k or None]
    rows = (best + NUM_RESERVED_ROWS).astype(np.int32)
    table = item_table(recommender.encoder.catalogue, rows)
    return table.with_columns(probability=probabilities[rows])
