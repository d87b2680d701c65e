import json
import tempfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.errors import DataError
from upnext.logs.read import LogsConfig, TableSource, check_logs, read_logs
from upnext.logs.report import MAX_CELL_CHARS, NUM_EXAMPLES, CheckReport, RefusedRow
from upnext.schema import MS_PER_DAY

NOW_MS = 1_000_000
HEADER = b"user_id,item_id,started_at_ms,watch_time_s\n"
GOOD = b"u,a,1,2.5\n"
IMPRESSION_HEADER = "request_id,user_id,item_id,shown_at_ms,position,watched,watch_time_s"


def check(
    directory: Path, watches: bytes, config: LogsConfig | None = None, name: str = "watches.csv"
) -> CheckReport:
    (directory / name).write_bytes(watches)
    return check_logs(directory, config or LogsConfig(), now_ms=NOW_MS)


def quarantine(directory: Path, table: str = "watches") -> pl.DataFrame:
    return pl.read_parquet(directory / "quarantine" / f"{table}.parquet")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b",a,1,2", "null user_id"),
        (b"u\xff,a,1,2", "bad UTF-8 in user_id"),
        (b"u,a\x00,1,2", "null byte in item_id"),
        (b"u," + b"a" * 257 + b",1,2", "item_id too long"),
        (b"1.23457E+22,a,1,2", "user_id is a rounded number"),
        (b"u,a,,2", "null started_at_ms"),
        (b"u,a,noon,2", "unparsable started_at_ms"),
        (b"u,a,1000001,2", "time in the future"),
        (b"u,a,-1,2", "time before 1970"),
        (b"u,a,1,", "null watch_time_s"),
        (b"u,a,1,long", "watch_time_s is not a number"),
        (b"u,a,1,NaN", "watch_time_s is not a number"),
        (b"u,a,1,inf", "watch_time_s is not a number"),
        (b"u,a,1,-0.1", "negative watch_time_s"),
        (b"u,a,1,86401", "watch_time_s above 86400"),
        (b"u,a,1,9", "duplicate"),
        (b"u,a,1", "broken line"),
        (b"u,a,1,2,3", "broken line"),
        (b'u,"a,1,2', "broken line"),
        (b",a,noon,-1", "null user_id"),
    ],
)
def test_each_bad_row_is_refused_for_its_first_reason(
    tmp_path: Path, row: bytes, reason: str
) -> None:
    report = check(tmp_path, HEADER + GOOD + row + b"\n").tables["watches"]
    assert (report.num_read, report.num_accepted) == (2, 1)
    assert report.quarantined == {reason: 1}
    refused = quarantine(tmp_path)
    assert refused.select("file", "row", "reason").rows() == [("watches.csv", 3, reason)]


@pytest.mark.parametrize("line", ["{", "[1]", '"u"', '{"user_id": NaN}', '{"user_id": 1} {}', "7"])
def test_a_broken_json_line_costs_only_itself(tmp_path: Path, line: str) -> None:
    good = json.dumps({"user_id": "u", "item_id": "a", "started_at_ms": 1, "watch_time_s": 1})
    text = f"{good}\n\n{line}\n"
    report = check(tmp_path, text.encode(), name="watches.jsonl").tables["watches"]
    assert (report.num_read, report.quarantined) == (2, {"broken line": 1})
    assert quarantine(tmp_path).select("row", "line").rows() == [(3, line)]


def test_the_quarantine_keeps_what_came(tmp_path: Path) -> None:
    (tmp_path / "watches").mkdir()
    (tmp_path / "watches" / "a.csv").write_bytes(
        b"row,uid,item_id,started_at_ms,watch_time_s\n9,u,a,1,2\n9,u,a,1,oops\n"
    )
    names = {"uid": ["u", "u"], "item_id": ["b", "b"], "watch_time_s": [1.0, 2.0]}
    pl.DataFrame({**names, "started_at_ms": [5, 5]}).write_parquet(
        tmp_path / "watches" / "b.parquet"
    )
    config = LogsConfig(watches=TableSource(columns={"user_id": "uid"}))
    check_logs(tmp_path, config, now_ms=NOW_MS)
    rows = quarantine(tmp_path).to_dicts()
    assert [(row["file"], row["row"], row["reason"]) for row in rows] == [
        ("watches/a.csv", 3, "watch_time_s is not a number"),
        ("watches/b.parquet", 2, "duplicate"),
    ]
    assert [row["uid"] for row in rows] == ["u", "u"]
    assert [row["watch_time_s"] for row in rows] == ["oops", "2.0"]


