"""What workers do to prepare logs: each step reads files, and leaves files for the next one.

read      a piece of the logs → records with numbers of their own, and ids dealt out into shares
number    a share of the ids, of all pieces → one number for an id, wherever it occurs
deal      records of a piece, whose users have rows now → by buckets of neighbouring users
sort      a bucket, of all pieces → watches by user and time, and those that repeat another

All of it lies in a folder that all nodes see, and is the same whoever does it and how often.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from upnext.cluster.start import check_is_seen
from upnext.cluster.tasks import once
from upnext.examples.history import Indices
from upnext.examples.sorting import WATCH_RECORD, Numbering, Records, deal, sorted_bucket
from upnext.logs.id_codes import IdCodes
from upnext.logs.pieces import Piece, WatchLogs
from upnext.logs.refused import SetAside, set_aside
from upnext.logs.stream import WatchStream
from upnext.logs.tally import RefusedRows, Tally
from upnext.pipeline.records import Counts, write_records
from upnext.schema import Rows

Kind = Literal["users", "items"]
KINDS: tuple[Kind, ...] = ("users", "items")

STEPS = ("read", "number-users", "number-items", "deal", "sort", "refused")
"""Folders of a workshop, each with a folder for every piece, share or bucket."""
RECORDS, NUMBERS, IDS = "records", "numbers", "ids.arrow"
"""Files in these."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where workers find what others have left, and what they all know."""

    folder: Path
    logs: WatchLogs
    num_shares: int

    @property
    def catalogue(self) -> Path:
        """The items that watches must be of, if there is such a file."""
        return self.folder / "catalogue.parquet"

    @property
    def bounds(self) -> Path:
        """User rows at which buckets begin, and the end."""
        return self.folder / "bounds.npy"

    def table(self, kind: Kind) -> Path:
        """The row of each user number; the code of each item number."""
        return self.folder / f"{kind}.npy"

    def ids(self, number: int, kind: Kind) -> Path:
        """Ids of a piece, share by share, with their codes in its records and how many watches."""
        return self.made("read", number) / f"{kind}.arrow"

    def made(self, step: str, number: int) -> Path:
        """The folder of what a step has made of a piece, a share or a bucket."""
        return self.folder / step / str(number)

    def records(self, step: str, number: int) -> Path:
        """The records that a step has made."""
        return self.made(step, number) / RECORDS

    def share(self, kind: Kind, share: int) -> Path:
        """The folder of what is known of a share's ids."""
        return self.made(f"number-{kind}", share)


@dataclass(frozen=True, kw_only=True)
class PieceRead:
    """What became of a piece's rows, and how many ids it has of each share."""

    tally: Tally
    num_ids: Mapping[Kind, Indices]


def read_piece(shop: Workshop, job: tuple[int, Piece]) -> PieceRead:
    """Checks the rows of a piece; numbers are those of the ids' first watch in the piece."""
    number, piece = job
    check_is_seen(piece.path)
    catalogue = pl.read_parquet(shop.catalogue) if shop.catalogue.exists() else None
    stream = WatchStream(shop.logs, [piece], catalogue)
    with once(shop.made("read", number)) as folder:
        num_by_user, num_by_item = write_records(stream, folder / RECORDS, lambda _: None)
        found = {"users": (stream.users, num_by_user), "items": (stream.items, num_by_item)}
        num_ids = {
            kind: _share_out(found[kind][0].ids, found[kind][1], shop, folder / f"{kind}.arrow")
            for kind in KINDS
        }
    return PieceRead(tally=stream.tally, num_ids=num_ids)


def _share_out(ids: pl.Series, num_watches: Counts, shop: Workshop, path: Path) -> Indices:
    """Writes the ids that have a watch, ordered by share; how many each share has."""
    codes = np.flatnonzero(num_watches)
    ids = ids.gather(codes)
    # Not the hash of Polars: that of another version, or on another processor, may be another.
    hashes = np.fromiter(map(zlib.crc32, ids.cast(pl.Binary).to_list()), np.uint32, len(ids))
    shares = hashes % shop.num_shares
    order = np.argsort(shares, kind="stable")
    codes = codes[order]
    columns = {"id": ids.gather(order), "code": codes, "num_watches": num_watches[codes]}
    pl.DataFrame(columns).write_ipc(path)
    return np.bincount(shares, minlength=shop.num_shares)


