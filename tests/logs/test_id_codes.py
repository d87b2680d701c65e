import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import upnext.logs.id_codes
from upnext.logs.id_codes import IdCodes

ids = st.lists(st.text("abé\N{SNOWMAN}", max_size=4), max_size=12)
batches = st.lists(ids, max_size=6)


def codes_of(known: IdCodes, batch: list[str]) -> list[int]:
    found: list[int] = known.codes(pl.Series("id", batch, dtype=pl.String)).tolist()
    return found


def numbered(batches: list[list[str]]) -> tuple[list[list[int]], list[str]]:
    """Numbers by a dictionary, in the order in which ids first come."""
    numbers: dict[str, int] = {}
    return [[numbers.setdefault(i, len(numbers)) for i in batch] for batch in batches], [*numbers]


@given(batches)
def test_ids_are_numbered_as_they_first_come(batches: list[list[str]]) -> None:
    known = IdCodes()
    codes, ids = numbered(batches)
    assert [codes_of(known, batch) for batch in batches] == codes
    assert known.ids.to_list() == ids
    assert len(known) == len(ids)


@pytest.mark.parametrize("num_hashes", [1, 3])
def test_ids_with_one_hash_are_told_apart(num_hashes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def rough(text: pl.Series) -> object:
        return (text.hash() % num_hashes).to_numpy()

    monkeypatch.setattr(upnext.logs.id_codes, "_hashed", rough)
    known = IdCodes()
    batches = [[f"id {n}" for n in range(40)], [f"id {n}" for n in range(60, 20, -1)]]
    codes, ids = numbered(batches)
    assert [codes_of(known, batch) for batch in batches] == codes
    assert known.ids.to_list() == ids


def test_the_table_grows_with_the_ids() -> None:
    known = IdCodes()
    for first in range(0, 30_000, 7_500):
        batch = [f"id {n}" for n in range(first, first + 10_000)]
        assert codes_of(known, batch) == list(range(first, first + 10_000))
    assert codes_of(known, ["id 32499", "id 0", "new"]) == [32_499, 0, 32_500]


def test_an_integer_and_its_text_are_one_id() -> None:
    known = IdCodes()
    assert known.codes(pl.Series([7, -3, 7])).tolist() == [0, 1, 0]
    assert codes_of(known, ["-3", "007", "7"]) == [1, 2, 0]
