"""One index in parts: the items dealt out by row, each part an index of its own, answers merged.

Shard s holds the rows from first_rows[s] up to first_rows[s + 1]. Its vectors are that slice of all
item vectors and the two rows before it, which stand where an index has its reserved rows: nothing
is copied, and of a mapped file a shard reads its own pages alone. Within a shard rows keep their
order, so that ties go to the smaller row there as everywhere. New items go to the last shard.

The best k of all are among the best k of each shard. So exact shards find what one exact index
finds, and of approximate ones whatever a shard finds of the true best k comes through the merge.
Scores may differ in their last bit, as matrix products sum in another order near a matrix's end;
only items that are nearer than that can change places.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from upnext.best import Found, best_first
from upnext.errors import ReleaseError
from upnext.index import files
from upnext.index.filters import joined_rows, named_items, no_rows
from upnext.index.index import Index
from upnext.index.search import check_grown, check_user_vectors
from upnext.schema import NO_ROW, NUM_RESERVED_ROWS, Floats, Rows

FIRST_ROWS_NAME = "first_rows.npy"

FirstRows = tuple[int, ...]
"""The row of each shard's first item."""


@dataclass(frozen=True)
class ShardedIndex:
    """`shards`: of the parts of `item_vectors` [N, D] that begin at `first_rows`."""

    item_vectors: Floats
    shards: tuple[Index, ...]
    first_rows: FirstRows

    @property
    def facts(self) -> files.IndexFacts:
        """Sums over the shards; recall is the share of each one's own best 100 that it finds."""
        of_shards = [shard.facts for shard in self.shards]
        num_items = sum(one.num_items for one in of_shards)
        num_found = sum(one.recall_at_100 * one.num_items for one in of_shards)
        return files.IndexFacts(
            kind="shards",
            num_searched=sum(one.num_searched for one in of_shards),
            num_scored=sum(one.num_scored for one in of_shards),
            recall_at_100=num_found / num_items if num_items else 1.0,
            num_items=num_items,
            num_cells=sum(one.num_cells for one in of_shards),
            size_bytes=sum(one.size_bytes for one in of_shards),
            build_s=round(sum(one.build_s for one in of_shards), 3),
        )

    @property
    def recall_at_100(self) -> float:
        """Share of each shard's own best 100 that it finds, as measured at build."""
        return self.facts.recall_at_100

    @property
    def removed_rows(self) -> Rows:
        """Rows that are never returned."""
        removed = [
            shard.removed_rows + np.int32(first - NUM_RESERVED_ROWS)
            for shard, first in zip(self.shards, self.first_rows, strict=True)
        ]
        return np.concatenate([no_rows(), *removed])

    def search(
        self,
        user_vectors: Floats,
        k: int,
        *,
        excluded_rows: Sequence[Rows] | None = None,
        allowed_rows: Rows | None = None,
    ) -> Found:
        """As `ExactIndex.search`; the shards are asked side by side, each by a thread."""
        check_user_vectors(user_vectors, self.item_vectors)
        questions = dealt_questions(
            len(self.item_vectors), self.first_rows, excluded_rows, allowed_rows
        )

        def ask(shard: Index, question: Question) -> Found:
            found = shard.search(
                user_vectors,
                k,
                excluded_rows=question.excluded_rows,
                allowed_rows=question.allowed_rows,
            )
            return question.answer(found)

        return merged(self._threads.map(ask, self.shards, questions), k)

    def with_items(self, item_vectors: Floats) -> Self:
        """As `ExactIndex.with_items`; what is new belongs to the last shard."""
        check_grown(self.item_vectors, item_vectors)
        grown = [
            shard.with_items(part_of(item_vectors, self.first_rows, place))
            for place, shard in enumerate(self.shards)
        ]
        return replace(self, item_vectors=np.asarray(item_vectors), shards=tuple(grown))

    def without_rows(self, rows: Rows) -> Self:
        """As `ExactIndex.without_rows`; each shard is told of its own rows."""
        num_rows = len(self.item_vectors)
        rows = joined_rows(no_rows(), rows, num_rows)
        left = [
            shard.without_rows(_rows_within(rows, *bounds))
            for shard, bounds in zip(self.shards, _bounds(num_rows, self.first_rows), strict=True)
        ]
        return replace(self, shards=tuple(left))

    def save(self, directory: Path) -> None:
        """Writes each shard into a directory of its own; the vectors are the owner's to keep."""
        for place, shard in enumerate(self.shards):
            shard.save(shard_directory(directory, place))
        write_shards(directory, self)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(len(self.shards), thread_name_prefix="shard")


