"""What is written comes back bit for bit, and no id becomes another."""

from pathlib import Path
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from upnext.errors import DataError
from upnext.export.formats import words, write_ids, write_npy, write_parquet, write_word2vec
from upnext.schema import Floats

AWKWARD_IDS = [
    "a b",
    "a%20b",
    "line\nend",
    "\ttab ",
    " ",
    "%",
    "\x00",
    "é\u3000\u2028",
    '"q"',
    "a,b",
]
MANY = 20_000
"""Lines enough for several blocks."""

any_id = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
any_vectors = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def many_vectors() -> Floats:
    return np.random.default_rng(5).standard_normal((MANY, 3), dtype=np.float32)


def text_lines(path: Path) -> list[list[str]]:
    """As a reader splits them that knows of lines and single spaces alone."""
    header, *lines = path.read_bytes().decode().removesuffix("\n").split("\n")
    assert header == f"{len(lines)} {len(lines[0].split(' ')) - 1}"
    return [line.split(" ") for line in lines]


def test_an_array_in_blocks_is_the_array(tmp_path: Path) -> None:
    vectors = many_vectors()
    blocks = (vectors[start : start + 7_001] for start in range(0, MANY, 7_001))
    write_npy(tmp_path / "v.npy", blocks, shape=vectors.shape, dtype=np.float32)
    loaded = np.load(tmp_path / "v.npy", mmap_mode="r", allow_pickle=False)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, vectors)


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series([7, -3, 2**62], dtype=pl.Int64),
        pl.Series(["u1", "👩‍🚀", "", " two\nlines ", "\x00a"]),
        pl.Series([f"user {number}" for number in range(MANY)]),
    ],
)
def test_ids_come_back_in_their_type(tmp_path: Path, ids: pl.Series) -> None:
    write_ids(tmp_path / "ids.npy", ids)
    assert np.load(tmp_path / "ids.npy", allow_pickle=False).tolist() == ids.to_list()


def test_an_id_that_numpy_would_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"user_ids\.npy: expected no U\+0000 .* got 'a\\x00'"):
        write_ids(tmp_path / "user_ids.npy", pl.Series(["a", "a\x00"]))


@pytest.mark.parametrize("dtype", [pl.Int64, pl.String])
def test_parquet_keeps_ids_types_and_order(tmp_path: Path, dtype: type[pl.DataType]) -> None:
    vectors = many_vectors()
    ids = pl.Series("user_id", range(MANY)).cast(dtype)
    write_parquet(tmp_path / "v.parquet", ids, vectors)
    frame = pl.read_parquet(tmp_path / "v.parquet")
    assert frame.schema == {"user_id": dtype(), "vector": pl.Array(pl.Float32, 3)}
    assert frame["user_id"].equals(ids)
    np.testing.assert_array_equal(frame["vector"].to_numpy(), vectors)


@given(vectors=any_vectors)
def test_numbers_in_text_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, vectors: Floats
) -> None:
    path = tmp_path_factory.mktemp("text") / "v.txt"
    write_word2vec(path, pl.Series(range(len(vectors))), vectors)
    read = np.array([line[1:] for line in text_lines(path)], np.float64).astype(np.float32)
    np.testing.assert_array_equal(read.view(np.uint32), vectors.view(np.uint32))


@given(st.lists(any_id, unique=True))
def test_words_have_no_space_and_can_be_turned_back(ids: list[str]) -> None:
    spelt = words(pl.Series(ids, dtype=pl.String)).to_list()
    assert [word.split() for word in spelt] == [[word] for word in spelt]
    assert [unquote(word) for word in spelt] == ids


def test_usual_ids_stay_as_they_are() -> None:
    ids = ["v00017", "ユーザー", "Zoë", "a/b?c=d&e+f", "d'Arc", "👩‍🚀"]
    assert words(pl.Series(ids)).to_list() == ids
    assert words(pl.Series([7, -3])).to_list() == ["7", "-3"]


def test_awkward_ids_and_many_lines_keep_their_places(tmp_path: Path) -> None:
    ids = AWKWARD_IDS + [f"item {number}" for number in range(MANY - len(AWKWARD_IDS))]
    write_word2vec(tmp_path / "v.txt", pl.Series(ids), many_vectors())
    lines = text_lines(tmp_path / "v.txt")
    assert [unquote(line[0]) for line in lines] == ids
    np.testing.assert_array_equal(
        np.array([line[1:] for line in lines], np.float32), many_vectors()
    )


def test_gensim_reads_awkward_ids(tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim.models", reason="gensim reads what is written here")
    vectors = many_vectors()[: len(AWKWARD_IDS)]
    write_word2vec(tmp_path / "v.txt", pl.Series(AWKWARD_IDS), vectors)
    loaded = gensim.KeyedVectors.load_word2vec_format(str(tmp_path / "v.txt"))
    assert [unquote(word) for word in loaded.index_to_key] == AWKWARD_IDS
    np.testing.assert_array_equal(loaded.vectors, vectors)


def test_an_empty_id_is_no_word(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"v\.txt: expected at least one character, got ''"):
        write_word2vec(tmp_path / "v.txt", pl.Series(["a", ""]), np.zeros((2, 3), np.float32))
