"""MovieLens 100K and 1M: ratings of films by volunteers, 1997 to 2003 (GroupLens)."""

from pathlib import Path

import polars as pl

from upnext.logs.public.files import (
    read_delimited,
    read_double_colon,
    read_parquet,
    require_file,
)
from upnext.logs.public.tables import to_items, to_users, to_watches
from upnext.schema import Logs

HOME_100K = "the GroupLens page 'MovieLens 100K Dataset' (ml-100k.zip)"
HOME_1M = "the GroupLens page 'MovieLens 1M Dataset' (ml-1m.zip)"

GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""The flags that end a line of `u.item`, in order."""

RATING = pl.Schema(
    {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Int64, "timestamp_s": pl.Int64}
)


PERSON_100K = pl.Schema(
    {
        "user_id": pl.Int64,
        "age": pl.String,
        "gender": pl.String,
        "occupation": pl.String,
        "zip_code": pl.String,
    }
)
PERSON_1M = pl.Schema(
    {name: PERSON_100K[name] for name in ("user_id", "gender", "age", "occupation", "zip_code")}
)
FILM_1M = pl.Schema({"item_id": pl.Int64, "title": pl.String, "genres": pl.String})
FILM_RECBOLE = pl.Schema(
    {
        "item_id:token": pl.Int64,
        "movie_title:token_seq": pl.String,
        "release_year:token": pl.String,
        "class:token_seq": pl.String,
    }
)


def load_movielens_100k(path: Path) -> Logs:
    """Loads MovieLens 100K: `u.data`, `u.item`, `u.user`.

    Each rating, high or low, is a watch. Nothing tells how long a film was watched, so
    watch_time_s is 1.0, one unit a watch. Times are whole seconds and many ratings fall into
    one: within a user, ratings of one second keep the order of the file, a millisecond apart.

    A film's release is not its arrival on the platform: published_at_ms is null, and the year
    is the item feature `release_year`. Tags are the genres. User features: age, gender,
    occupation, zip_code.

    Args:
        path: the unpacked folder. RecBole's `ml-100k.item` and `ml-100k.user` may stand in for
            `u.item` and `u.user`.

    Raises: DataError: a file is missing, cut short or of another format.
    """
    data = require_file(path, "u.data", home=HOME_100K)
    ratings = read_delimited(data, RATING, separator="\t", has_header=False)
    ordered = ratings.sort("user_id", "timestamp_s", maintain_order=True)
    films = _films_100k(require_file(path, "u.item", "ml-100k.item", home=HOME_100K))
    people = _people_100k(require_file(path, "u.user", "ml-100k.user", home=HOME_100K))
    return _to_logs(ordered, films, people)


def load_movielens_1m(path: Path) -> Logs:
    """Loads MovieLens 1M: `ratings.dat`, `movies.dat`, `users.dat`.

    Ratings, times, films and users are taken as in `load_movielens_100k`; the user features
    age and occupation hold the codes of the official README.

    Args:
        path: the unpacked folder. In place of `ratings.dat` it may hold `ratings.parquet` with
            the columns user_id, movie_id, timestamp (seconds) and seq_pos, a rating's place in
            its user's history: then seq_pos is the order, and a time that does not come after
            the one before it is set one millisecond after.

    Raises: DataError: a file is missing, cut short or of another format.
    """
    file = require_file(path, "ratings.dat", "ratings.parquet", home=HOME_1M)
    if file.suffix == ".parquet":
        table = read_parquet(file, ["user_id", "movie_id", "timestamp", "seq_pos"])
        renamed = table.rename({"movie_id": "item_id", "timestamp": "timestamp_s"})
        ordered = renamed.sort("user_id", "seq_pos")
    else:
        ratings = read_double_colon(file, RATING)
        ordered = ratings.sort("user_id", "timestamp_s", maintain_order=True)
    films = _films_1m(require_file(path, "movies.dat", home=HOME_1M))
    people = read_double_colon(require_file(path, "users.dat", home=HOME_1M), PERSON_1M)
    return _to_logs(ordered, films, people)


def strictly_increasing_ms(events: pl.DataFrame) -> pl.DataFrame:
    """Moves started_at_ms of each user's events just so far that each comes after the last.

        t'_i = max(t_i, t'_{i−1} + 1) = i + max_{j ≤ i} (t_j − j)

    Args:
        events: user_id and started_at_ms, each user's events in their order.

    >>> strictly_increasing_ms(
    ...     pl.DataFrame({"user_id": 7, "started_at_ms": [5, 5, 5, 6, 20]})
    ... )["started_at_ms"].to_list()
    [5, 6, 7, 8, 20]
    """
    place = pl.int_range(pl.len())
    moved = (pl.col("started_at_ms") - place).cum_max() + place
    return events.with_columns(moved.over("user_id"))


def _to_logs(ratings: pl.DataFrame, films: pl.DataFrame, people: pl.DataFrame) -> Logs:
    watches = ratings.select(
        "user_id",
        "item_id",
        started_at_ms=pl.col("timestamp_s").cast(pl.Int64) * 1000,
        watch_time_s=pl.lit(1.0),
    )
    return Logs(
        watches=to_watches(strictly_increasing_ms(watches)),
        items=to_items(films, ratings["item_id"]),
        users=to_users(people, ratings["user_id"]),
    )


def _films_100k(file: Path) -> pl.DataFrame:
    if file.name.startswith("ml-100k"):
        return _films_recbole(file)
    names = ["item_id", "title", "release_date", "video_release_date", "imdb_url", *GENRES_100K]
    schema = pl.Schema({name: pl.Int64 if name == "item_id" else pl.String for name in names})
    films = read_delimited(
        file, schema, separator="|", has_header=False, quote=None, encoding="iso-8859-1"
    )
    tags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES_100K]
    return films.select(
        "item_id",
        "title",
        tags=pl.concat_list(tags).list.drop_nulls(),
        release_year=pl.col("release_date").str.extract(r"(\d{4})$"),
    )


def _films_recbole(file: Path) -> pl.DataFrame:
    films = read_delimited(file, FILM_RECBOLE, separator="\t", quote=None).rename(_untyped)
    return films.select(
        "item_id",
        title="movie_title",
        tags=pl.col("class").str.split(" "),
        release_year=pl.col("release_year").str.extract(r"^(\d{4})$"),
    )


def _people_100k(file: Path) -> pl.DataFrame:
    if file.name.startswith("ml-100k"):
        typed = pl.Schema({f"{name}:token": dtype for name, dtype in PERSON_100K.items()})
        return read_delimited(file, typed, separator="\t", quote=None).rename(_untyped)
    return read_delimited(file, PERSON_100K, separator="|", has_header=False, quote=None)


def _untyped(header: str) -> str:
    """The name in a header of RecBole, which gives name and type: item_id:token."""
    return header.partition(":")[0]


def _films_1m(file: Path) -> pl.DataFrame:
    return read_double_colon(file, FILM_1M).select(
        "item_id",
        "title",
        tags=pl.col("genres").str.split("|"),
        release_year=pl.col("title").str.extract(r"\((\d{4})\)\s*$"),
    )