@dataclass(frozen=True)
class Question:
    """What a search asks of one shard beside user vectors and k, in that shard's own rows."""

    first_row: int
    excluded_rows: Sequence[Rows] | None
    allowed_rows: Rows | None

    def answer(self, found: Found) -> Found:
        """What the shard found, in the rows of the whole."""
        rows, scores = found
        before = np.int32(self.first_row - NUM_RESERVED_ROWS)
        return np.where(rows == NO_ROW, rows, rows + before), scores


def dealt(num_rows: int, num_shards: int) -> FirstRows:
    """Cuts a catalogue of so many rows, two of them reserved, into shards of nearly one size.

    Where there are fewer items than shards, there are as many shards as items.

    >>> dealt(12, 3)
    (2, 5, 8)
    """
    num_items = num_rows - NUM_RESERVED_ROWS
    num_shards = max(1, min(num_shards, num_items))
    return tuple(NUM_RESERVED_ROWS + num_items * place // num_shards for place in range(num_shards))


def part_of(item_vectors: Floats, first_rows: FirstRows, shard: int) -> Floats:
    """The vectors [2 + M, D] of one shard: a view of its rows, and of two more before them."""
    first, end = _bounds(len(item_vectors), first_rows)[shard]
    return item_vectors[first - NUM_RESERVED_ROWS : end]


def dealt_questions(
    num_rows: int,
    first_rows: FirstRows,
    excluded_rows: Sequence[Rows] | None,
    allowed_rows: Rows | None,
) -> list[Question]:
    """Tells each shard of those rows alone that it holds.

    Raises: ValueError: an allowed row is beyond the catalogue.
    """
    if allowed_rows is not None:
        allowed_rows = named_items(allowed_rows, num_rows, "allowed_rows")
    return [
        Question(
            first,
            excluded_rows and [_rows_within(rows, first, end) for rows in excluded_rows],
            None if allowed_rows is None else _rows_within(allowed_rows, first, end),
        )
        for first, end in _bounds(num_rows, first_rows)
    ]


def merged(found: Iterable[Found], k: int) -> Found:
    """The best k [B, k] of what shards found [B, k] each, ties to the smaller row.

    >>> one = np.array([[5, 9]], np.int32), np.array([[2.0, 1.0]], np.float32)
    >>> two = np.array([[3, -1]], np.int32), np.array([[1.0, -np.inf]], np.float32)
    >>> merged([one, two], 2)[0]
    array([[5, 3]], dtype=int32)
    """
    of_shards = list(found)
    rows = np.concatenate([rows for rows, _ in of_shards], axis=1, dtype=np.int32)
    scores = np.concatenate([scores for _, scores in of_shards], axis=1)
    starts = np.arange(len(rows) + 1) * rows.shape[1]
    return best_first(starts, rows.ravel(), scores.ravel(), k, above=-np.inf)


def shard_directory(directory: Path, shard: int) -> Path:
    """Where a shard lies within the directory of the whole index."""
    return directory / f"shard-{shard}"


def write_shards(directory: Path, index: ShardedIndex) -> None:
    """Writes what makes saved shards one index: where each begins, and the facts of them all."""
    files.write_facts(directory, index.facts)
    first_rows = np.array(index.first_rows, np.int64)
    np.save(directory / FIRST_ROWS_NAME, first_rows, allow_pickle=False)


def read_first_rows(directory: Path, item_vectors: Floats) -> FirstRows:
    """Where each shard begins.

    Raises: ReleaseError: missing, damaged, or of other item vectors.
    """
    path = directory / FIRST_ROWS_NAME
    rows = files.read_array(path, np.int64, shape=(-1,))
    ends = np.append(rows[1:], len(item_vectors))
    if not len(rows) or rows[0] != NUM_RESERVED_ROWS or (rows >= ends).any():
        expected = f"rows that rise from {NUM_RESERVED_ROWS} to below {len(item_vectors)}"
        raise ReleaseError(
            str(path), expected=expected, got=str(rows.tolist()), hint=files.OTHER_VECTORS
        )
    return tuple(rows.tolist())


def _bounds(num_rows: int, first_rows: FirstRows) -> list[tuple[int, int]]:
    """[first, end) of each shard."""
    return list(zip(first_rows, [*first_rows[1:], num_rows], strict=True))


def _rows_within(rows: Rows, first: int, end: int) -> Rows:
    """Those of the rows that lie in [first, end), as the shard that begins at `first` names them.

    >>> _rows_within(np.array([-1, 4, 5, 9], np.int32), 5, 9)
    array([2], dtype=int32)
    """
    rows = np.asarray(rows)
    within = rows[(rows >= first) & (rows < end)]
    return (within - (first - NUM_RESERVED_ROWS)).astype(np.int32)
