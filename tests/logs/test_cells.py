from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import DataError
from upnext.logs.cells import Cells, are_integers, clean_cells, clean_feature
from upnext.logs.sources import DurationUnit, TableSource, TimeUnit
from upnext.schema import KIND_DTYPES, ColumnKind


def clean(raw: pl.Series, kind: ColumnKind, **source: object) -> Cells:
    cells = clean_cells(
        raw.alias("x"),
        kind,
        where="a.csv, x",
        source=TableSource(**source),  # type: ignore[arg-type]
        ids_max_bytes=8,
    )
    assert cells.values.dtype in KIND_DTYPES[kind]
    return cells


def faults(cells: Cells) -> dict[str, list[int]]:
    return {reason: mask.arg_true().to_list() for reason, mask in cells.faults}


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["T", " "]),
)
def test_iso_8601_means_the_same_instant_in_every_zone(
    local: datetime, offset_minutes: int, between: str
) -> None:
    zoned = local.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    cells = clean(pl.Series([zoned.isoformat(between)]), "time_ms", time_unit="iso8601")
    since_1970 = zoned - datetime(1970, 1, 1, tzinfo=UTC)
    assert cells.values.to_list() == [since_1970 // timedelta(milliseconds=1)]


def test_iso_8601_in_its_many_spellings() -> None:
    noon = 1_767_614_400_000
    spellings = {
        "2026-01-05T12:00:00": noon,
        "2026-01-05 12:00Z": noon,
        " 2026-01-05T12:00:00z": noon,
        "2026-01-05T14:00:00+0200": noon,
        "2026-01-05T06:30:00.250-05:30": noon + 250,
        "2026-01-05": noon - 12 * 3_600_000,
    }
    cells = clean(pl.Series(list(spellings)), "time_ms", time_unit="iso8601")
    assert cells.values.to_list() == list(spellings.values())
    bad = pl.Series(["2026-02-30T00:00:00", "5 Jan 2026", "1767614400", "2026-01-05T12", None, ""])
    cells = clean(bad, "time_ms", time_unit="iso8601")
    assert faults(cells) == {"unparsable x": [0, 1, 2, 3]}
    assert cells.missing.to_list() == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("s", "1767614400.25"),
        ("ms", "1767614400250"),
        ("us", "1767614400250999"),
        ("ns", "1767614400250999999"),
    ],
)
def test_every_unit_gives_milliseconds(unit: TimeUnit, text: str) -> None:
    expected = [1_767_614_400_250]
    assert clean(pl.Series([text]), "time_ms", time_unit=unit).values.to_list() == expected
    if unit != "s":
        number = clean(pl.Series([int(text)]), "time_ms", time_unit=unit)
        assert number.values.to_list() == expected


def test_parquet_timestamps_carry_their_own_unit_and_zone() -> None:
    noon = datetime(2026, 1, 5, 12)
    expected = [1_767_614_400_000]
    for unit in ("ms", "us", "ns"):
        naive = pl.Series([noon], dtype=pl.Datetime(unit))
        assert clean(naive, "time_ms").values.to_list() == expected
        zoned = naive.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
        assert clean(zoned, "time_ms", time_unit="s").values.to_list() == expected
    day = clean(pl.Series([date(2026, 1, 5)]), "time_ms")
    assert day.values.to_list() == [expected[0] - 12 * 3_600_000]


def test_times_too_large_for_any_calendar_are_faults() -> None:
    text = pl.Series(["9" * 30, str(2**63 - 1), "-" + "9" * 18, "1e300", "inf", "nan", "0"])
    for unit in ("s", "ms"):
        assert faults(clean(text, "time_ms", time_unit=unit)) == {
            "unparsable x": [0, 1, 2, 3, 4, 5]
        }
    huge = pl.Series([2**64 - 1, 0], dtype=pl.UInt64)
    assert faults(clean(huge, "time_ms", time_unit="s")) == {"unparsable x": [0]}


@pytest.mark.parametrize(("unit", "factor"), [("s", 1.0), ("ms", 1_000.0)])
def test_durations_are_float32_seconds(unit: DurationUnit, factor: float) -> None:
    raw = pl.Series([12.5 * factor, 0.0, None])
    assert clean(raw, "seconds", duration_unit=unit).values.to_list() == [12.5, 0.0, None]
    text = raw.cast(pl.String)
    assert clean(text, "seconds", duration_unit=unit).values.to_list() == [12.5, 0.0, None]
    spans = pl.Series([timedelta(seconds=12.5)])
    assert clean(spans, "seconds", duration_unit=unit).values.to_list() == [12.5]


def test_nan_and_infinity_are_not_numbers() -> None:
    text = pl.Series(["nan", "-inf", "inf", "1e400", "1,5", "-0.5", " 7 "])
    cells = clean(text, "seconds")
    assert faults(cells) == {"x is not a number": [0, 1, 2, 3, 4], "negative x": [1, 5]}
    assert cells.values.to_list() == [None] * 6 + [7.0]
    numbers = pl.Series([float("nan"), float("inf"), -1.0, 7.0])
    assert faults(clean(numbers, "seconds")) == {"x is not a number": [0, 1], "negative x": [2]}


