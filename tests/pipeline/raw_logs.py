"""Small logs as their owners might write them: many formats, kinds of ids, bad rows and repeats."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import strategies as st

import upnext.examples.prepared
import upnext.examples.sorting
import upnext.logs.pieces
from upnext.errors import DataError

NOW_MS = 1_000
WATCH_NAMES = ("user_id", "item_id", "started_at_ms", "watch_time_s")
SEARCH_NAMES = ("user_id", "searched_at_ms", "query")
SHOWN_NAMES = ("request_id", "user_id", "item_id", "shown_at_ms", "position", "watched")

numbers = st.integers(0, 3)
times = st.integers(0, 8)
seconds = st.sampled_from([0.0, 1.0, 2.5, 3.0, 4.0, -1.0, None])
watches = st.lists(st.tuples(numbers, numbers, times, seconds), min_size=5, max_size=20)
searches = st.lists(
    st.tuples(numbers, times, st.sampled_from(["tea", "slow tea", ""])), min_size=2, max_size=5
)
shown = st.lists(
    st.tuples(numbers, numbers, numbers, times, numbers, st.booleans()), min_size=1, max_size=6
)

Lines = Sequence[tuple[Any, ...]]


@st.composite
def id_writers(draw: st.DrawFn) -> Any:
    """How an owner writes ids: 3, "i3" or "03"; some files may have another way than others."""
    return draw(st.sampled_from([int, int, lambda n: f"i{n}", lambda n: f"{n:02}", str]))


@st.composite
def raw_logs(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """Lines of each file, as its owner would write them."""
    files = {}
    user_id, item_id = draw(id_writers()), draw(id_writers())
    for number in range(draw(st.integers(1, 3))):
        other = draw(st.booleans())
        user, item = (draw(id_writers()), draw(id_writers())) if other else (user_id, item_id)
        lines = [
            dict(zip(WATCH_NAMES, (user(u), item(i), at_ms, spent), strict=True))
            for u, i, at_ms, spent in draw(watches)
        ]
        suffix = draw(st.sampled_from(["parquet", "csv", "jsonl"]))
        files[f"watches/{number}.{suffix}"] = lines
    if draw(st.booleans()):
        files["searches.csv"] = [
            dict(zip(SEARCH_NAMES, (user_id(u), at_ms, query), strict=True))
            for u, at_ms, query in draw(searches)
        ]
    if draw(st.booleans()):
        files["impressions.csv"] = [
            dict(zip(SHOWN_NAMES, (r, user_id(u), item_id(i), at_ms, p, w), strict=True))
            | {"watch_time_s": 1.0}
            for r, u, i, at_ms, p, w in draw(shown)
        ]
    if draw(st.booleans()):
        files["items.jsonl"] = [
            {
                "item_id": item_id(n),
                "published_at_ms": 3 if n % 2 else None,
                "duration_s": 2.0,
                "channel_id": f"c{n % 2}",
                "tags": ["a", "b"][: n % 3],
                "title": f"title {n}",
            }
            for n in draw(st.lists(numbers, min_size=3, max_size=6))
        ]
    if draw(st.booleans()):
        files["users.csv"] = [{"user_id": user_id(n)} for n in draw(st.lists(numbers, max_size=6))]
    return files


def write(files: Mapping[str, list[dict[str, Any]]], directory: Path) -> None:
    for name, lines in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pl.DataFrame(lines, strict=False, infer_schema_length=None)
        if path.suffix == ".parquet":
            table = table if lines else pl.DataFrame(schema=dict.fromkeys(WATCH_NAMES, pl.Int64))
            table.write_parquet(path, row_group_size=3)
        elif path.suffix == ".csv":
            header = list(lines[0]) if lines else [*WATCH_NAMES, *SEARCH_NAMES, *SHOWN_NAMES]
            texts = [",".join("" if v is None else str(v) for v in line.values()) for line in lines]
            path.write_text("\n".join([",".join(dict.fromkeys(header)), *texts]) + "\n")
        else:
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@contextmanager
def few_at_once() -> Iterator[None]:
    """Batches, buckets and pieces of a few events, so that a handful needs several of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnext.logs.pieces, "ROWS_AT_ONCE", 3)
        patch.setattr(upnext.examples.sorting, "RECORDS_AT_ONCE", 4)
        patch.setattr(upnext.examples.sorting, "USERS_PER_BUCKET", 2)
        patch.setattr(upnext.examples.prepared, "EVENTS_AT_ONCE", 3)
        yield


def outcome(call: Any) -> Any:
    """What a call returns, or its error."""
    try:
        return call()
    except DataError as error:
        return error


def refused(directory: Path) -> dict[str, pl.DataFrame]:
    return {path.stem: pl.read_parquet(path) for path in directory.glob("quarantine/*.parquet")}
