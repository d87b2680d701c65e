"""Items on a plane: as the release brings them, or by the principal components of their vectors."""

import numpy as np
from numpy.typing import NDArray

from upnext.insight import ItemMap
from upnext.recommender.insight.cards import cards
from upnext.recommender.lists import lengths_of
from upnext.recommender.opened import OpenedRelease
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

NUM_STRATA, POINTS_A_STRATUM = 10, 500
POINTS, ITEM_ROWS = "map/points.npy", "map/item_rows.npy"


def map_of(release: OpenedRelease) -> ItemMap:
    """Some thousands of items, rare ones among them."""
    if POINTS not in release.kept.files:
        rows = stratified(release.encoder.catalogue.num_watches)
        points = principal_components(release.retriever.item_vectors[rows])
        return _told(release, rows, points, "principal components", None)
    made = release.kept.metadata["map"]
    rows, points = release.kept.array(ITEM_ROWS), release.kept.array(POINTS)
    return _told(release, rows, points, made["method"], made["trustworthiness"])


def stratified(num_watches: NDArray[np.int64]) -> Rows:
    """Rows of items in order of how often they were watched, as many of each tenth part.

    Args:
        num_watches: [N] by row.
    """
    order = NUM_RESERVED_ROWS + np.argsort(-num_watches[NUM_RESERVED_ROWS:], kind="stable")
    strata = np.array_split(order, min(NUM_STRATA, len(order)))
    num_points = min(POINTS_A_STRATUM, *(len(stratum) for stratum in strata))
    even = [stratum[np.arange(num_points) * len(stratum) // num_points] for stratum in strata]
    return np.concatenate(even).astype(np.int32)


def principal_components(vectors: Floats) -> Floats:
    """[M, 2]: where the directions of vectors [M, D] differ most; each axis begins on the left.

    Only directions count, as they do between neighbours: the length of an item's vector tells how
    often it is watched.
    """
    directions = vectors / np.maximum(lengths_of(vectors), np.finfo(np.float32).tiny)[:, None]
    centred = directions - directions.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    strongest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    points: Floats = centred @ (axes * np.where(strongest < 0, -1, 1).astype(np.float32))
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def _told(
    release: OpenedRelease, rows: Rows, points: Floats, method: str, trustworthiness: float | None
) -> ItemMap:
    catalogue = release.encoder.catalogue
    told = cards(catalogue, rows)
    return ItemMap(
        method=method,
        num_items=catalogue.num_rows - NUM_RESERVED_ROWS,
        num_points=len(rows),
        trustworthiness=trustworthiness,
        item_id=[catalogue.items.id(row) for row in rows.tolist()],
        title=[card.title for card in told],
        x=points[:, 0].tolist(),
        y=points[:, 1].tolist(),
        channel_id=[card.channel_id for card in told],
        tag=[card.tags[0] if card.tags else None for card in told],
        published_at_ms=[card.published_at_ms for card in told],
        num_watches=[card.num_watches for card in told],
    )
