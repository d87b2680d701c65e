"""The items most like one: the truth by a look at every item, and what the index makes of it."""

import numpy as np

from upnext.index.recall import recall_of
from upnext.index.search import best_columns
from upnext.insight import NeighbourCard, Neighbours
from upnext.recommender.insight.cards import card_fields
from upnext.recommender.lists import cosines, similar_rows
from upnext.recommender.opened import OpenedRelease
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows


def neighbours_of(release: OpenedRelease, row: int, k: int, lengths: Floats) -> Neighbours:
    """The k items whose vectors have the greatest cosine with this one's, ties by row.

    `index`: as `Recommender.similar` tells them. `lengths` [N]: those of all item vectors.
    """
    exact, exact_cosines = _nearest(release.retriever.item_vectors, row, k, lengths)
    found, found_cosines = similar_rows(release, row, k)
    return Neighbours(
        item_id=release.encoder.catalogue.items.id(row),
        exact=_cards(release, exact, exact_cosines),
        index=_cards(release, found, found_cosines),
        recall=recall_of(found[None], exact[None]) if len(exact) else 1.0,
    )


def _nearest(vectors: Floats, row: int, k: int, lengths: Floats) -> tuple[Rows, Floats]:
    scores = cosines(vectors[row], vectors, lengths)
    scores[:NUM_RESERVED_ROWS] = scores[row] = -np.inf
    rows, best = best_columns(scores[None], k)
    is_there = rows[0] >= 0
    return rows[0][is_there].astype(np.int32), best[0][is_there]


def _cards(release: OpenedRelease, rows: Rows, scores: Floats) -> list[NeighbourCard]:
    catalogue = release.encoder.catalogue
    return [
        NeighbourCard(**card_fields(catalogue, row), cosine=cosine)
        for row, cosine in zip(rows.tolist(), scores.tolist(), strict=True)
    ]
