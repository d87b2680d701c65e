"""Items as points of a plane to look at: which of them, and where without learning anything."""

import numpy as np
from numpy.typing import NDArray

from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

NUM_STRATA = 10


def stratified_rows(num_watches: NDArray[np.int64], num_points: int, *, seed: int = 0) -> Rows:
    """Rows [M] of items of every popularity, in rising order.

    By watches, the items are cut into ten equal strata, and as many are drawn of each; drawn from
    all alike, or by watches, the rare or the popular would hardly be seen. M is `num_points` down
    to a multiple of ten; a catalogue of no more items is taken whole.

    Args:
        num_watches: [N] of each row; the reserved ones are left out.
        seed: of the draws.

    >>> watches = np.arange(102)
    >>> stratified_rows(watches, 25).tolist() == stratified_rows(watches, 20).tolist()
    True
    >>> np.bincount((stratified_rows(watches, 20) - 2) // 10).tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    by_watches = np.argsort(num_watches[NUM_RESERVED_ROWS:], kind="stable") + NUM_RESERVED_ROWS
    if len(by_watches) > num_points:
        rng, of_each = np.random.default_rng(seed), num_points // NUM_STRATA
        strata = np.array_split(by_watches, NUM_STRATA)
        by_watches = np.concatenate([rng.choice(s, of_each, replace=False) for s in strata])
    return np.sort(by_watches).astype(np.int32)


def directions(item_vectors: Floats) -> Floats:
    """The vectors [M, D] at length 1, so that distances follow cosines; 0 stays 0."""
    lengths = np.linalg.norm(item_vectors, axis=1, keepdims=True)
    of_length_one: Floats = item_vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return of_length_one


def principal_components(vectors: Floats) -> Floats:
    """[M, 2]: the vectors [M, D] along the two axes on which they differ most.

    The larger part of each axis points upwards, so that the picture is not mirrored by chance.
    """
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    points = centred @ axes.T
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    skew = np.sign((points**3).sum(axis=0))
    upright: Floats = (points * np.where(skew < 0, -1, 1)).astype(np.float32)
    return upright
