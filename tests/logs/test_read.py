import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from upnext.config import config_from_table
from upnext.errors import ConfigError, DataError
from upnext.logs.read import LogsConfig, TableSource, check_logs, read_logs, write_logs
from upnext.schema import Impressions, Logs

NOW_MS = 1_800_000_000_000
HEADER = "user_id,item_id,started_at_ms,watch_time_s\n"


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def put_frame(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(columns).write_parquet(path)
    return path


def watch_rows(logs: Logs) -> list[tuple[object, ...]]:
    return logs.watches.frame.rows()


def test_one_table_reads_the_same_in_every_format(tmp_path: Path) -> None:
    users, items, times, lengths = ["ä", "b"], [7, 8], [1_000, 2_000], [1.5, 0.0]
    rows = list(zip(users, items, times, lengths, strict=True))
    names = HEADER.strip().split(",")
    csv_text = HEADER + "".join(f"{','.join(map(str, row))}\n" for row in rows)
    json_text = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    put(tmp_path / "a" / "watches.csv", csv_text)
    put(tmp_path / "b" / "watches" / "x.csv", "\ufeff" + csv_text.replace("\n", "\r\n"))
    put(tmp_path / "c" / "watches.tsv", csv_text.replace(",", "\t"))
    put(tmp_path / "d" / "watches.jsonl", "\n" + json_text)
    put(tmp_path / "e" / "watches.ndjson.gz", gzip.compress(json_text.encode()))
    put_frame(
        tmp_path / "f" / "watches" / "p.parquet",
        **dict(zip(names, (users, items, times, lengths), strict=True)),
    )
    for name in "abcdef":
        logs, report = read_logs(tmp_path / name)
        assert watch_rows(logs) == rows
        assert report.tables["watches"].num_accepted == 2
        assert report.tables["watches"].quarantined == {}


def test_a_column_map_renames_and_converts(tmp_path: Path) -> None:
    put(tmp_path / "plays" / "1.csv", "uid,vid,ts,ms,app\nu,v,2026-01-05T12:00:00+01:00,1500,tv\n")
    put(tmp_path / "plays" / "2.csv", "uid,vid,ts,ms,app\nu,w,2026-01-05 11:00,250,tv\n")
    table = {
        "watches": {
            "files": "plays/*.csv",
            "columns": {
                "user_id": "uid",
                "item_id": "vid",
                "started_at_ms": "ts",
                "watch_time_s": "ms",
            },
            "time_unit": "iso8601",
            "duration_unit": "ms",
        }
    }
    config = config_from_table(table, LogsConfig, where="run.toml [logs]")
    logs, report = read_logs(tmp_path, config)
    eleven = round(datetime(2026, 1, 5, 11, tzinfo=UTC).timestamp() * 1_000)
    assert watch_rows(logs) == [("u", "v", eleven, 1.5), ("u", "w", eleven, 0.25)]
    assert report.tables["watches"].unused_columns == ("app",)


@pytest.mark.parametrize("files", ["plays", "plays/*.csv", "pl*/1.csv", "plays/1.csv", "**/1.csv"])
def test_files_may_be_a_directory_a_glob_or_one_file(tmp_path: Path, files: str) -> None:
    put(tmp_path / "plays" / "1.csv", HEADER + "1,2,3,4\n")
    put(tmp_path / "plays" / "_SUCCESS", "")
    put(tmp_path / "quarantine" / "1.csv", HEADER + "9,9,9,9\n")
    logs, _ = read_logs(tmp_path, LogsConfig(watches=TableSource(files=files)))
    assert watch_rows(logs) == [(1, 2, 3, 4.0)]


def test_ids_are_integers_only_if_all_of_their_kind_are(tmp_path: Path) -> None:
    put(tmp_path / "watches.csv", HEADER + "1,10,3,4\n2,11,3,4\n")
    put(tmp_path / "items.csv", "item_id,channel_id\n10,007\n11,8\n")
    put_frame(tmp_path / "users.parquet", user_id=["1", "x"])
    logs, _ = read_logs(tmp_path)
    assert logs.users is not None
    assert logs.watches.frame["user_id"].to_list() == ["1", "2"]
    assert logs.users.frame["user_id"].to_list() == ["1", "x"]
    assert logs.watches.frame["item_id"].to_list() == [10, 11]
    assert logs.items.frame["item_id"].to_list() == [10, 11]
    assert logs.items.frame["channel_id"].to_list() == ["007", "8"]


def test_files_of_one_table_may_write_ids_differently(tmp_path: Path) -> None:
    columns = {"item_id": [5], "started_at_ms": [1], "watch_time_s": [1]}
    put_frame(tmp_path / "watches" / "a.parquet", user_id=[7], **columns)
    put_frame(tmp_path / "watches" / "b.parquet", user_id=["8"], **columns)
    put_frame(tmp_path / "watches" / "c.parquet", user_id=[9.0], **columns)
    assert read_logs(tmp_path)[0].watches.frame["user_id"].to_list() == [7, 8, 9]
    put_frame(tmp_path / "watches" / "d.parquet", user_id=["08"], **columns)
    assert read_logs(tmp_path)[0].watches.frame["user_id"].to_list() == ["7", "8", "9", "08"]


def test_an_id_in_a_refused_row_does_not_make_the_others_strings(tmp_path: Path) -> None:
    put(tmp_path / "watches.csv", HEADER + "1,2,3,4\nx,2,3,-4\n1,y,3,4\n")
    put(tmp_path / "items.csv", "item_id\n2\n")
    logs, report = read_logs(tmp_path)
    assert watch_rows(logs) == [(1, 2, 3, 4.0)]
    refused = {"negative watch_time_s": 1, "unknown item_id": 1}
    assert report.tables["watches"].quarantined == refused


def test_integers_beyond_int64_are_strings(tmp_path: Path) -> None:
    put(tmp_path / "watches.csv", HEADER + f"{2**63},2,3,4\n1,2,3,4\n")
    assert read_logs(tmp_path)[0].watches.frame["user_id"].to_list() == [str(2**63), "1"]


def test_other_columns_of_items_and_users_are_features(tmp_path: Path) -> None:
    put(tmp_path / "watches.csv", HEADER + "1,2,3,4\n")
    put(
        tmp_path / "items.jsonl",
        '{"item_id": 2, "tags": ["a", "b"], "lang": "de", "meta": {"inner": 1}}\n'
        '{"item_id": 3, "duration_s": 60, "lang": null, "rating": 4.5}\n',
    )
    put(tmp_path / "users.csv", "id,age,region\n1,33,Ticino\n2,,\n")
    config = LogsConfig(users=TableSource(columns={"user_id": "id", "country": "region"}))
    logs, report = read_logs(tmp_path, config)
    assert logs.items.frame.to_dicts()[1] == {
        "item_id": 3,
        "published_at_ms": None,
        "duration_s": 60.0,
        "channel_id": None,
        "tags": None,
        "title": None,
        "lang": None,
        "meta": None,
        "rating": 4.5,
    }
    assert logs.items.frame["tags"].to_list() == [["a", "b"], None]
    assert logs.users is not None
    assert logs.users.frame.to_dicts() == [
        {"user_id": 1, "age": 33, "country": "Ticino"},
        {"user_id": 2, "age": None, "country": None},
    ]
    assert report.tables["users"].unused_columns == ()


def test_watches_and_items_are_derived_where_they_have_no_files(tmp_path: Path) -> None:
    header = "request_id,user_id,item_id,shown_at_ms,position,watched,watch_time_s\n"
    put(tmp_path / "impressions.csv", header + "r,u,b,10,0,true,2.5\nr,u,a,10,1,false,\n")
    logs, report = read_logs(tmp_path)
    assert watch_rows(logs) == [("u", "b", 10, 2.5)]
    assert logs.items.frame["item_id"].to_list() == ["a", "b"]
    assert logs.impressions is not None
    assert logs.impressions.frame["watch_time_s"].to_list() == [2.5, 0.0]
    assert logs.impressions.frame.columns == header.strip().split(",")
    assert [sentence.split(":")[0] for sentence in report.derived] == ["watches", "items"]
    assert set(report.tables) == {"impressions"}


def test_a_watched_impression_needs_its_watch_time(tmp_path: Path) -> None:
    header = "request_id,user_id,item_id,shown_at_ms,position,watched,watch_time_s\n"
    put(tmp_path / "impressions.csv", header + "r,u,b,10,0,true,\nr,u,a,10,1,true,1\n")
    assert check_logs(tmp_path).tables["impressions"].quarantined == {"null watch_time_s": 1}


SHOWN = "request_id,user_id,item_id,shown_at_ms,position,watched"


def test_where_only_clicks_are_known_each_counts_alike(tmp_path: Path) -> None:
    put(
        tmp_path / "impressions.csv",
        f"{SHOWN}\n1,ann,hat,1,0,1\n1,ann,cap,1,1,0\n2,ben,cap,2,0,1\n",
    )
    with pytest.raises(DataError, match=r"watch_time_s.* missing_watch_time_s = 1 counts"):
        read_logs(tmp_path)
    logs, report = read_logs(tmp_path, LogsConfig(missing_watch_time_s=1.0))
    assert logs.impressions is not None
    assert logs.impressions.frame["watch_time_s"].to_list() == [1.0, 0.0, 1.0]
    assert watch_rows(logs) == [("ann", "hat", 1, 1.0), ("ben", "cap", 2, 1.0)]
    assert report.tables["impressions"].blanked == {"no watch_time_s, taken for 1": 2}
    assert report.tables["impressions"].quarantined == {}


def test_impressions_do_without_requests_and_positions(tmp_path: Path) -> None:
    put(
        tmp_path / "impressions" / "a.csv",
        "user_id,item_id,shown_at_ms,watched,watch_time_s\n"
        "ann,hat,1,1,9\nann,cap,1,0,\nben,cap,1,1,3\nann,hat,5,0,\nann,hat,,0,\n",
    )
    logs, report = read_logs(tmp_path)
    assert logs.impressions is not None
    found = logs.impressions.frame.select("user_id", "request_id", "position").rows()
    assert found == [("ann", 1, 0), ("ann", 1, 0), ("ben", 1, 0), ("ann", 5, 0)]
    assert report.tables["impressions"].quarantined == {"null shown_at_ms": 1}
    assert [one.split("; ")[-1] for one in report.derived[:2]] == [
        "request_id is in no column.",
        "position is in no column.",
    ]
    put(tmp_path / "impressions" / "b.csv", f"{SHOWN},watch_time_s\n7,ann,hat,9,3,1,2\n")
    logs, _ = read_logs(tmp_path)
    assert logs.impressions is not None
    assert logs.impressions.frame["request_id"].to_list() == [1, 1, 1, 5, 7]
    config = LogsConfig(impressions=TableSource(columns={"request_id": "page"}))
    with pytest.raises(DataError, match="a column page"):
        read_logs(tmp_path, config)


def test_what_is_no_number_is_refused_whatever_a_missing_one_counts(tmp_path: Path) -> None:
    put(
        tmp_path / "impressions.csv",
        f"{SHOWN},revenue\n1,ann,hat,1,0,1,9.5\n1,ann,cap,1,1,1,\n2,ben,cap,2,0,1,lots\n2,ben,hat,2,1,0,\n",
    )
    source = TableSource(columns={"watch_time_s": "revenue"})
    config = LogsConfig(impressions=source, missing_watch_time_s=0.0)
    logs, report = read_logs(tmp_path, config)
    assert watch_rows(logs) == [("ann", "hat", 1, 9.5), ("ann", "cap", 1, 0.0)]
    assert report.tables["impressions"].blanked == {"no watch_time_s, taken for 0": 1}
    assert report.tables["impressions"].quarantined == {"watch_time_s is not a number": 1}
    put(tmp_path / "impressions.csv", f"{SHOWN}\n1,ann,hat,1,0,1\n")
    with pytest.raises(DataError, match="a column revenue"):
        read_logs(tmp_path, config)


def test_a_propensity_is_of_a_slot_that_must_be_told(tmp_path: Path) -> None:
    header = "user_id,item_id,shown_at_ms,watched,watch_time_s,propensity\n"
    put(tmp_path / "impressions.csv", f"{header}ann,hat,1,1,9,0.5\n")
    with pytest.raises(DataError, match="a column position"):
        read_logs(tmp_path)


@pytest.mark.parametrize("missing_s", [-1.0, float("nan"), 1e9])
def test_what_a_missing_watch_time_counts_is_a_watch_time(missing_s: float) -> None:
    with pytest.raises(ConfigError, match="missing_watch_time_s"):
        LogsConfig(missing_watch_time_s=missing_s)


def test_what_is_written_reads_back_and_has_the_same_bytes(tmp_path: Path) -> None:
    header = "request_id,user_id,item_id,shown_at_ms,position,watched,watch_time_s,source\n"
    put(tmp_path / "raw" / "impressions.csv", header + "r,u,b,10,0,true,2.5,home\n")
    put(tmp_path / "raw" / "searches.csv", "user_id,searched_at_ms,query\nu,5,slow ramen\n")
    put(tmp_path / "raw" / "users.csv", "user_id,region\nu,north\n")
    put(tmp_path / "raw" / "items.csv", "item_id,tags,duration_s\nb,x|y,60\n")
    logs, _ = read_logs(tmp_path / "raw")
    for name in ("one", "two"):
        write_logs(logs, tmp_path / name)
    again, report = read_logs(tmp_path / "one")
    assert again.watches.frame.equals(logs.watches.frame)
    assert again.items.frame.equals(logs.items.frame)
    assert isinstance(again.impressions, Impressions)
    assert isinstance(logs.impressions, Impressions)
    assert again.impressions.frame.equals(logs.impressions.frame)
    assert all(not table.quarantined for table in report.tables.values())
    written = sorted((tmp_path / "one").rglob("*.parquet"))
    assert len(written) == 5
    for path in written:
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes()


def test_writing_never_mixes_with_other_files(tmp_path: Path) -> None:
    put(tmp_path / "watches" / "old.csv", HEADER + "1,2,3,4\n")
    logs, _ = read_logs(tmp_path)
    with pytest.raises(DataError, match="expected no other files of watches"):
        write_logs(logs, tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all" * 9])
def test_a_corrupt_file_is_named(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "watches" / "a.csv", HEADER + "1,2,3,4\n")
    put(tmp_path / "watches" / "b.parquet", content)
    with pytest.raises(DataError, match=r"^watches/b\.parquet: .*\nHint: .*skip_unreadable_files"):
        read_logs(tmp_path)
    logs, report = read_logs(tmp_path, LogsConfig(skip_unreadable_files=True))
    assert watch_rows(logs) == [(1, 2, 3, 4.0)]
    assert [file.file for file in report.unreadable_files] == ["watches/b.parquet"]
    assert "watches/b.parquet" in report.to_text()


@pytest.mark.parametrize("name", ["b.csv", "b.jsonl", "b.tsv.gz"])
def test_an_hour_without_events_leaves_an_empty_file_that_is_told(
    tmp_path: Path, name: str
) -> None:
    put(tmp_path / "watches" / "a.csv", HEADER + "1,2,3,4\n")
    nothing = gzip.compress(b"") if name.endswith(".gz") else b""
    put(tmp_path / "watches" / name, nothing)
    logs, report = read_logs(tmp_path)
    assert watch_rows(logs) == [(1, 2, 3, 4.0)]
    left_out = [(one.file, one.cause) for one in report.unreadable_files]
    assert left_out == [(f"watches/{name}", "an empty file")]
    put(tmp_path / "searches" / name, nothing)
    logs, report = read_logs(tmp_path)
    assert logs.searches is None
    assert (f"searches/{name}", "an empty file") in [
        (one.file, one.cause) for one in report.unreadable_files
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("watches.csv", "", "impressions/ with files that are not empty, got watches.csv"),
        ("watches.csv", "\n", "no header line"),
        ("watches.csv", HEADER, "expected at least one good row, got none"),
        ("watches.jsonl", "\n", "expected a column user_id, got no columns"),
        ("watches.csv", "user,item_id,started_at_ms,watch_time_s\n", "did you mean 'user'"),
        ("watches.csv", HEADER.replace("watch_time_s", "x"), "columns = { watch_time_s = "),
        ("watches.csv", HEADER.encode("utf-16"), "UTF-16"),
        ("watches.csv.gz", b"\x1f\x8bbroken", "watches.csv.gz: expected a readable"),
        ("watches/notes.txt", "hello", "watches/notes.txt: expected a file that ends in"),
    ],
)
def test_logs_that_cannot_be_read_say_why(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    put(tmp_path / name, content)
    with pytest.raises(DataError) as raised:
        read_logs(tmp_path)
    assert words in str(raised.value)


def test_a_column_of_an_impossible_type_is_an_error(tmp_path: Path) -> None:
    put_frame(
        tmp_path / "watches.parquet",
        user_id=[1],
        item_id=[2],
        started_at_ms=[3],
        watch_time_s=[[4.0]],
    )
    with pytest.raises(DataError, match=r"^watches\.parquet, watch_time_s: expected numbers"):
        read_logs(tmp_path)


def test_no_files_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected watches/ or impressions/"):
        read_logs(tmp_path)
    with pytest.raises(DataError, match="got no such directory"):
        read_logs(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"files that match 'plays-\*\.csv'"):
        read_logs(tmp_path, LogsConfig(watches=TableSource(files="plays-*.csv")))


def test_a_table_of_bad_rows_alone_is_an_error_with_the_commonest_reason(tmp_path: Path) -> None:
    put(tmp_path / "watches.csv", HEADER + "1,2,2026-01-05T12:00:00,4\n,2,3,4\n1,3,yesterday,4\n")
    with pytest.raises(DataError, match=r"3 bad ones, most often: unparsable") as raised:
        read_logs(tmp_path)
    assert "time_unit" in raised.value.hint
    assert (tmp_path / "quarantine" / "watches.parquet").exists()


def test_a_day_without_searches_is_ordinary(tmp_path: Path) -> None:
    put(tmp_path / "watches.csv", HEADER + "1,2,3,4\n")
    put(tmp_path / "searches.csv", "user_id,searched_at_ms,query\n")
    logs, report = read_logs(tmp_path)
    assert logs.searches is None
    assert report.tables["searches"].num_read == 0


@pytest.mark.parametrize(
    "table",
    [
        {"watches": {"columns": {"usr_id": "uid"}}},
        {"max_watch_time_s": 0.0},
        {"ids_max_bytes": -1},
        {"watches": {"separator": "::"}},
        {"watches": {"time_unit": "weeks"}},
        {"clicks": {"files": "x"}},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        config_from_table(table, LogsConfig, where="run.toml [logs]")


def test_a_column_that_the_map_names_must_be_there_though_it_may_be_absent(tmp_path: Path) -> None:
    put(tmp_path / "watches.csv", HEADER + "1,2,3,4\n")
    put(tmp_path / "items.csv", "item_id,published\n2,1786000000000\n")
    read_logs(tmp_path)
    slip = LogsConfig(items=TableSource(columns={"published_at_ms": "publised"}))
    with pytest.raises(DataError, match="expected a column publised") as caught:
        read_logs(tmp_path, slip)
    assert "did you mean 'published'?" in caught.value.hint


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_header_that_another_mark_takes_apart_is_told_so(tmp_path: Path, mark: str) -> None:
    put(tmp_path / "watches.csv", (HEADER + "1,2,3,4\n").replace(",", mark))
    with pytest.raises(DataError, match="expected a column user_id") as caught:
        read_logs(tmp_path)
    assert f"[logs.watches] separator = {json.dumps(mark)}" in caught.value.hint
    logs, _ = read_logs(tmp_path, LogsConfig(watches=TableSource(separator=mark)))
    assert logs.watches.frame.height == 1


def test_a_map_the_wrong_way_round_is_told_so() -> None:
    with pytest.raises(ConfigError, match="the unknown column 'uid'") as caught:
        LogsConfig(watches=TableSource(columns={"uid": "user_id"}))
    assert caught.value.hint == "our name comes first: user_id = 'uid'."
