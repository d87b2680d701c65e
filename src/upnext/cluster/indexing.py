"""An index in shards on a Ray cluster: built by workers, and searched by workers that keep them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import ray

from upnext.best import Found
from upnext.errors import UpnextError
from upnext.index import Index, IndexConfig, ShardedIndex, build_index, load_index
from upnext.index.choose import config_of_shard
from upnext.index.search import check_user_vectors
from upnext.index.shards import (
    FirstRows,
    dealt,
    dealt_questions,
    merged,
    part_of,
    read_first_rows,
    shard_directory,
    write_shards,
)
from upnext.schema import Floats, Rows

Say = Callable[[str], None]
ALWAYS = -1
"""A worker that was lost is started again, and asked again, however often."""


def build_index_apart(
    item_vectors: Path,
    directory: Path,
    config: IndexConfig,
    *,
    user_vectors: Path | None = None,
    say: Say = lambda _: None,
) -> Index:
    """As `index.build_index`, each shard by a worker of the cluster this process is part of.

    All paths are such as all nodes see; a worker reads of the item vectors its shard alone.

    Args:
        item_vectors: a file of [N, D] float32, as `numpy.save` writes it.
        directory: where the index is saved, as its `save` does it.
        user_vectors: a file of typical queries [B, D].

    Returns: the index, mapped into memory.

    Raises: DataError: the vectors cannot be searched.
    """
    item_vectors, directory = item_vectors.resolve(), directory.resolve()
    vectors = mapped(item_vectors)
    first_rows = dealt(len(vectors), config.num_shards)
    build = ray.remote(num_cpus=1)(built_shard)
    users = None if user_vectors is None else user_vectors.resolve()
    waiting = [
        build.remote(item_vectors, directory, config, first_rows, shard, users)
        for shard in range(len(first_rows))
    ]
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        if (error := ray.get(done)) is not None:
            raise error
        say(f"index: {len(first_rows) - len(waiting)} of {len(first_rows)} shards built")
    shards = [
        load_index(shard_directory(directory, shard), part_of(vectors, first_rows, shard))
        for shard in range(len(first_rows))
    ]
    write_shards(directory, ShardedIndex(vectors, tuple(shards), first_rows))
    return load_index(directory, vectors)


def built_shard(
    item_vectors: Path,
    directory: Path,
    config: IndexConfig,
    first_rows: FirstRows,
    shard: int,
    user_vectors: Path | None,
) -> UpnextError | None:
    """What a worker does: builds and saves one shard; tells what is wrong with it, if anything."""
    vectors = mapped(item_vectors)
    users = None if user_vectors is None else mapped(user_vectors)
    of_shard = config_of_shard(config, len(vectors))
    try:
        index = build_index(part_of(vectors, first_rows, shard), of_shard, user_vectors=users)
    except UpnextError as error:
        return error
    index.save(shard_directory(directory, shard))
    return None


class ShardKeeper:
    """What a worker keeps: one shard, mapped into memory."""

    def __init__(self, item_vectors: Path, directory: Path, shard: int) -> None:
        vectors = mapped(item_vectors)
        part = part_of(vectors, read_first_rows(directory, vectors), shard)
        self.index = load_index(shard_directory(directory, shard), part)

    def search(self, user_vectors: Floats, k: int, **filters: Any) -> Found:
        """As `Index.search`, in the shard's own rows."""
        return self.index.search(user_vectors, k, **filters)


@dataclass(frozen=True)
class ShardsApart:
    """A saved index in shards, each kept and searched by a worker; for catalogues of any size.

    Its workers end with it.
    """

    item_vectors: Floats
    first_rows: FirstRows
    keepers: tuple[Any, ...]

    @classmethod
    def open(cls, item_vectors: Path, directory: Path) -> Self:
        """Starts a worker for each shard of the cluster that this process is part of.

        Raises: ReleaseError: no index in shards, damaged, or of other vectors.
        """
        item_vectors, directory = item_vectors.resolve(), directory.resolve()
        vectors = mapped(item_vectors)
        first_rows = read_first_rows(directory, vectors)
        keeper = ray.remote(num_cpus=1, max_restarts=ALWAYS, max_task_retries=ALWAYS)(ShardKeeper)
        keepers = (
            keeper.remote(item_vectors, directory, shard) for shard in range(len(first_rows))
        )
        return cls(vectors, first_rows, tuple(keepers))

    def search(
        self,
        user_vectors: Floats,
        k: int,
        *,
        excluded_rows: Sequence[Rows] | None = None,
        allowed_rows: Rows | None = None,
    ) -> Found:
        """As `ShardedIndex.search`; a worker that is lost meanwhile is asked again."""
        num_rows = len(self.item_vectors)
        check_user_vectors(user_vectors, self.item_vectors)
        questions = dealt_questions(num_rows, self.first_rows, excluded_rows, allowed_rows)
        users = ray.put(user_vectors)
        asked = [
            keeper.search.remote(
                users, k, excluded_rows=one.excluded_rows, allowed_rows=one.allowed_rows
            )
            for keeper, one in zip(self.keepers, questions, strict=True)
        ]
        answers = zip(questions, ray.get(asked), strict=True)
        return merged((question.answer(found) for question, found in answers), k)


def mapped(path: Path) -> Floats:
    """The array of a file, read when it is touched."""
    array: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