def test_examples_are_the_first_refused_rows_of_each_reason_as_they_came(tmp_path: Path) -> None:
    long = b"x" * (2 * MAX_CELL_CHARS)
    bad = b"".join(b"u,%d,1,-1\n" % n for n in range(5)) + b"u," + long + b",1,oops\n,a,1,2\nu,a\n"
    table = check(tmp_path, HEADER + GOOD + bad).tables["watches"]
    cells = {"user_id": "u", "started_at_ms": "1", "watch_time_s": "-1"}
    negative = [
        RefusedRow(
            reason="negative watch_time_s",
            file="watches.csv",
            row=3 + n,
            cells=cells | {"item_id": str(n)},
        )
        for n in range(NUM_EXAMPLES)
    ]
    broken, *others, nobody = table.examples
    assert broken == RefusedRow(
        reason="broken line", file="watches.csv", row=10, cells={"line": "u,a"}
    )
    assert others[1:] == negative
    assert others[0].reason == "item_id too long"
    assert others[0].cells["item_id"] == "x" * MAX_CELL_CHARS
    assert (nobody.reason, nobody.row, nobody.cells["user_id"]) == ("null user_id", 9, "")


def test_a_cell_that_is_null_has_no_text(tmp_path: Path) -> None:
    columns = {"user_id": ["u", None], "item_id": ["a", "b"], "started_at_ms": [1, 2]}
    pl.DataFrame(columns | {"watch_time_s": [1.0, 2.5]}).write_parquet(tmp_path / "watches.parquet")
    (row,) = check_logs(tmp_path, now_ms=NOW_MS).tables["watches"].examples
    assert row.cells == {"item_id": "b", "started_at_ms": "2", "watch_time_s": "2.5"}


def test_days_with_rows_are_counted_in_utc(tmp_path: Path) -> None:
    times = [0, MS_PER_DAY - 1, MS_PER_DAY, 3 * MS_PER_DAY, 3 * MS_PER_DAY, 9 * MS_PER_DAY]
    lines = [b"u,a%d,%d,1\n" % one for one in enumerate(times)]
    (tmp_path / "items.csv").write_text("item_id\n" + "".join(f"a{n}\n" for n in range(5)))
    (tmp_path / "watches.csv").write_bytes(HEADER + b"".join(lines))
    report = check_logs(tmp_path, now_ms=10 * MS_PER_DAY)
    days = [(day.day_ms, day.num_rows) for day in report.tables["watches"].per_day]
    assert days == [(0, 2), (MS_PER_DAY, 1), (3 * MS_PER_DAY, 2)]
    assert report.tables["items"].per_day == ()


def test_a_later_check_removes_the_quarantine_of_an_earlier_one(tmp_path: Path) -> None:
    check(tmp_path, HEADER + GOOD + b"u,a,1,-1\n")
    assert quarantine(tmp_path).height == 1
    check(tmp_path, HEADER + GOOD)
    assert list((tmp_path / "quarantine").iterdir()) == []


