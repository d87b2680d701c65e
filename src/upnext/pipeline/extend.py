"""A release learns of new items without training: declared features give them item vectors."""

import glob
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.config import config_of_release
from upnext.errors import DataError, ReleaseError
from upnext.examples.encoder import Encoder, now_ms
from upnext.examples.item_features import side_vectors
from upnext.index import Index
from upnext.logs.check import refuse_duplicates
from upnext.logs.sources import LogsConfig
from upnext.logs.tables import read_table
from upnext.recommender import Recommender
from upnext.recommender.vectors import mean_vectors
from upnext.registry.release import Release, open_release, publish
from upnext.schema import Floats, Items

Say = Callable[[str], None]


def extend(
    registry: Path, version: int, items: Items | Path, *, say: Say = lambda _: None
) -> Release:
    """Publishes a release that knows the items of a table as well, with nothing learned anew.

    A new item stands in a row after the others. Its vector is what its declared features say, so
    that it can be retrieved at once; ranking knows its channel, tags and age, and nothing of the
    item itself. What was known stays as it was, bit for bit; so does the map of items, on which new
    ones have no place. Where no item is new, nothing is published and the release itself is
    returned.

    Args:
        version: the release that is extended.
        items: a table, or a file of one, read as the run's own [logs.items] says.
        say: told about each step, a line at a time.

    Raises:
        ReleaseError: there is no such release, it is damaged, or it learned no item features.
        DataError: the table cannot be read, or lacks a declared feature.
    """
    release = open_release(registry, version)
    known = Recommender.open(registry, version, verify=False)
    features = known.encoder.item_features
    if not features.names:
        raise ReleaseError(
            f"release {version}",
            expected="item vectors that know the features of items",
            got="none declared",
            hint='train with [examples] item_features, such as ["channel_id", "tags"].',
        )
    table = items if isinstance(items, Items) else _read_items(items, release, say)
    lines = known.encoder.catalogue.new_items(table)
    say(f"{table.frame.height - lines.height:,} items are known already, {lines.height:,} are new")
    if lines.is_empty():
        return release
    arrays, index = _grown(known, release, lines)
    facts = {
        **release.metadata,
        "extended_from": version,
        "num_items": release.metadata["num_items"] + lines.height,
        "num_items_added": lines.height,
        "index_recall_at_100": index.recall_at_100,
    }
    extended = publish(registry, lambda directory: _write(directory, release, arrays, index, facts))
    say(f"release {extended.version}, extended from {version}: {extended.path}")
    return extended


def _read_items(path: Path, release: Release, say: Say) -> Items:
    """The good rows of a file, with the run's own column names and units."""
    where = f"release {release.version}, config.json logs"
    kept = config_of_release(release.json("config.json")["logs"], LogsConfig, where=where)
    source = replace(kept.items, files=glob.escape(path.name))
    table = read_table("items", path.parent, replace(kept, items=source), now_ms(), [])
    assert table is not None, "a source that names its files has a table, or an error"
    refuse_duplicates(table)
    for reason, num_rows in table.quarantined().items():
        say(f"{path}: {num_rows:,} rows left out: {reason}")
    if not (table.verdicts.codes == 0).any():
        raise DataError(str(path), expected="at least one good row", got="none")
    return Items(table.accepted())


def _grown(
    known: Recommender, release: Release, lines: pl.DataFrame
) -> tuple[dict[str, NDArray[Any]], Index]:
    """The files that change, by name, and the index; new items have the rows after the others."""
    encoder = known.encoder.with_items(lines, first_seen_ms=now_ms())
    new_rows = np.arange(known.encoder.catalogue.num_rows, encoder.catalogue.num_rows)
    names = ("values", "levels")
    tables: Mapping[str, Floats] = {
        name: release.array(f"retrieval/side/{name}.npy") for name in names
    }
    vectors = side_vectors(encoder.item_features, tables, new_rows)
    network = release.json("config.json")["retrieval"]["network"]
    # Without a table of their own in histories, new items count there as unknown ones do.
    in_histories = vectors[: len(vectors) if network["tied"] else 0]
    if network["normalised"]:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    item_vectors = np.concatenate([known.retriever.item_vectors, vectors])
    arrays = {f"encoder/{name}.npy": array for name, array in encoder.to_arrays().items()} | {
        "retrieval/item_vectors.npy": item_vectors,
        "retrieval/watch_embeddings.npy": np.concatenate(
            [known.retriever.watch_embeddings, in_histories]
        ),
    }
    sources = known.nominators.scorer.sources.with_items(encoder.catalogue.published_at_ms)
    arrays |= {f"sources/{name}.npy": array for name, array in sources.to_arrays().items()}
    if known.ranker is not None:
        of_items = known.ranker.item_vectors
        added = _ranked_vectors(release, encoder, new_rows)
        arrays["ranking/item_vectors.npy"] = np.concatenate([of_items, added])
    return arrays, known.retriever.index.with_items(item_vectors)


def _ranked_vectors(release: Release, encoder: Encoder, rows: NDArray[Any]) -> Floats:
    """What ranking knows of items that training never saw: channel, tags, declared features."""
    catalogue = encoder.catalogue
    tables = {name: release.array(f"ranking/tables/{name}.npy") for name in ("channel", "tag")}
    of_item = release.array("ranking/tables/item.npy").shape[1]
    parts = [
        np.zeros((len(rows), of_item), np.float32),
        mean_vectors(tables["channel"], catalogue.channel_rows[rows][:, None]),
        mean_vectors(tables["tag"], catalogue.tag_rows[rows]),
    ]
    if "ranking/side/values.npy" in release.files:
        side = {name: release.array(f"ranking/side/{name}.npy") for name in ("values", "levels")}
        parts.append(side_vectors(encoder.item_features, side, rows))
    return np.concatenate(parts, axis=1)


def _write(
    directory: Path,
    release: Release,
    arrays: Mapping[str, NDArray[Any]],
    index: Index,
    facts: Mapping[str, Any],
) -> Mapping[str, Any]:
    for name in {*release.files, *arrays}:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        if name in arrays:
            np.save(directory / name, arrays[name], allow_pickle=False)
        elif not name.startswith("index/"):
            shutil.copyfile(release.file(name), directory / name)
    index.save(directory / "index")
    return facts
