"""What was watched before and may be found again, put where its score and the bonus belong."""

import numpy as np

from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows


def with_repeats(
    found: tuple[Rows, Floats],
    count: int,
    *,
    again: Rows,
    of_again: Floats,
    bonus: float,
) -> tuple[Rows, Floats]:
    """One user's best `count` [K], -1 pads, of what an index found and of what may come again.

    `found`: best first, as many as `count` if there are so many, and none of `again` [R], distinct
    rows whose own scores are `of_again` [R].

    >>> found = np.array([5, 9], np.int32), np.array([2.0, 1.0], np.float32)
    >>> with_repeats(
    ...     found, 2, again=np.array([7]), of_again=np.array([3.0], np.float32), bonus=-1.5
    ... )
    (array([5, 7], dtype=int32), array([2. , 1.5], dtype=float32))
    """
    rows, scores = found
    is_item = rows >= NUM_RESERVED_ROWS
    both = np.concatenate([rows[is_item], again.astype(np.int32)])
    of_both = np.concatenate([scores[is_item], of_again + np.float32(bonus)])
    best = np.argsort(-of_both, kind="stable")[:count]
    missing = (0, count - len(best))
    return (
        np.pad(both[best], missing, constant_values=-1),
        np.pad(of_both[best], missing, constant_values=-np.inf),
    )
