"""Which index? One config, one place that chooses, one that finds out what was saved."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from upnext.errors import ConfigError
from upnext.index import files
from upnext.index.approximate import ApproximateIndex
from upnext.index.exact import ExactIndex
from upnext.index.hashing import HashingIndex
from upnext.index.index import Index
from upnext.index.search import check_item_vectors
from upnext.index.shards import ShardedIndex, dealt, part_of, read_first_rows, shard_directory
from upnext.schema import Floats


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """How candidates are found for a user vector."""

    kind: Literal["auto", "exact", "approximate", "hashing"] = "auto"
    """auto: exact while that is fast enough, approximate above."""
    max_exact_items: int = 100_000
    """With auto, the largest catalogue that is searched exactly (some 1 ms a request)."""
    min_recall: float = 0.95
    """Share of the true best 100 that the approximate index must find; it opens cells until so."""
    num_bits: int = 256
    """Hashing: random projections a vector."""
    num_compared: int = 2000
    """Hashing: items with the nearest hashes whose inner products are computed."""
    num_shards: int = 1
    """Parts of the catalogue that are built and searched side by side, each an index of this kind;
    a search then takes as many cores as there are parts."""

    def __post_init__(self) -> None:
        if not 0 < self.min_recall <= 1:
            got = str(self.min_recall)
            raise ConfigError("index min_recall", expected="a share above 0, at most 1", got=got)
        for name in ("num_bits", "num_compared", "num_shards"):
            if getattr(self, name) < 1:
                got = str(getattr(self, name))
                raise ConfigError(f"index {name}", expected="at least 1", got=got)


def build_index(
    item_vectors: Floats, config: IndexConfig, *, user_vectors: Floats | None = None
) -> Index:
    """Builds the index that the config asks for.

    Args:
        item_vectors: [N, D] float32, rows 0 and 1 reserved.
        config: which kind, and its settings.
        user_vectors: [B, D] typical queries; recall is measured with them, and an approximate
            index is made for them.

    Raises: DataError: the vectors cannot be searched.
    """
    if config.num_shards > 1:
        return _sharded(item_vectors, config, user_vectors)
    began = time.perf_counter()
    index = _new_index(item_vectors, config, user_vectors)
    build_s = round(time.perf_counter() - began, 3)
    return replace(index, facts=replace(index.facts, build_s=build_s))


def load_index(directory: Path, item_vectors: Floats) -> Index:
    """Loads whichever kind of index was saved in the directory.

    Raises: ReleaseError: nothing there, damaged, or built on other vectors.
    """
    match files.read_facts(directory).kind:
        case "exact":
            return ExactIndex.load(directory, item_vectors)
        case "approximate":
            return ApproximateIndex.load(directory, item_vectors)
        case "hashing":
            return HashingIndex.load(directory, item_vectors)
        case "shards":
            first_rows = read_first_rows(directory, item_vectors)
            shards = [
                load_index(
                    shard_directory(directory, shard), part_of(item_vectors, first_rows, shard)
                )
                for shard in range(len(first_rows))
            ]
            return ShardedIndex(item_vectors, tuple(shards), first_rows)


def config_of_shard(config: IndexConfig, num_rows: int) -> IndexConfig:
    """How each shard of a catalogue of so many rows is built: alone, of the kind for all of them.

    >>> config_of_shard(IndexConfig(num_shards=4), 200_000).kind
    'approximate'
    """
    return replace(config, num_shards=1, kind=_kind(config, num_rows))


def _sharded(item_vectors: Floats, config: IndexConfig, user_vectors: Floats | None) -> Index:
    check_item_vectors(item_vectors)
    first_rows = dealt(len(item_vectors), config.num_shards)
    of_shard = config_of_shard(config, len(item_vectors))
    shards = [
        build_index(part_of(item_vectors, first_rows, shard), of_shard, user_vectors=user_vectors)
        for shard in range(len(first_rows))
    ]
    return ShardedIndex(item_vectors, tuple(shards), first_rows)


def _kind(config: IndexConfig, num_rows: int) -> Literal["exact", "approximate", "hashing"]:
    if config.kind == "auto":
        return "exact" if num_rows <= config.max_exact_items else "approximate"
    return config.kind


def _new_index(
    item_vectors: Floats, config: IndexConfig, user_vectors: Floats | None
) -> ExactIndex | ApproximateIndex | HashingIndex:
    match _kind(config, len(item_vectors)):
        case "exact":
            return ExactIndex.build(item_vectors)
        case "approximate":
            return ApproximateIndex.build(
                item_vectors, min_recall=config.min_recall, user_vectors=user_vectors
            )
        case "hashing":
            return HashingIndex.build(
                item_vectors,
                num_bits=config.num_bits,
                num_compared=config.num_compared,
                user_vectors=user_vectors,
            )
