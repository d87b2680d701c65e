"""Items of the catalogue as a table for people and other tools."""

import numpy as np
import polars as pl

from upnext.examples.catalogue import Catalogue
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import NUM_RESERVED_ROWS, Rows


def item_table(catalogue: Catalogue, item_rows: Rows) -> pl.DataFrame:
    """One line an item row, in this order: item_id, title, channel_id, num_watches in training.

    Ids are in the owner's type; what is not known is null.
    """
    return pl.DataFrame(
        {
            "item_id": _ids(catalogue.items, item_rows),
            "title": pl.Series([catalogue.title(row) for row in item_rows], dtype=pl.String),
            "channel_id": _ids(catalogue.channels, catalogue.channel_rows[item_rows]),
            "num_watches": catalogue.num_watches[item_rows],
        }
    )


def _ids(vocabulary: Vocabulary, rows: Rows) -> pl.Series:
    places = pl.Series(np.asarray(rows, np.int64) - NUM_RESERVED_ROWS)
    return vocabulary.series().gather(places.set(places < 0, None))
