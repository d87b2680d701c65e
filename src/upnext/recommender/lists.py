"""Lists that no network makes: what is watched most where a user is, and what is like an item."""

import time

import numpy as np

from upnext.examples.history import Indices
from upnext.recommender.opened import OpenedRelease
from upnext.recommender.rules import allowed_by
from upnext.schema import (
    NUM_RESERVED_ROWS,
    Floats,
    Id,
    LivePast,
    Recommendation,
    RecommendationRequest,
    Recommendations,
    Rows,
)

NUM_PROPOSED = 200
"""Items that the index proposes as similar, and ten more for each that is asked for."""


def most_popular(
    release: OpenedRelease, request: RecommendationRequest, live: LivePast | None, cause: str
) -> Recommendations:
    """The page of `Recommender.popular`: most watched first, by what the release has counted."""
    began_s = time.perf_counter()
    batch = release.batch([request], [live])
    catalogue = release.encoder.catalogue
    watched = batch.history.watches.all_before(batch.user_rows, batch.at_ms)[1]
    excluded = np.unique(watched) if request.exclude_watched else watched[:0]
    allowed = allowed_by(request.rules, catalogue)
    rows = np.arange(NUM_RESERVED_ROWS, catalogue.num_rows, dtype=np.int32)
    lately = release.nominators.sources.popular
    if lately is not None and allowed.rows is None:
        moments = release.nominators.moments(batch)
        found, _ = lately.candidates(moments.segment_rows, request.k, excluded_rows=[excluded])
        first = found[0][found[0] >= NUM_RESERVED_ROWS]
        # The rows of a vocabulary fall in frequency, so the rest is most watched first as well.
        rest = rows[: request.k + len(first) + len(excluded)]
        rows = np.concatenate([first, rest[~np.isin(rest, first)]])
    elif allowed.rows is not None:
        rows = allowed.rows
    rows = rows[~np.isin(rows, excluded)][: request.k]
    return _told(release, rows, np.zeros(len(rows), np.float32), "popular", began_s, cause)


def similar_items(release: OpenedRelease, item_id: Id, k: int) -> Recommendations:
    """The list of `Recommender.similar`, best first; each score is a cosine."""
    began_s = time.perf_counter()
    found = similar_rows(release, release.item_row(item_id), k)
    return _told(release, *found, "similar", began_s)


def similar_rows(release: OpenedRelease, row: int, k: int) -> tuple[Rows, Floats]:
    """The k rows with the greatest cosine among those that the index proposes, and the cosines."""
    vectors = release.retriever.item_vectors
    own = vectors[row : row + 1]
    num_proposed = release.num_found(NUM_PROPOSED + 10 * k)
    found, _ = release.retriever.nearest(own, num_proposed, [np.array([row], np.int32)])
    rows = found[0][found[0] >= NUM_RESERVED_ROWS]
    scores = cosines(own[0], vectors[rows], lengths_of(vectors[rows]))
    best: Indices = np.argsort(-scores, kind="stable")[:k]
    return rows[best], scores[best]


def cosines(one: Floats, others: Floats, lengths: Floats) -> Floats:
    """[N] of others [N, D] with these lengths [N]; 0 where a vector has no length.

    cos(a, b) = a · b / (|a| |b|)
    """
    both = np.linalg.norm(one) * lengths
    found: Floats = np.divide(
        others @ one, both, out=np.zeros(len(others), np.float32), where=both > 0
    )
    return found


def lengths_of(vectors: Floats) -> Floats:
    """[N] |v| of vectors [N, D], without a copy of them."""
    lengths: Floats = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return lengths


def _told(
    release: OpenedRelease,
    rows: Rows,
    scores: Floats,
    source: str,
    began_s: float,
    *causes: str,
) -> Recommendations:
    catalogue = release.encoder.catalogue
    return Recommendations(
        items=[
            Recommendation(
                item_id=catalogue.items.id(int(row)),
                title=catalogue.title(int(row)),
                expected_watch_time_s=None,
                retrieval_score=float(score),
                retrieval_rank=None,
                sources=[source],
            )
            for row, score in zip(rows, scores, strict=True)
        ],
        release=release.release,
        num_candidates=len(rows),
        timings_ms={"total": (time.perf_counter() - began_s) * 1e3},
        degraded=causes,
    )
