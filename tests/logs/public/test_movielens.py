from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import DataError
from upnext.logs.public.movielens import (
    load_movielens_1m,
    load_movielens_100k,
    strictly_increasing_ms,
)

U_DATA = "2\t10\t5\t881250949\n1\t20\t1\t881250000\n2\t30\t3\t881250949\n2\t20\t4\t881250948\n"
U_ITEM = (
    "10|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/x|"
    "0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n"
    "20|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    '30|"Quoted" (1930)|12-Dec-1930|||0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|1\n'
)
U_USER = "1|24|M|technician|85711\n2|53|F|other|T8H1N\n"


def write_100k(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "u.data").write_text(U_DATA)
    (folder / "u.item").write_bytes(U_ITEM.encode("iso-8859-1"))
    (folder / "u.user").write_text(U_USER)
    return folder


def write_1m(folder: Path) -> Path:
    (folder / "ratings.dat").write_text(
        "1::1193::5::978300760\n1::661::3::978300760\n2::1193::4::978298413\n"
    )
    movies = "661::Étoile: The Film (1996)::Animation|Sci-Fi\n1193::Cuckoo's Nest (1975)::Drama\n"
    (folder / "movies.dat").write_bytes(movies.encode("iso-8859-1"))
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    return folder


def test_100k_ratings_become_watches_in_file_order_within_a_second(tmp_path: Path) -> None:
    watches = load_movielens_100k(write_100k(tmp_path)).watches.frame
    assert watches.rows() == [
        (1, 20, 881_250_000_000, 1.0),
        (2, 20, 881_250_948_000, 1.0),
        (2, 10, 881_250_949_000, 1.0),
        (2, 30, 881_250_949_001, 1.0),
    ]


def test_100k_films_and_people(tmp_path: Path) -> None:
    logs = load_movielens_100k(write_100k(tmp_path / "ml-100k").parent)
    films = logs.items.frame
    assert films["title"].to_list() == ["Misérables, Les (1995)", "unknown", '"Quoted" (1930)']
    assert films["tags"].to_list() == [["Drama", "Musical"], ["unknown"], ["Action", "Western"]]
    assert films["release_year"].to_list() == ["1995", None, "1930"]
    assert films["published_at_ms"].null_count() == 3
    assert logs.users is not None
    assert logs.users.frame.rows(named=True)[1] == {
        "user_id": 2,
        "age": "53",
        "gender": "F",
        "occupation": "other",
        "zip_code": "T8H1N",
    }


def test_100k_takes_the_side_files_of_recbole(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text(U_DATA)
    (tmp_path / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "10\tMisérables, Les\t1995\tDrama Musical\n20\tunknown\tunknown\tunknown\n"
    )
    (tmp_path / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\tT8H1N\n"
    )
    logs = load_movielens_100k(tmp_path)
    assert logs.items.frame["item_id"].to_list() == [10, 20, 30]
    assert logs.items.frame["tags"].to_list() == [["Drama", "Musical"], ["unknown"], None]
    assert logs.items.frame["release_year"].to_list() == ["1995", None, None]
    assert logs.users is not None
    assert logs.users.frame["zip_code"].to_list() == ["85711", "T8H1N"]


@pytest.mark.parametrize("name", ["u.data", "u.item", "u.user"])
def test_100k_names_the_file_that_is_missing(tmp_path: Path, name: str) -> None:
    (write_100k(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=rf"{name}(?s:.*)GroupLens"):
        load_movielens_100k(tmp_path)


def test_1m_official_files(tmp_path: Path) -> None:
    logs = load_movielens_1m(write_1m(tmp_path))
    assert logs.watches.frame.rows() == [
        (1, 1193, 978_300_760_000, 1.0),
        (1, 661, 978_300_760_001, 1.0),
        (2, 1193, 978_298_413_000, 1.0),
    ]
    film = logs.items.frame.rows(named=True)[0]
    assert (film["title"], film["release_year"]) == ("Étoile: The Film (1996)", "1996")
    assert film["tags"] == ["Animation", "Sci-Fi"]
    assert logs.users is not None
    assert logs.users.frame.columns == ["user_id", "gender", "age", "occupation", "zip_code"]


def test_1m_parquet_follows_seq_pos_even_against_the_clock(tmp_path: Path) -> None:
    (write_1m(tmp_path) / "ratings.dat").unlink()
    pl.DataFrame(
        {
            "user_id": [1, 1, 1],
            "movie_id": [661, 1193, 661],
            "timestamp": [100, 101, 100],
            "seq_pos": [2, 1, 0],
        }
    ).write_parquet(tmp_path / "ratings.parquet")
    watches = load_movielens_1m(tmp_path).watches.frame
    assert watches["item_id"].to_list() == [661, 1193, 661]
    assert watches["started_at_ms"].to_list() == [100_000, 101_000, 101_001]


events = st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 20)), min_size=1, max_size=40)


@given(events)
def test_times_increase_and_move_no_further_than_they_must(rows: list[tuple[int, int]]) -> None:
    given_times = pl.DataFrame(rows, schema=["user_id", "started_at_ms"], orient="row")
    moved = strictly_increasing_ms(given_times)["started_at_ms"].to_list()
    last: dict[int, int] = {}
    for (user, time), new in zip(rows, moved, strict=True):
        assert new == (max(time, last[user] + 1) if user in last else time)
        last[user] = new


def test_real_100k(real_data: Callable[[str], Path]) -> None:
    logs = load_movielens_100k(real_data("ml-100k"))
    watches = logs.watches.frame
    assert (watches.height, watches["user_id"].n_unique()) == (100_000, 943)
    assert logs.items.frame.height == watches["item_id"].n_unique() == 1_682
    assert watches.n_unique(["user_id", "started_at_ms"]) == 100_000
    assert logs.users is not None
    assert logs.users.frame.null_count().sum_horizontal().item() == 0


def test_real_1m(real_data: Callable[[str], Path]) -> None:
    folder = real_data("ml-1m")
    logs = load_movielens_1m(folder)
    watches = logs.watches.frame
    assert (watches.height, watches["user_id"].n_unique()) == (1_000_209, 6_040)
    assert watches["item_id"].n_unique() == 3_706
    assert logs.items.frame["title"].null_count() == 0
    ratings = pl.read_parquet(folder / "ratings.parquet").sort("user_id", "seq_pos")
    in_order = watches.sort("user_id", "started_at_ms")
    assert in_order["item_id"].to_list() == ratings["movie_id"].to_list()
    assert watches.n_unique(["user_id", "started_at_ms"]) == watches.height
    drift_ms = in_order["started_at_ms"] - ratings["timestamp"].cast(pl.Int64) * 1000
    assert drift_ms.min() == 0
    assert drift_ms.quantile(0.999) < 1000  # type: ignore[operator]
