"""Logs prepared by the workers of a Ray cluster: the very files that one machine makes.

This process says who does what next, and keeps what grows with the number of users and items; all
that grows with the number of watches passes from worker to worker in files.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from upnext.cluster.tasks import in_order
from upnext.cluster.workshop import (
    IDS,
    KINDS,
    STEPS,
    BucketJob,
    DealJob,
    Kind,
    Numbers,
    PieceRead,
    ShareJob,
    Workshop,
    deal_piece,
    number_share,
    read_piece,
    set_piece_aside,
    sort_bucket,
)
from upnext.errors import ConfigError
from upnext.examples.history import Indices
from upnext.examples.prepared import PreparedLogs
from upnext.examples.sorting import WATCH_RECORD, Numbering, Records, fitting_buckets, write_watches
from upnext.logs.pieces import Piece, WatchLogs
from upnext.logs.refused import SetAside
from upnext.logs.sources import LogsConfig
from upnext.logs.tally import Tally
from upnext.pipeline.prepare import DEFAULT_CONFIG, prepare
from upnext.pipeline.records import Counts, Progress, Say

ROWS_PER_PIECE = 1 << 22
"""Of a Parquet file, read by one task; of text a task reads a whole file."""
NUM_SHARES = 64
"""Parts that ids are numbered in: a task holds one of them."""


def prepare_on_ray(
    logs_directory: Path,
    prepared_directory: Path,
    config: LogsConfig = DEFAULT_CONFIG,
    *,
    num_workers: int,
    now_ms: int | None = None,
    say: Say = lambda _: None,
    rows_per_piece: int = ROWS_PER_PIECE,
    num_shares: int = NUM_SHARES,
) -> PreparedLogs:
    """As `pipeline.prepare.prepare`, byte for byte, by the cluster this process is part of.

    Logs and prepared logs lie where all nodes see them. A worker needs some 500 MB, or what its
    share of the ids or its text file needs; what a lost worker was at is done again.

    Args:
        num_workers: at work at a time, at most, a core each.
        rows_per_piece: of Parquet, read by one task.
        num_shares: into which ids are dealt out; the more, the less memory a worker needs.

    Raises:
        DataError: as `prepare`.
        ConfigError: fewer than one worker, or one that does not see the files.
        ray.exceptions.RayError: a worker could not do its work, or was lost time and again.
    """

    if num_workers < 1:
        raise ConfigError("workers", expected="1 or more", got=str(num_workers))

    def number(logs: WatchLogs, scratch: Path, say: Say) -> NumberedApart:
        shop = Workshop(folder=scratch.absolute(), logs=logs, num_shares=num_shares)
        return number_apart(shop, logs.pieces(rows_per_piece), num_workers=num_workers, say=say)

    return prepare(
        logs_directory, prepared_directory, config, now_ms=now_ms, say=say, number=number
    )


@dataclass(frozen=True, kw_only=True)
class NumberedApart:
    """`pipeline.prepare.Numbered` by workers, whose records lie in pieces.

    `num_ids` [pieces, shares]: ids of each piece. `first_numbers` [shares]: number of the first id
    of each share.
    """

    shop: Workshop
    num_workers: int
    tally: Tally
    first_places: Sequence[int]
    num_ids: Mapping[Kind, Indices]
    first_numbers: Mapping[Kind, Indices]
    users: pl.Series
    items: pl.Series
    num_by_user: Counts
    num_by_item: Counts

    def set_aside(self) -> list[SetAside]:
        """As `Numbered`."""
        work = partial(set_piece_aside, self.shop)
        jobs = list(enumerate(self.tally.refused_rows()))
        with in_order(work, jobs, num_workers=self.num_workers) as aside:
            return list(aside)

    def sort(self, numbering: Numbering, num_events: Indices, directory: Path) -> Records:
        """As `Numbered`."""
        np.save(self.shop.bounds, fitting_buckets(num_events), allow_pickle=False)
        np.save(self.shop.table("users"), numbering.user_rows, allow_pickle=False)
        np.save(self.shop.table("items"), numbering.item_codes, allow_pickle=False)
        with self._sorted(self._dealt()) as buckets:
            return write_watches(buckets, directory, num_events)

    def _dealt(self) -> list[Indices]:
        """Of each piece, how many records of each bucket its parts have: [parts, buckets]."""
        at = {kind: _before(self.num_ids[kind], axis=0) for kind in KINDS}
        jobs = [
            DealJob(
                number=piece,
                first_place=first_place,
                numbers={
                    kind: Numbers(
                        at=at[kind][piece],
                        num=self.num_ids[kind][piece],
                        first=self.first_numbers[kind],
                    )
                    for kind in KINDS
                },
            )
            for piece, first_place in enumerate(self.first_places)
        ]
        sizes = []
        work = partial(deal_piece, self.shop)
        with in_order(work, jobs, num_workers=self.num_workers) as dealt:
            for piece, one in enumerate(dealt):
                sizes.append(one)
                shutil.rmtree(self.shop.made("read", piece))
        return sizes

    @contextmanager
    def _sorted(self, sizes: Sequence[Indices]) -> Iterator[Iterator[tuple[Records, Records]]]:
        """Each bucket's watches and repeats, in order."""
        work, jobs = partial(sort_bucket, self.shop), _bucket_jobs(sizes)
        with in_order(work, jobs, num_workers=self.num_workers) as repeats:
            yield ((self._taken(bucket), of_bucket) for bucket, of_bucket in enumerate(repeats))

    def _taken(self, bucket: int) -> Records:
        """Sorted watches, which need not lie there any longer."""
        watches = np.fromfile(self.shop.records("sort", bucket), WATCH_RECORD)
        shutil.rmtree(self.shop.made("sort", bucket))
        return watches


