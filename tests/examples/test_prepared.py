"""That prepared logs are the logs is held by tests/pipeline/test_prepare.py; here: their files."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from upnext.errors import DataError
from upnext.examples.encoder import ExamplesConfig
from upnext.examples.prepared import (
    MANIFEST,
    Part,
    PreparedLogs,
    is_prepared,
    open_prepared,
    write_tables,
)
from upnext.examples.sorting import WATCH_RECORD, Numbering, sort_watches
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import Items, Logs, Watches

ANN, BEN = 2, 3
SOUP, RICE, TEA = "soup", "rice", "tea"

WATCHES = [(0, 0, 4), (1, 0, 5), (0, 1, 3), (0, 2, 9), (1, 0, 6)]
"""User number, item number, time; soup three times, rice and tea once each."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    records = np.zeros(len(WATCHES), WATCH_RECORD)
    for name, column in zip(("user", "item", "at_ms"), zip(*WATCHES, strict=True), strict=True):
        records[name] = column
    records["place"] = np.arange(len(WATCHES))
    records.tofile(tmp_path / "records")
    folder = tmp_path / "prepared"
    folder.mkdir()
    sort_watches(
        tmp_path / "records",
        folder,
        Numbering(
            user_rows=np.array([ANN, BEN], np.int32), item_codes=np.array([1, 0, 2], np.int32)
        ),
        np.array([0, 0, 3, 2]),
    )
    ids = pl.Series([SOUP, RICE, TEA])
    logs = Logs(
        watches=Watches(
            pl.DataFrame({"user_id": ["ann", "ben", "ann"], "item_id": ids}).with_columns(
                started_at_ms=pl.lit(0, pl.Int64), watch_time_s=pl.lit(0.0, pl.Float32)
            )
        ),
        items=Items(
            pl.DataFrame(
                {
                    "item_id": ids,
                    "published_at_ms": pl.Series([1, None, None], dtype=pl.Int64),
                    "duration_s": pl.Series([None] * 3, dtype=pl.Float32),
                    "channel_id": pl.Series([None] * 3, dtype=pl.String),
                    "tags": pl.Series([None] * 3, dtype=pl.List(pl.String)),
                    "title": ["Soup", None, "Tea"],
                }
            )
        ),
    )
    write_tables(folder, logs, Vocabulary.by_frequency(pl.Series(["ann", "ben"])), {"told": 1})
    return folder


@pytest.fixture
def prepared(directory: Path) -> PreparedLogs:
    return open_prepared(directory)


def test_watches_are_found_by_user_and_time(prepared: PreparedLogs) -> None:
    log = prepared.watches
    assert log.starts.tolist() == [0, 0, 0, 3, 5]
    assert log.at_ms.tolist() == [3, 4, 9, 5, 6]
    assert prepared.item_ids.gather(log.rows).to_list() == [RICE, SOUP, TEA, SOUP, SOUP]
    assert prepared.places.tolist() == [2, 0, 3, 1, 4]
    assert prepared.report == {"told": 1}


def test_items_stand_by_the_watches_of_the_part(prepared: PreparedLogs) -> None:
    catalogue = prepared.encoder(prepared.everything, ExamplesConfig()).catalogue
    assert [catalogue.items.id(row) for row in range(2, 5)] == [SOUP, RICE, TEA]
    assert catalogue.num_watches.tolist() == [0, 0, 3, 1, 1]
    assert catalogue.published_at_ms.tolist() == [0, 0, 1, 3, 9]
    assert [catalogue.title(row) for row in range(2, 5)] == ["Soup", None, "Tea"]
    starts = prepared.watches.starts
    first_two = Part(starts[:-1], np.minimum(starts[:-1] + 2, starts[1:]), prepared.others)
    known = prepared.encoder(first_two, ExamplesConfig(max_items=2)).catalogue
    assert [known.items.id(row) for row in range(2, 4)] == [SOUP, RICE]
    assert known.num_watches.tolist() == [0, 0, 3, 1]


def test_histories_leave_no_files_behind_and_share_what_they_can(prepared: PreparedLogs) -> None:
    files = sorted(prepared.directory.iterdir())
    everything, starts = prepared.everything, prepared.watches.starts
    encoder = prepared.encoder(everything, ExamplesConfig())
    history = prepared.history(encoder, everything)
    assert history.watches.rows.tolist() == [3, 2, 4, 2, 2]
    assert np.shares_memory(history.watches.at_ms, prepared.watches.at_ms)
    but_the_last = np.maximum(starts[:-1], starts[1:] - 1)
    part = prepared.history(encoder, Part(starts[:-1], but_the_last, prepared.others))
    nobody = prepared.history(encoder, Part(starts[:-1], starts[:-1], prepared.others))
    assert part.watches.at_ms.tolist() == [3, 4, 5]
    assert nobody.watches.rows.dtype == np.int32
    assert len(nobody.watches.rows) == 0
    assert sorted(prepared.directory.iterdir()) == files


def test_what_is_not_prepared_is_refused(directory: Path, tmp_path: Path) -> None:
    assert is_prepared(directory)
    assert not is_prepared(tmp_path)
    with pytest.raises(DataError, match=r"expected prepared logs, got no prepared\.json"):
        open_prepared(tmp_path)
    manifest = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps(manifest | {"format_version": 0}))
    with pytest.raises(DataError, match="got format 0"):
        open_prepared(directory)