def test_ids_keep_what_their_owner_wrote() -> None:
    written = ["007", "Ünïcø", "日本", " a", "\U0001f39e"]
    cells = clean(pl.Series(written), "id")
    assert cells.values.to_list() == written
    assert cells.faults == ()


def test_ids_that_cannot_be_trusted_are_faults() -> None:
    text = pl.Series(["a\ufffd", "a\0", "ééééé", "1.23e+22", "éééé", "1e5"])
    assert faults(clean(text, "id")) == {
        "bad UTF-8 in x": [0],
        "null byte in x": [1],
        "x too long": [2],
        "x is a rounded number": [3],
    }
    assert faults(clean(pl.Series([b"ok", b"\xff", None]), "id")) == {"bad UTF-8 in x": [1]}


def test_number_ids() -> None:
    huge = pl.Series([2**64 - 1, 7], dtype=pl.UInt64)
    assert clean(huge, "id").values.to_list() == [str(2**64 - 1), "7"]
    with_gaps = clean(pl.Series([7.0, float("nan"), 7.5, None]), "id")
    assert with_gaps.values.to_list() == [7, None, None, None]
    assert with_gaps.missing.to_list() == [False, True, False, True]
    assert faults(with_gaps) == {"x is not a whole number": [2]}


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers_survive_as_text(numbers: list[int]) -> None:
    assert are_integers(pl.Series([str(number) for number in numbers], dtype=pl.String))


@pytest.mark.parametrize("text", ["007", "+7", "-0", "7.0", " 7", str(2**63), "seven"])
def test_text_that_is_not_the_only_way_to_write_an_integer(text: str) -> None:
    assert not are_integers(pl.Series(["1", text]))


def test_flags_and_counts() -> None:
    flags = clean(pl.Series(["true", "FALSE", "1", "0", "yes", None]), "flag")
    assert flags.values.to_list() == [True, False, True, False, None, None]
    assert faults(flags) == {"x is not true or false": [4]}
    assert clean(pl.Series([1, 0]), "flag").values.to_list() == [True, False]
    counts = clean(pl.Series(["3", "2.0", "2.5", "-1", "4e9"]), "count")
    assert counts.values.to_list() == [3, 2, None, None, None]
    assert faults(counts) == {"x is not a whole number": [2, 4], "negative x": [3]}
    chances = clean(pl.Series([0.0, 0.5, 1.0, 1.5]), "number")
    assert faults(chances) == {"x is not above 0 and up to 1": [0, 3]}


def test_tags_from_lists_json_and_separated_text() -> None:
    text = pl.Series(["a|b", '["a", "c|d"]', "[broken", "", "a||b", '[["a"]]', "[1, null]"])
    tags = clean(text, "ids")
    assert tags.values.to_list() == [
        ["a", "b"],
        ["a", "c|d"],
        None,
        None,
        ["a", "b"],
        None,
        ["1"],
    ]
    assert faults(tags) == {"x is not a list": [2, 5]}
    numbers = clean(pl.Series([[1, None, 2], None]), "ids")
    assert numbers.values.to_list() == [["1", "2"], None]
    assert clean(pl.Series(["a,b"]), "ids", tags_separator=",").values.to_list() == [["a", "b"]]


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (pl.Series([[1.0]]), "seconds"),
        (pl.Series([True]), "seconds"),
        (pl.Series([date(2026, 1, 5)]), "id"),
        (pl.Series([[1]]), "id"),
        (pl.Series([True]), "time_ms"),
        (pl.Series([{"a": 1}]), "text"),
        (pl.Series([[["a"]]]), "ids"),
    ],
)
def test_a_type_that_can_never_hold_the_kind_is_an_error(raw: pl.Series, kind: ColumnKind) -> None:
    with pytest.raises(DataError, match=r"^a\.csv, x: expected .*, got a column of type"):
        clean(raw, kind)


def test_numbers_are_no_iso_8601() -> None:
    with pytest.raises(DataError, match="expected text or timestamps"):
        clean(pl.Series([1]), "time_ms", time_unit="iso8601")


def test_features_of_text_files_become_numbers_where_all_are() -> None:
    def of(*text: str | None) -> list[object]:
        return clean_feature(pl.Series(text, dtype=pl.String), is_text=True).values.to_list()

    assert of("1", None, "20") == [1, None, 20]
    assert of("1", "2.5", "") == [1.0, 2.5, None]
    assert of("02139", "10001") == ["02139", "10001"]
    assert of("1", "many") == ["1", "many"]
    assert of(None, "") == [None, None]
    kept = clean_feature(pl.Series(["1", "2"]), is_text=False)
    assert kept.values.to_list() == ["1", "2"]