def test_items_know_their_watches(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,duration_s\na,10\nb,\na,99\n")
    watches = HEADER + b"u,a,1,25\nu,a,2,15\nu,b,3,999\nu,z,4,1\n"
    report = check(tmp_path, watches, LogsConfig(max_watch_share=2.0))
    assert report.tables["items"].quarantined == {"duplicate": 1}
    refused = {"unknown item_id": 1, "watch longer than the item": 1}
    assert report.tables["watches"].quarantined == refused
    assert (
        "watch longer than the item" not in check(tmp_path, watches).tables["watches"].quarantined
    )


def test_a_bad_cell_that_may_be_missing_is_blanked_and_counted(tmp_path: Path) -> None:
    (tmp_path / "watches.csv").write_bytes(HEADER + GOOD)
    (tmp_path / "items.csv").write_bytes(
        b"item_id,duration_s,published_at_ms,title,tags,mood\n"
        b"a,-5,soon,caf\xe9,[x,calm\nb,60,99000000,fine,x|y,\xff\n"
    )
    logs, report = read_logs(tmp_path, now_ms=NOW_MS)
    items = report.tables["items"]
    assert (items.num_read, items.num_accepted, items.quarantined) == (2, 2, {})
    assert items.blanked == {
        "negative duration_s": 1,
        "unparsable published_at_ms": 1,
        "bad UTF-8 in title": 1,
        "tags is not a list": 1,
        "bad UTF-8 in mood": 1,
    }
    first, second = logs.items.frame.to_dicts()
    assert first == dict.fromkeys(first) | {"item_id": "a", "mood": "calm"}
    assert second["published_at_ms"] == 99_000_000


def test_impressions_repeat_by_request_item_and_position(tmp_path: Path) -> None:
    (tmp_path / "impressions.csv").write_text(
        "request_id,user_id,item_id,shown_at_ms,position,watched,watch_time_s,propensity\n"
        "1,u,a,1,0,1,3,0.5\n1,u,a,2,0,1,4,0.5\n2,u,a,2,0,0,,0.5\n2,u,b,2,x,0,0,0.5\n"
        "2,u,b,2,1,maybe,0,0.5\n2,u,b,2,-1,0,0,1\n1,v,a,1,0,1,3,0.5\n"
    )
    report = check_logs(tmp_path, now_ms=NOW_MS).tables["impressions"]
    assert report.num_accepted == 3, "two users may have equal request ids"
    assert report.quarantined == {
        "duplicate": 1,
        "position is not a whole number": 1,
        "watched is not true or false": 1,
        "negative position": 1,
    }


def test_a_propensity_that_is_missing_or_impossible_costs_no_impression(tmp_path: Path) -> None:
    (tmp_path / "impressions.csv").write_text(
        f"{IMPRESSION_HEADER},source,propensity\n1,u,a,1,0,1,3,home,0.5\n"
        "1,u,b,1,1,0,0,,\n1,u,c,1,2,0,0,home,1.5\n1,u,d,1,3,0,0,caf\ufffd,often\n"
    )
    logs, report = read_logs(tmp_path, now_ms=NOW_MS)
    counts = report.tables["impressions"]
    assert (counts.num_accepted, counts.quarantined) == (4, {})
    assert counts.blanked == {
        "propensity is not above 0 and up to 1": 1,
        "propensity is not a number": 1,
        "bad UTF-8 in source": 1,
    }
    assert logs.impressions is not None
    assert logs.impressions.frame["propensity"].to_list() == [0.5, None, None, None]
    assert logs.impressions.frame["source"].to_list() == ["home", None, "home", None]


def test_a_column_that_only_some_files_have_is_null_in_the_others(tmp_path: Path) -> None:
    (tmp_path / "impressions").mkdir()
    (tmp_path / "impressions" / "1.csv").write_text(f"{IMPRESSION_HEADER}\n1,u,a,1,0,1,3\n")
    (tmp_path / "impressions" / "2.csv").write_text(
        f"{IMPRESSION_HEADER},source\n2,u,a,1,0,1,3,home\n"
    )
    logs, report = read_logs(tmp_path, now_ms=NOW_MS)
    assert report.tables["impressions"].quarantined == {}
    assert logs.impressions is not None
    assert logs.impressions.frame["source"].to_list() == [None, "home"]
    assert "propensity" not in logs.impressions.frame.columns


def test_a_search_needs_words(tmp_path: Path) -> None:
    (tmp_path / "searches.csv").write_text(
        'user_id,searched_at_ms,query\nu,1,"slow, ramen"\nu,1,\nu,1,"slow, ramen"\nu,2,7\n'
    )
    report = check(tmp_path, HEADER + GOOD).tables["searches"]
    assert report.quarantined == {"null query": 1, "duplicate": 1}
    assert (report.first_ms, report.last_ms) == (1, 2)


def test_the_report_tells_all(tmp_path: Path) -> None:
    report = check(tmp_path, HEADER.replace(b"\n", b",app\n") + b"u,a,1,1,tv\nu,a,1,-1,tv\n")
    text = report.to_text()
    for words in ("watches", "negative watch_time_s", "app", "items: the ids that occur"):
        assert words in text
    table = json.loads(json.dumps(report.to_dict()))["tables"]["watches"]
    assert table["num_read"] == 2
    assert table["quarantined"] == {"negative watch_time_s": 1}


def test_a_quarantine_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "quarantine").write_text("in the way")
    with pytest.raises(DataError, match="expected a directory that can be written"):
        check(tmp_path, HEADER + GOOD + b"u,a,1,-1\n")