def number_apart(
    shop: Workshop, pieces: Sequence[Piece], *, num_workers: int, say: Say
) -> NumberedApart:
    """Reads, checks and numbers watches, all pieces and then all shares of the ids at a time."""
    for step in STEPS:
        (shop.folder / step).mkdir()
    if (catalogue := shop.logs.catalogue()) is not None:
        catalogue.select("item_id", "duration_s").write_parquet(shop.catalogue)
    tally, first_places, found = Tally(), list[int](), list[PieceRead]()
    progress = Progress(say)
    work = partial(read_piece, shop)
    with in_order(work, list(enumerate(pieces)), num_workers=num_workers) as all_read:
        for one in all_read:
            first_places.append(tally.num_read)
            tally.add(one.tally)
            found.append(one)
            progress.reached(tally.num_read)
    num_ids = {kind: np.stack([one.num_ids[kind] for one in found]) for kind in KINDS}
    say(f"read {tally.num_read:,} watches in {len(pieces)} pieces; numbering their ids")
    ids = _numbered(shop, num_ids, num_workers)
    return NumberedApart(
        shop=shop,
        num_workers=num_workers,
        tally=tally,
        first_places=first_places,
        num_ids=num_ids,
        first_numbers={kind: _before([len(one) for one in ids[kind]]) for kind in KINDS},
        users=pl.concat(ids["users"])["id"],
        items=pl.concat(ids["items"])["id"],
        num_by_user=pl.concat(ids["users"])["num_watches"].to_numpy(),
        num_by_item=pl.concat(ids["items"])["num_watches"].to_numpy(),
    )


def _numbered(
    shop: Workshop, num_ids: Mapping[Kind, Indices], num_workers: int
) -> dict[Kind, list[pl.DataFrame]]:
    """The ids of each share, in the order of their numbers, and the watches that they have."""
    jobs = []
    for kind in KINDS:
        ends = np.cumsum(num_ids[kind], axis=1)
        for share in range(shop.num_shares):
            end = ends[:, share]
            first = end - num_ids[kind][:, share]
            jobs.append(ShareJob(kind=kind, share=share, first=first, end=end))
    with in_order(partial(number_share, shop), jobs, num_workers=num_workers) as numbered:
        list(numbered)
    shares = range(shop.num_shares)
    return {kind: [pl.read_ipc(shop.share(kind, one) / IDS) for one in shares] for kind in KINDS}


def _bucket_jobs(sizes: Sequence[Indices]) -> list[BucketJob]:
    """Where the records of each bucket lie, piece by piece and part by part."""
    piece = np.repeat(np.arange(len(sizes)), [len(parts) for parts in sizes])
    first = np.concatenate([_before(parts.ravel()).reshape(parts.shape) for parts in sizes])
    num = np.concatenate(sizes)
    return [
        BucketJob(
            bucket=bucket,
            piece=piece[there],
            first=first[there, bucket],
            num=num[there, bucket],
        )
        for bucket in range(num.shape[1])
        for there in [np.flatnonzero(num[:, bucket])]
    ]


def _before(counts: Indices | Sequence[int], axis: int = 0) -> Indices:
    """The sum of all counts before each.

    >>> _before([3, 1, 2]).tolist()
    [0, 3, 4]
    """
    counts = np.asarray(counts, np.int64)
    return np.cumsum(counts, axis=axis) - counts