@dataclass(frozen=True, kw_only=True)
class ShareJob:
    """A share of the ids: of piece p those in [first[p], end[p])."""

    kind: Kind
    share: int
    first: Indices
    end: Indices


def number_share(shop: Workshop, job: ShareJob) -> None:
    """Numbers of a share's ids in its pieces, one piece after another; the ids, with watches."""
    codes, num_watches = IdCodes(), np.zeros(0, np.int64)
    with once(shop.share(job.kind, job.share)) as folder, (folder / NUMBERS).open("wb") as file:
        for piece in np.flatnonzero(job.first < job.end).tolist():
            lazy = pl.scan_ipc(shop.ids(piece, job.kind)).select("id", "num_watches")
            first, end = job.first[piece], job.end[piece]
            found = lazy.slice(int(first), int(end - first)).collect()
            numbers = codes.codes(found["id"])
            numbers.tofile(file)
            num_watches = np.pad(num_watches, (0, len(codes) - len(num_watches)))
            num_watches[numbers] += found["num_watches"].to_numpy()
        pl.DataFrame({"id": codes.ids, "num_watches": num_watches}).write_ipc(folder / IDS)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Where a piece's numbers lie: of share s the `num[s]` from `at[s]` on, all that much lower
    than numbers of all ids as `first[s]` tells."""

    at: Indices
    num: Indices
    first: Indices


@dataclass(frozen=True, kw_only=True)
class DealJob:
    """A piece whose rows begin at a place in the logs."""

    number: int
    first_place: int
    numbers: Mapping[Kind, Numbers]


def deal_piece(shop: Workshop, job: DealJob) -> Indices:
    """Deals a piece's records into buckets, in parts: [parts, buckets] records."""
    numbering = Numbering(
        user_rows=_looked_up(shop, job, "users"), item_codes=_looked_up(shop, job, "items")
    )
    bounds = np.load(shop.bounds, allow_pickle=False)
    sizes = [np.zeros((0, len(bounds) - 1), np.int64)]
    with once(shop.made("deal", job.number)) as folder, (folder / RECORDS).open("wb") as file:
        for part, num_records in deal(shop.records("read", job.number), numbering, bounds):
            part["place"] += job.first_place
            part.tofile(file)
            sizes.append(num_records[None])
    return np.concatenate(sizes)


def _looked_up(shop: Workshop, job: DealJob, kind: Kind) -> Rows:
    """What stands in the table of all numbers for each code of a piece's records."""
    where = job.numbers[kind]
    numbers = [np.zeros(0, np.int64)]
    for share in np.flatnonzero(where.num).tolist():
        path, at = shop.share(kind, share) / NUMBERS, 4 * where.at[share]
        found = np.fromfile(path, np.int32, where.num[share], offset=at)
        numbers.append(where.first[share] + found)
    codes = pl.scan_ipc(shop.ids(job.number, kind)).select("code").collect()["code"].to_numpy()
    table = np.load(shop.table(kind), mmap_mode="r", allow_pickle=False)
    looked_up = np.zeros(codes.max(initial=-1) + 1, np.int32)
    looked_up[codes] = table[np.concatenate(numbers)]
    return looked_up


@dataclass(frozen=True, kw_only=True)
class BucketJob:
    """A bucket: in turn, `num[i]` records of piece `piece[i]`, from its `first[i]` on."""

    bucket: int
    piece: Indices
    first: Indices
    num: Indices


def sort_bucket(shop: Workshop, job: BucketJob) -> Records:
    """Sorts a bucket and writes what stays of it; gives the repeats."""
    parts = [np.zeros(0, WATCH_RECORD)]
    for piece, first, num in zip(job.piece, job.first, job.num, strict=True):
        path, at = shop.records("deal", piece), first * WATCH_RECORD.itemsize
        parts.append(np.fromfile(path, WATCH_RECORD, num, offset=at))
    watches, repeats = sorted_bucket(np.concatenate(parts))
    with once(shop.made("sort", job.bucket)) as folder:
        watches.tofile(folder / RECORDS)
    return repeats


def set_piece_aside(shop: Workshop, job: tuple[int, RefusedRows]) -> SetAside:
    """Writes refused rows of one piece."""
    number, refused = job
    made = shop.made("refused", number)
    with once(made) as folder:
        aside = set_aside(shop.logs, refused, folder)
    return replace(aside, paths=tuple(made / path.relative_to(folder) for path in aside.paths))