cell = st.sampled_from(
    [b"", b"a", b"7", b"-1", b"nan", b"\xff", b"\x00", b'"', b'"x,\ny"', b"1e99"]
)
csv_line = st.lists(cell, min_size=1, max_size=5).map(b",".join)
json_line = st.sampled_from(
    [
        b'{"user_id": 1, "item_id": 7, "started_at_ms": 2, "watch_time_s": 3}',
        b'{"user_id": "u", "item_id": null, "started_at_ms": 2, "watch_time_s": 3}',
        b'{"user_id": "u\xff", "item_id": "a", "started_at_ms": 2, "watch_time_s": "x"}',
        b'{"user_id": "u", "item_id": "a"',
        b'{"watch_time_s": [1]}',
        b"\xff\x00",
        b"",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    watches=st.lists(csv_line, max_size=8),
    more_watches=st.lists(json_line, max_size=6),
    searches=st.lists(csv_line, max_size=6),
    items=st.lists(csv_line, max_size=6),
)
def test_accepted_and_quarantined_are_what_was_read(
    watches: list[bytes], more_watches: list[bytes], searches: list[bytes], items: list[bytes]
) -> None:
    good_json = b'{"user_id": "w", "item_id": "a", "started_at_ms": 1, "watch_time_s": 2}\n'
    files = {
        "watches.csv": HEADER + GOOD + b"\n".join(watches),
        "watches.jsonl": good_json + b"\n".join(more_watches),
        "searches.csv": b"user_id,searched_at_ms,query\nu,1,q\n" + b"\n".join(searches),
        "items.csv": b"item_id,duration_s,title,mood\na,9,x,y\n" + b"\n".join(items),
    }
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for file, content in files.items():
            (directory / file).write_bytes(content)
        logs, report = read_logs(directory, now_ms=NOW_MS)
        assert logs.watches.frame.height == report.tables["watches"].num_accepted >= 2
        assert logs.items.frame.height == report.tables["items"].num_accepted
        for table, counts in report.tables.items():
            assert counts.num_accepted + sum(counts.quarantined.values()) == counts.num_read
            path = directory / "quarantine" / f"{table}.parquet"
            refused = pl.read_parquet(path) if path.exists() else pl.DataFrame()
            assert refused.height == counts.num_read - counts.num_accepted
            if table != "items":
                assert sum(day.num_rows for day in counts.per_day) == counts.num_accepted
            shown = Counter(row.reason for row in counts.examples)
            assert shown == {r: min(n, NUM_EXAMPLES) for r, n in counts.quarantined.items()}
            for row in counts.examples:
                (found,) = refused.filter(file=row.file, row=row.row, reason=row.reason).to_dicts()
                assert row.cells.items() <= found.items()


@given(json_lines=st.lists(json_line, max_size=9))
@settings(max_examples=20, deadline=None)
def test_every_line_with_anything_in_it_counts_as_read(json_lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        report = check(Path(name), HEADER + GOOD)
        (Path(name) / "watches.jsonl").write_bytes(
            b'{"user_id": "w", "item_id": "a", "started_at_ms": 1, "watch_time_s": 2}\n'
            + b"\n".join(json_lines)
        )
        again = check_logs(Path(name), now_ms=NOW_MS)
    num_more = again.tables["watches"].num_read - report.tables["watches"].num_read
    assert num_more == 1 + sum(line.strip() != b"" for line in json_lines)


DAYS = [1_786_000_000 + 86_400 * day for day in range(20)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([f"u,a,{at},60" for at in DAYS], "[logs.watches] time_unit may have to be 's'"),
        ([f"u,a,{at}000,90000" for at in DAYS], "[logs.watches] duration_unit may have to be 'ms'"),
        (
            [*(f"u,a,{at}000,60" for at in DAYS), "u,b,2026-08-06,60", "u,c,2026-08-06,60"],
            "[logs.watches] time_unit may not be that of started_at_ms",
        ),
        ([f"u,a,{at}000,60" for at in DAYS], None),
        ([*(f"u,a,{at}000,60" for at in DAYS), "u,b,noon,60"], None),
    ],
)
def test_units_that_many_rows_belie_are_asked_about(
    tmp_path: Path, rows: list[str], says: str | None
) -> None:
    (tmp_path / "watches.csv").write_bytes(HEADER + "\n".join([*rows, "v,a,9000,1"]).encode())
    text = check_logs(tmp_path, now_ms=2_000_000_000_000).to_text()
    assert ("Hint: " in text) == (says is not None)
    assert (says or "") in text
