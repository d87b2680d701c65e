"""Logs that were sorted on disk: what training needs of them, without holding their watches.

Encoder, histories and targets come out as they would from `build_encoder`, `Encoder.history` and
`watch_targets` on the same logs in memory, bit for bit; their arrays are mapped files.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder
from upnext.examples.history import EventLog, History, Indices, ranges
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import WatchTargets
from upnext.schema import (
    NUM_RESERVED_ROWS,
    Impressions,
    Items,
    Logs,
    Searches,
    TimesMs,
    Users,
    Watches,
)

MANIFEST = "prepared.json"
FORMAT_VERSION = 1
EVENTS_AT_ONCE = 1 << 22

FOLDER = "tables"
"""Where the other tables lie, so that nobody takes prepared logs for logs to be read."""
TABLES = {"items": Items, "impressions": Impressions, "searches": Searches, "users": Users}


@dataclass(frozen=True)
class Part:
    """Some of the logs: of user u the watches in [lo[u], hi[u]), and events of the other tables.

    `others` is a `Logs` whose table of watches is empty.
    """

    lo: Indices
    hi: Indices
    others: Logs

    @property
    def num_watches(self) -> int:
        """How many watches it has."""
        return int((self.hi - self.lo).sum())


@dataclass(frozen=True)
class PreparedLogs:
    """All watches, user by user, as mapped arrays; the other tables in memory.

    `watches` has no item rows, for these depend on what is counted: its `rows` are codes of items,
    `item_ids[code]`, in the order of ids. `places` [E] tells where in the logs each watch stood.
    `report`: what the check of the logs found, as plain values.
    """

    directory: Path
    users: Vocabulary
    item_ids: pl.Series
    watches: EventLog
    places: Indices
    others: Logs
    report: Mapping[str, Any]

    @property
    def everything(self) -> Part:
        """All of the logs."""
        return Part(self.watches.starts[:-1], self.watches.starts[1:], self.others)

    def encoder(self, part: Part, config: ExamplesConfig) -> Encoder:
        """What `build_encoder` counts in a part.

        Raises:
            DataError: a declared feature is no column of the users or the items table.
        """
        num_watches, first_ms = self._counted(part)
        by_count = np.argsort(-num_watches, kind="stable")
        kept = by_count[num_watches[by_count] >= config.min_watches][: config.max_items]
        ids = self.item_ids.gather(kept)
        ranked = _by_rank(part.others, ids, first_ms[kept])
        encoder = build_encoder(ranked, replace(config, max_items=None, min_watches=1))
        keys = Vocabulary.by_frequency(ids).ids[np.searchsorted(np.sort(kept), kept)]
        catalogue = replace(
            encoder.catalogue,
            items=Vocabulary(keys, np.argsort(keys, kind="stable")),
            num_watches=np.pad(num_watches[kept], (NUM_RESERVED_ROWS, 0)),
        )
        return replace(encoder, config=config, catalogue=catalogue)

    def history(self, encoder: Encoder, part: Part) -> History:
        """What `Encoder.history` makes of a part.

        Item rows, and of less than everything the other columns too, are written to a file without
        a name, which ends with the array: 16 bytes a watch, on the disk of the prepared logs.
        """
        item_rows = encoder.catalogue.items.rows(self.item_ids)
        log = self.watches
        rows = self._written(item_rows[log.rows[events]] for events in self._events(part))
        at_ms, watch_time_s = log.at_ms, log.watch_time_s
        if part.num_watches < len(log.rows):
            at_ms = self._written(at_ms[events] for events in self._events(part))
            watch_time_s = self._written(watch_time_s[events] for events in self._events(part))
        starts = np.concatenate([[0], np.cumsum(part.hi - part.lo)])
        others = encoder.history(part.others, self.users)
        past = replace(others, watches=EventLog(starts, rows, at_ms, watch_time_s))
        return past.counted(encoder.catalogue.channel_rows, encoder.catalogue.duration_s)

    def targets(self, history: History, part: Part) -> WatchTargets:
        """What `watch_targets` makes of a part; `history` is that of everything."""
        events = ranges(part.lo, part.hi)
        user_rows = np.repeat(np.arange(len(part.lo)), part.hi - part.lo)
        at_ms = self.watches.at_ms[events]
        order = np.lexsort((self.places[events], at_ms))
        return WatchTargets(
            history=history,
            user_rows=user_rows[order],
            at_ms=at_ms[order],
            item_rows=history.watches.rows[events[order]],
        )

    def _counted(self, part: Part) -> tuple[NDArray[np.int64], TimesMs]:
        """Watches of each item code, and the time of its first one."""
        num_watches = np.zeros(len(self.item_ids), np.int64)
        first_ms = np.full(len(self.item_ids), np.iinfo(np.int64).max)
        for events in self._events(part):
            codes = self.watches.rows[events]
            num_watches += np.bincount(codes, minlength=len(num_watches))
            np.minimum.at(first_ms, codes, self.watches.at_ms[events])
        return num_watches, first_ms

    def _events(self, part: Part) -> Iterator[Indices]:
        """Places in `watches` of a part's events, those of some users at a time."""
        ends = np.cumsum(part.hi - part.lo)
        num_pieces = 1 + part.num_watches // EVENTS_AT_ONCE
        bounds = np.searchsorted(ends, np.arange(1, num_pieces) * EVENTS_AT_ONCE)
        for users in np.split(np.arange(len(ends)), bounds):
            yield ranges(part.lo[users], part.hi[users])

    def _written(self, pieces: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """The pieces as one mapped array."""
        place = self.directory if os.access(self.directory, os.W_OK) else None
        with tempfile.TemporaryFile(dir=place) as file:
            for piece in pieces:
                piece.tofile(file)
            if file.tell() == 0:
                return piece
            return np.asarray(np.memmap(file, piece.dtype, mode="r"))


def is_prepared(directory: Path) -> bool:
    """Whether a directory holds prepared logs, and not logs as their owner wrote them."""
    return (directory / MANIFEST).is_file()


def open_prepared(directory: Path) -> PreparedLogs:
    """Opens what `write_tables` and `sort_watches` have written.

    Raises:
        DataError: there are no prepared logs, or those of another format.
    """
    if not is_prepared(directory):
        hint = "`upnext prepare LOGS PREPARED` makes it."
        raise DataError(str(directory), expected="prepared logs", got=f"no {MANIFEST}", hint=hint)
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    if (version := manifest["format_version"]) != FORMAT_VERSION:
        raise DataError(
            str(directory),
            expected=f"prepared logs of format {FORMAT_VERSION}",
            got=f"format {version}",
            hint="prepare the logs anew.",
        )
    arrays = {path.stem: _mapped(path) for path in directory.glob("*.npy")}
    item_ids = pl.read_parquet(directory / FOLDER / "item_ids.parquet")["item_id"]
    return PreparedLogs(
        directory=directory,
        users=Vocabulary(arrays["user_ids"], arrays["user_order"]),
        item_ids=item_ids,
        watches=EventLog(
            starts=arrays["starts"],
            rows=arrays["item_codes"],
            at_ms=arrays["at_ms"],
            watch_time_s=arrays["watch_time_s"],
        ),
        places=arrays["places"],
        others=_read_tables(directory / FOLDER),
        report=manifest["report"],
    )


def write_tables(directory: Path, logs: Logs, users: Vocabulary, report: Mapping[str, Any]) -> None:
    """Writes all but the watches; the manifest last.

    Args:
        logs: whose watches name every item that any watch has, however often.
        report: what the check of the logs found, as plain values.
    """
    np.save(directory / "user_ids.npy", users.ids, allow_pickle=False)
    np.save(directory / "user_order.npy", users.order, allow_pickle=False)
    folder = directory / FOLDER
    folder.mkdir()
    item_ids = logs.watches.frame.select(pl.col("item_id").unique().sort())
    item_ids.write_parquet(folder / "item_ids.parquet")
    logs.watches.frame.clear().write_parquet(folder / "watches.parquet")
    for name in TABLES:
        if (table := getattr(logs, name)) is not None:
            table.frame.write_parquet(folder / f"{name}.parquet")
    manifest = {"format_version": FORMAT_VERSION, "report": report}
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (directory / MANIFEST).write_text(text, encoding="utf-8")


def _read_tables(folder: Path) -> Logs:
    watches = Watches(pl.read_parquet(folder / "watches.parquet"))
    tables: dict[str, Any] = {
        name: table(pl.read_parquet(path))
        for name, table in TABLES.items()
        if (path := folder / f"{name}.parquet").exists()
    }
    return Logs(watches=watches, **tables)


def _mapped(path: Path) -> NDArray[Any]:
    """An array as a plain one over the mapped file."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _by_rank(others: Logs, item_ids: pl.Series, first_ms: TimesMs) -> Logs:
    """Logs in which the items are numbers by falling frequency, each watched once, first at
    `first_ms`: counted, they stand in the rows that they are to stand in."""
    num_items = len(item_ids)
    ranks = pl.DataFrame({"item_id": item_ids, "rank": np.arange(num_items)})

    def ranked(frame: pl.DataFrame) -> pl.DataFrame:
        known = frame.join(ranks, on="item_id", how="inner", maintain_order="left")
        return known.with_columns(item_id="rank").drop("rank")

    watches = pl.DataFrame(
        {
            "user_id": np.zeros(num_items, np.int64),
            "item_id": np.arange(num_items),
            "started_at_ms": first_ms,
            "watch_time_s": np.zeros(num_items, np.float32),
        }
    )
    shown = others.impressions
    return replace(
        others,
        watches=Watches(watches),
        items=Items(ranked(others.items.frame)),
        impressions=shown and Impressions(ranked(shown.frame)),
    )
