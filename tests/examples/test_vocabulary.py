import io
import tracemalloc

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import upnext.examples.vocabulary
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
integers = st.integers(-(2**63), 2**63 - 1)
columns = st.one_of(
    st.lists(texts, max_size=20).map(lambda ids: pl.Series(ids, dtype=pl.String)),
    st.lists(integers, max_size=20).map(lambda ids: pl.Series(ids, dtype=pl.Int64)),
)


@given(columns)
def test_ids_survive_the_way_to_rows_and_back(ids: pl.Series) -> None:
    vocabulary = Vocabulary.by_frequency(ids)
    rows = vocabulary.rows(ids)
    assert rows.dtype == np.int32
    assert [vocabulary.id(row) for row in rows] == vocabulary.ids_in(rows) == ids.to_list()
    assert vocabulary.series().to_list() == [
        vocabulary.id(row) for row in range(NUM_RESERVED_ROWS, vocabulary.num_rows)
    ]
    assert vocabulary.num_rows == ids.n_unique() + NUM_RESERVED_ROWS


@given(columns, columns)
def test_a_series_and_a_list_find_the_same_rows(known: pl.Series, asked: pl.Series) -> None:
    vocabulary = Vocabulary.by_frequency(known)
    of_series = vocabulary.rows(asked)
    assert (of_series == vocabulary.rows(asked.to_list())).all()
    assert of_series.tolist() == [vocabulary.row(one_id) for one_id in asked.to_list()]


