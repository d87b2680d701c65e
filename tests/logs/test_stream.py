import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import upnext.logs.pieces
from upnext.errors import DataError
from upnext.logs.pieces import WatchLogs
from upnext.logs.read import LogsConfig, TableSource, read_logs
from upnext.logs.refused import join_quarantine, set_aside
from upnext.logs.report import TableReport, first_of_each_reason
from upnext.logs.stream import WatchStream
from upnext.logs.tally import Tally

NOW_MS = 1_000_000
HEADER = "user_id,item_id,started_at_ms,watch_time_s\n"

FILES: Mapping[str, str | list[tuple[Any, ...]]] = {
    "a.csv": f"{HEADER}ann,soup,3,10\nann,soup,2\nben,rice,1,-4\n\nben,soup,9,1\n",
    "b.parquet": [
        ("ben", "tea", 5, 2.0),
        (None, "tea", 6, 2.0),
        ("ann", "rice", 2_000_000, 2.0),
        ("ann", "nothing", 7, 2.0),
        ("cleo", "rice", 5, 99.0),
        ("cleo", "rice", 4, 9.0),
    ],
    "c.jsonl": json.dumps({"user_id": "ann", "item_id": "tea", "started_at_ms": 1})
    + '\n{"user_id"\n'
    + json.dumps({"user_id": 7, "item_id": "tea", "started_at_ms": 1, "watch_time_s": 3}),
}
"""Good rows, broken lines, and rows that are bad in all kinds of ways."""
GOOD = [
    (0, "ann", "soup", 3, 10.0),
    (2, "ben", "soup", 9, 1.0),
    (3, "ben", "tea", 5, 2.0),
    (8, "cleo", "rice", 4, 9.0),
    (10, "7", "tea", 1, 3.0),
]
"""Place, user, item, time, seconds; an empty line is no row, a broken one has no place."""


