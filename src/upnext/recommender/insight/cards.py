"""Items of the catalogue as people read them."""

from collections.abc import Iterable
from typing import Any

from upnext.examples.catalogue import Catalogue
from upnext.examples.vocabulary import Vocabulary
from upnext.insight import ItemCard
from upnext.schema import NUM_RESERVED_ROWS, Id


def card_fields(catalogue: Catalogue, row: int) -> dict[str, Any]:
    """The fields of an `ItemCard`; of a reserved row nothing is known."""
    tags = (id_or_none(catalogue.tags, tag) for tag in catalogue.tag_rows[row])
    return {
        "item_id": id_or_none(catalogue.items, row),
        "title": catalogue.title(row),
        "channel_id": id_or_none(catalogue.channels, catalogue.channel_rows[row]),
        "tags": [str(tag) for tag in tags if tag is not None],
        "duration_s": float(catalogue.duration_s[row]) or None,
        "published_at_ms": int(catalogue.published_at_ms[row])
        if row >= NUM_RESERVED_ROWS
        else None,
        "num_watches": int(catalogue.num_watches[row]) if row >= NUM_RESERVED_ROWS else 0,
    }


def cards(catalogue: Catalogue, rows: Iterable[int]) -> list[ItemCard]:
    """One a row, in this order."""
    return [ItemCard(**card_fields(catalogue, int(row))) for row in rows]


def id_or_none(vocabulary: Vocabulary, row: int) -> Id | None:
    """The owner's id in a row, or None in a reserved one."""
    return vocabulary.id(int(row)) if row >= NUM_RESERVED_ROWS else None