@given(columns)
def test_only_the_ids_of_training_are_known(ids: pl.Series) -> None:
    half = ids.head(ids.len() // 2)
    known = set(half.to_list())
    rows = Vocabulary.by_frequency(half).rows(ids)
    assert [row != UNKNOWN_ROW for row in rows] == [one_id in known for one_id in ids.to_list()]


@given(columns)
def test_saved_arrays_are_the_vocabulary(ids: pl.Series) -> None:
    def saved(array: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        file.seek(0)
        loaded: np.ndarray = np.load(file, allow_pickle=False)
        return loaded

    vocabulary = Vocabulary.by_frequency(ids)
    again = Vocabulary(saved(vocabulary.ids), saved(vocabulary.order))
    assert (again.rows(ids) == vocabulary.rows(ids)).all()
    assert again.series().equals(vocabulary.series())
    assert again.ids_are_integers == (ids.dtype == pl.Int64)


@given(st.lists(st.sampled_from("abcde"), max_size=40))
def test_rows_stand_by_falling_frequency_then_by_id(ids: list[str]) -> None:
    ordered = sorted(set(ids), key=lambda one_id: (-ids.count(one_id), one_id))
    assert Vocabulary.by_frequency(pl.Series(ids, dtype=pl.String)).series().to_list() == ordered


def test_the_rare_and_the_surplus_are_unknown() -> None:
    ids = pl.Series(["a", "b", "b", "c", "c", "d", "d", "d"])
    frequent = Vocabulary.by_frequency(ids, min_count=2)
    assert frequent.rows(["a", "b", "c", "d"]).tolist() == [1, 3, 4, 2]
    first_two = Vocabulary.by_frequency(ids, max_ids=2)
    assert first_two.rows(["a", "b", "c", "d"]).tolist() == [1, 3, 1, 2]
    assert Vocabulary.by_frequency(ids, max_ids=2, min_count=3).num_rows == NUM_RESERVED_ROWS + 1


def test_nulls_are_nobody() -> None:
    vocabulary = Vocabulary.by_frequency(pl.Series(["a", None, None, "None"]))
    assert vocabulary.series().to_list() == ["None", "a"]
    assert vocabulary.rows(pl.Series([None, "a", None])).tolist() == [1, 3, 1]
    assert vocabulary.rows(pl.Series([None], dtype=pl.String)).tolist() == [UNKNOWN_ROW]


def test_an_integer_written_as_text_finds_the_integer() -> None:
    vocabulary = Vocabulary.by_frequency(pl.Series([7, -12]))
    assert vocabulary.rows(["7", "-12"]).tolist() == [vocabulary.row(7), vocabulary.row(-12)]
    assert vocabulary.rows(pl.Series(["-12", "7"])).tolist() == [2, 3]


@pytest.mark.parametrize(
    "text", ["007", "7.0", " 7", "+7", "-0", "7_0", "٧", "", "seven", str(2**63), "9" * 5_000]
)
def test_text_that_merely_resembles_an_integer_is_unknown(text: str) -> None:
    assert Vocabulary.by_frequency(pl.Series([7, 0, 70])).row(text) == UNKNOWN_ROW


def test_an_integer_finds_its_text() -> None:
    vocabulary = Vocabulary.by_frequency(pl.Series(["7", "007"]))
    assert vocabulary.id(vocabulary.row(7)) == "7"
    assert vocabulary.id(vocabulary.row("007")) == "007"


@pytest.mark.parametrize("one_id", ["a\0", "\ud800", "a" * 1_000, ""])
def test_strange_text_is_an_ordinary_unknown_id(one_id: str) -> None:
    assert Vocabulary.by_frequency(pl.Series(["a", "b"])).row(one_id) == UNKNOWN_ROW


@pytest.mark.parametrize("dtype", [pl.Int64(), pl.String()])
def test_an_empty_vocabulary_knows_nothing(dtype: pl.DataType) -> None:
    vocabulary = Vocabulary.by_frequency(pl.Series([], dtype=dtype))
    assert vocabulary.num_rows == NUM_RESERVED_ROWS
    assert vocabulary.rows(["a", 3]).tolist() == [UNKNOWN_ROW, UNKNOWN_ROW]
    assert vocabulary.rows(pl.Series(["a", None])).tolist() == [UNKNOWN_ROW, UNKNOWN_ROW]
    assert vocabulary.series().dtype == dtype
    assert vocabulary.rows([]).tolist() == []


@pytest.mark.parametrize("row", [-1, 0, 1, 4])
def test_reserved_rows_hold_no_id(row: int) -> None:
    with pytest.raises(IndexError, match="rows 2 to 3 do"):
        Vocabulary.by_frequency(pl.Series(["a", "b"])).id(row)
    with pytest.raises(IndexError):
        Vocabulary.by_frequency(pl.Series(["a", "b"])).ids_in(np.array([2, row], np.int32))


def test_an_id_longer_than_any_known_one_is_unknown_at_no_cost() -> None:
    vocabulary = Vocabulary.by_frequency(pl.Series([f"v{place:05}" for place in range(50_000)]))
    tracemalloc.start()
    try:
        assert vocabulary.rows(["v" * 100_000, "v00007"]).tolist() == [1, vocabulary.row("v00007")]
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000


@given(
    st.one_of(
        st.lists(st.text("ab\0é1", max_size=4), max_size=20).map(
            lambda ids: pl.Series(ids, dtype=pl.String)
        ),
        st.lists(st.one_of(integers, st.integers(-1200, 1200)), max_size=20).map(
            lambda ids: pl.Series(ids, dtype=pl.Int64)
        ),
    ),
    st.one_of(st.text("ab\0é1", max_size=5), st.text("-0129", max_size=4), integers.map(str)),
)
def test_ids_are_found_by_their_beginning(ids: pl.Series, text: str) -> None:
    vocabulary = Vocabulary.by_frequency(ids)
    rows = vocabulary.rows_beginning(text)
    assert rows.dtype == np.int32
    expected = [
        row
        for row in range(NUM_RESERVED_ROWS, vocabulary.num_rows)
        if str(vocabulary.id(row)).startswith(text)
    ]
    assert rows.tolist() == expected


def test_an_id_is_told_in_the_owners_type() -> None:
    numbers = Vocabulary.by_frequency(pl.Series([7]))
    assert [numbers.as_owned(one) for one in ("12", 12, "012", "a")] == [12, 12, "012", "a"]
    words = Vocabulary.by_frequency(pl.Series(["7"]))
    assert [words.as_owned(one) for one in ("12", 12, "a")] == ["12", "12", "a"]


def test_what_is_asked_again_is_found_again_however_much_was_asked_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upnext.examples.vocabulary, "MOST_FOUND_LATELY", 4)
    known = Vocabulary.by_frequency(pl.Series([f"v{n}" for n in range(20)]))
    rng = np.random.default_rng(0)
    for _ in range(50):
        asked = [f"v{n}" for n in rng.integers(0, 25, rng.integers(0, 7))]
        assert known.rows(asked).tolist() == [known.row(one) for one in asked]
        assert len(known._found_lately) <= 4


def test_what_is_too_long_to_be_known_takes_no_memory() -> None:
    known = Vocabulary.by_frequency(pl.Series(["short", "brief"]))
    assert known.rows(["x" * 100_000, "brief", "other"]).tolist() == [1, 2, 1]
    assert set(known._found_lately) == {"brief", "other"}
