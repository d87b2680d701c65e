"""Item vectors for TensorBoard's embedding projector, written without TensorBoard."""

from pathlib import Path

import numpy as np
import polars as pl

from upnext.export.directory import made_whole
from upnext.export.items import item_table
from upnext.recommender import Recommender
from upnext.schema import NUM_RESERVED_ROWS

MAX_ITEMS = 10_000
"""More points than this are hard to tell apart, and slow to turn."""

CONFIG = """\
embeddings {{
  tensor_name: "item vectors of release {release}"
  tensor_path: "tensors.tsv"
  metadata_path: "metadata.tsv"
}}
"""


def export_projector(
    recommender: Recommender, directory: Path, *, max_items: int = MAX_ITEMS
) -> None:
    """Writes the vectors of the most watched items, and what to show beside each point.

        tensors.tsv            a line an item, D numbers
        metadata.tsv           id, title, channel, watches; the same lines under a header
        projector_config.pbtxt names both for `tensorboard --logdir DIRECTORY`

    https://projector.tensorflow.org loads the two tables as well. Tabs and ends of lines in ids and
    titles become spaces, as the tables know no escapes.

    Args:
        directory: a new or empty one; it appears when all is written.
        max_items: how many items, the most watched first; 0 takes all.

    Raises: DataError: `directory` holds files.
    """
    catalogue = recommender.encoder.catalogue
    by_watches = np.argsort(-catalogue.num_watches[NUM_RESERVED_ROWS:], kind="stable")
    rows = (by_watches[: max_items or None] + NUM_RESERVED_ROWS).astype(np.int32)
    lines = item_table(catalogue, rows).select(
        id=pl.col("item_id").cast(pl.String),
        title="title",
        channel=pl.col("channel_id").cast(pl.String),
        watches="num_watches",
    )
    shown = lines.with_columns(pl.col(pl.String).str.replace_all(r"[\t\r\n]+", " "))
    with made_whole(directory) as place:
        vectors = pl.from_numpy(recommender.retriever.item_vectors[rows])
        vectors.write_csv(place / "tensors.tsv", separator="\t", include_header=False)
        shown.write_csv(place / "metadata.tsv", separator="\t", quote_style="never")
        config = CONFIG.format(release=recommender.version)
        (place / "projector_config.pbtxt").write_text(config, encoding="utf-8")