@pytest.fixture(params=[2, 1_000])
def logs_dir(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The files above, read a few rows or very many at a time."""
    monkeypatch.setattr(upnext.logs.pieces, "ROWS_AT_ONCE", request.param)
    (tmp_path / "watches").mkdir()
    (tmp_path / "items.csv").write_text("item_id,duration_s\nsoup,10\nrice,10\ntea,\nsoup,99\n")
    for name, content in FILES.items():
        put(tmp_path / "watches" / name, content)
    return tmp_path


def put(path: Path, content: str | list[tuple[Any, ...]]) -> None:
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        names = HEADER.strip().split(",")
        pl.DataFrame(content, schema=names, orient="row").write_parquet(path, row_group_size=3)


def stream_of(
    directory: Path, config: LogsConfig | None = None, max_rows: int | None = None
) -> WatchStream:
    logs = logs_in(directory, config)
    return WatchStream(logs, logs.pieces(max_rows), logs.catalogue())


def logs_in(directory: Path, config: LogsConfig | None = None) -> WatchLogs:
    return WatchLogs(directory=directory, config=config or LogsConfig(), now_ms=NOW_MS)


def report_of(tally: Tally, logs: WatchLogs, scratch: Path) -> TableReport:
    """The report of all that was read, once the quarantine is written."""
    aside = [
        set_aside(logs, rows, scratch / str(number))
        for number, rows in enumerate(tally.refused_rows())
    ]
    join_quarantine(logs.directory, [path for one in aside for path in one.paths])
    return tally.report(first_of_each_reason(row for one in aside for row in one.examples))


def rows_of(stream: WatchStream) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for batch in stream:
        users = stream.users.ids.gather(batch.user_codes)
        items = stream.items.ids.gather(batch.item_codes)
        rows += zip(batch.places, users, items, batch.at_ms, batch.watch_time_s, strict=True)
    return rows


def quarantine(directory: Path) -> pl.DataFrame:
    return pl.read_parquet(directory / "quarantine" / "watches.parquet")


@pytest.mark.parametrize("max_rows", [None, 1, 4])
def test_good_rows_come_with_their_places(logs_dir: Path, max_rows: int | None) -> None:
    config = LogsConfig(max_watch_share=2.0)
    assert rows_of(stream_of(logs_dir, config, max_rows)) == GOOD


@pytest.mark.parametrize("missing_s", [None, 2.0])
@pytest.mark.parametrize("max_rows", [None, 1, 4])
def test_the_report_and_the_quarantine_are_those_of_the_logs_in_memory(
    logs_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
    max_rows: int | None,
    missing_s: float | None,
) -> None:
    """Also of pieces that are read apart, whose tallies add up."""
    config = LogsConfig(max_watch_share=2.0, missing_watch_time_s=missing_s)
    report = read_logs(logs_dir, config, now_ms=NOW_MS)[1].tables["watches"]
    in_memory = quarantine(logs_dir)
    (logs_dir / "quarantine" / "watches.parquet").unlink()
    logs, tally = logs_in(logs_dir, config), Tally()
    for piece in logs.pieces(max_rows):
        stream = WatchStream(logs, [piece], logs.catalogue())
        rows_of(stream)
        tally.add(stream.tally)
    assert report_of(tally, logs, tmp_path_factory.mktemp("scratch")) == report
    assert report.num_read - report.num_accepted == in_memory.height
    assert len(report.blanked) == (0 if missing_s is None else 1)
    assert quarantine(logs_dir).equals(in_memory)


def test_repeats_are_refused_where_they_stand(
    logs_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = stream_of(logs_dir)
    num_good = len(rows_of(stream))
    stream.tally.refuse_repeats(np.array([3, 0]), np.array([5, 3]))
    stream.tally.refuse_repeats(np.array([], np.int64), np.array([], np.int64))
    report = report_of(stream.tally, logs_in(logs_dir), tmp_path_factory.mktemp("scratch"))
    assert report.num_accepted == num_good - 2
    assert report.quarantined["duplicate"] == 2
    assert [day.num_rows for day in report.per_day] == [num_good - 2]
    told = [(row.file, row.row) for row in report.examples if row.reason == "duplicate"]
    repeats = quarantine(logs_dir).filter(reason="duplicate")
    assert repeats.select("file", "row", "user_id").rows() == [
        ("watches/a.csv", 2, "ann"),
        ("watches/b.parquet", 1, "ben"),
    ]
    assert told == repeats.select("file", "row").rows()


def test_without_a_catalogue_any_item_will_do(logs_dir: Path) -> None:
    (logs_dir / "items.csv").unlink()
    assert "nothing" in [item for _, _, item, _, _ in rows_of(stream_of(logs_dir))]


def test_logs_without_a_bad_row_leave_no_quarantine(tmp_path: Path) -> None:
    put(tmp_path / "watches.csv", f"{HEADER}ann,soup,3,10\n")
    stream = stream_of(tmp_path)
    assert rows_of(stream) == [(0, "ann", "soup", 3, 10.0)]
    report_of(stream.tally, logs_in(tmp_path), tmp_path / "scratch")
    assert not (tmp_path / "quarantine").exists()


def test_refused_rows_must_find_a_place(tmp_path: Path) -> None:
    put(tmp_path / "watches.csv", f"{HEADER}ann,soup,3,10\nann,soup,3,-1\n")
    (tmp_path / "quarantine").write_text("a file")
    stream = stream_of(tmp_path)
    assert len(rows_of(stream)) == 1
    with pytest.raises(DataError, match="a directory that can be written"):
        report_of(stream.tally, logs_in(tmp_path), tmp_path / "scratch")


def test_an_unreadable_file_is_left_out_only_if_so_wished(logs_dir: Path) -> None:
    (logs_dir / "watches" / "d.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"watches/d.parquet: expected a readable .parquet file"):
        rows_of(stream_of(logs_dir))
    config = LogsConfig(skip_unreadable_files=True, max_watch_share=2.0)
    stream = stream_of(logs_dir, config)
    assert rows_of(stream) == GOOD
    assert [file.file for file in stream.tally.unreadable] == ["watches/d.parquet"]
    assert stream.tally.unreadable == list(
        read_logs(logs_dir, config, now_ms=NOW_MS)[1].unreadable_files
    )


def test_an_empty_file_is_left_out_and_told(logs_dir: Path) -> None:
    (logs_dir / "watches" / "d.csv").touch()
    config = LogsConfig(max_watch_share=2.0)
    stream = stream_of(logs_dir, config)
    assert rows_of(stream) == GOOD
    assert stream.tally.unreadable == list(
        read_logs(logs_dir, config, now_ms=NOW_MS)[1].unreadable_files
    )


def test_a_file_that_is_damaged_in_its_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "watches.parquet"
    put(path, [(f"u{n}", "soup", n, 1.0) for n in range(100)])
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 4 : len(damaged) // 2] = b"\xff" * (
        len(damaged) // 2 - len(damaged) // 4
    )
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="a Parquet file that can be read to its end"):
        rows_of(stream_of(tmp_path, LogsConfig(skip_unreadable_files=True)))


def test_files_that_cannot_be_watches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="files of watches"):
        rows_of(stream_of(tmp_path))
    put(tmp_path / "watches.csv", "user_id,item_id,started_at_ms,seconds\n")
    with pytest.raises(DataError, match="a column watch_time_s"):
        rows_of(stream_of(tmp_path))
    pl.DataFrame({"user_id": ["ann"]}).write_parquet(tmp_path / "watches.parquet")
    (tmp_path / "watches.csv").unlink()
    with pytest.raises(DataError, match="a column item_id"):
        rows_of(stream_of(tmp_path))


def test_columns_units_and_separators_are_the_owners(tmp_path: Path) -> None:
    source = TableSource(
        files="plays/*.csv", columns={"user_id": "uid"}, time_unit="s", separator=";"
    )
    (tmp_path / "plays").mkdir()
    put(
        tmp_path / "plays" / "x.csv",
        "uid;item_id;started_at_ms;watch_time_s;mood\nann;soup;7;1;calm\n",
    )
    stream = stream_of(tmp_path, replace(LogsConfig(), watches=source))
    assert rows_of(stream) == [(0, "ann", "soup", 7_000, 1.0)]
    assert stream.tally.report().unused_columns == ("mood",)
