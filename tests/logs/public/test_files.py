import gzip
from pathlib import Path

import polars as pl
import pytest

from upnext.errors import DataError
from upnext.logs.public.files import (
    find_file,
    find_files,
    parquet_columns,
    read_delimited,
    read_double_colon,
    read_parquet,
    require_file,
)

NUMBERS = pl.Schema({"a": pl.Int64, "b": pl.Int64})


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content)
    return path


def test_a_file_is_found_in_the_folder_before_the_folders_inside_it(tmp_path: Path) -> None:
    near = write(tmp_path / "u.data", "")
    write(tmp_path / "ml-100k" / "u.data", "")
    assert find_files(tmp_path, "u.data") == [near]


def test_a_file_is_found_two_folders_down_but_not_three(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "c" / "far.csv", "")
    near = write(tmp_path / "a" / "b" / "near.csv", "")
    assert find_file(tmp_path, "near.csv") == near
    assert find_file(tmp_path, "far.csv") is None


def test_a_packed_file_stands_in_for_the_plain_one_and_never_beside_it(tmp_path: Path) -> None:
    packed = write(tmp_path / "log_2.csv.gz", "")
    plain = write(tmp_path / "log_1.csv", "")
    write(tmp_path / "log_1.csv.gz", "")
    assert find_files(tmp_path, "log_*.csv") == [plain, packed]


def test_any_file_of_a_folder_stands_for_the_folder(tmp_path: Path) -> None:
    data, other = write(tmp_path / "u.data", ""), write(tmp_path / "u.item", "")
    assert find_file(data, "u.item") == other


def test_the_first_name_that_is_there_wins(tmp_path: Path) -> None:
    second = write(tmp_path / "second", "")
    assert find_file(tmp_path, "first", "second") == second
    first = write(tmp_path / "deep" / "first", "")
    assert find_file(tmp_path, "first", "second") == first


def test_a_missing_file_is_named_together_with_its_home(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"u\.data or other.*no such file(?s:.*)GroupLens"):
        require_file(tmp_path, "u.data", "other", home="the GroupLens page")
    with pytest.raises(DataError, match="no such folder"):
        require_file(tmp_path / "absent", "u.data", home="the GroupLens page")


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_columns_are_taken_by_their_header(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, "b,other,a\n1,x,2\n3,y,4\n")
    assert read_delimited(file, NUMBERS).select("a", "b").rows() == [(2, 1), (4, 3)]


def test_without_a_header_columns_are_taken_in_order(tmp_path: Path) -> None:
    file = write(tmp_path / "t", "1\t2\n3\t4\n")
    frame = read_delimited(file, NUMBERS, separator="\t", has_header=False)
    assert frame.rows(named=True) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "a,c\n1,2\n")
    with pytest.raises(DataError, match=r"t\.csv.*\"b\"(?s:.*)another version"):
        read_delimited(file, NUMBERS)
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet.*\"b\""):
        read_parquet(tmp_path / "t.parquet", ["a", "b"])


def test_a_cell_of_another_type_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv.*seven"):
        read_delimited(write(tmp_path / "t.csv", "a,b\n1,seven\n"), NUMBERS)
    with pytest.raises(DataError, match=r"t\.dat"):
        read_double_colon(write(tmp_path / "t.dat", "1::seven\n"), NUMBERS)


def test_a_file_cut_short_is_an_error_that_names_it(tmp_path: Path) -> None:
    whole = gzip.compress(b"1::2\n" * 1000)
    (tmp_path / "t.dat.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"t\.dat\.gz(?s:.*)cut short"):
        read_double_colon(tmp_path / "t.dat.gz", NUMBERS)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"t\.parquet(?s:.*)cut short"):
        read_parquet(tmp_path / "t.parquet", ["a"])
    with pytest.raises(DataError, match=r"t\.parquet(?s:.*)cut short"):
        parquet_columns(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.dat, row 2"):
        read_double_colon(write(tmp_path / "t.dat", "1::2\n3\n"), NUMBERS)


def test_double_colons_part_fields_that_hold_single_ones(tmp_path: Path) -> None:
    file = tmp_path / "movies.dat"
    file.write_bytes("73::Misérables: Les (1995)::Drama|Musical\r\n".encode("iso-8859-1"))
    schema = pl.Schema({"id": pl.Int64, "title": pl.String, "genres": pl.String})
    assert read_double_colon(file, schema).rows() == [
        (73, "Misérables: Les (1995)", "Drama|Musical")
    ]
