"""Items on a plane: as the release brings them, or by the principal components of their vectors."""

from upnext.insight import ItemMap
from upnext.recommender.insight.cards import cards
from upnext.recommender.opened import OpenedRelease
from upnext.recommender.plane import directions, principal_components, stratified_rows
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

NUM_POINTS = 5_000
POINTS, ITEM_ROWS = "map/points.npy", "map/item_rows.npy"


def map_of(release: OpenedRelease) -> ItemMap:
    """Some thousands of items, rare ones among them."""
    if POINTS not in release.kept.files:
        rows = stratified_rows(release.encoder.catalogue.num_watches, NUM_POINTS)
        points = principal_components(directions(release.retriever.item_vectors[rows]))
        return _told(release, rows, points, "principal components", None)
    made = release.kept.metadata["map"]
    rows, points = release.kept.array(ITEM_ROWS), release.kept.array(POINTS)
    return _told(release, rows, points, made["method"], made["trustworthiness"])


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
