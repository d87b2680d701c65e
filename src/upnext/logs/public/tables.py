"""Shapes what a loader has read into the project's tables: types, missing columns, missing ids."""

from collections.abc import Mapping

import polars as pl

from upnext.schema import (
    IMPRESSION_COLUMNS,
    ITEM_COLUMNS,
    KIND_DTYPES,
    USER_COLUMNS,
    WATCH_COLUMNS,
    Column,
    ColumnKind,
    Impressions,
    Items,
    Users,
    Watches,
)


def to_watches(frame: pl.DataFrame) -> Watches:
    """Takes the columns of `Watches` out of a frame, in their types."""
    return Watches(_typed(frame, WATCH_COLUMNS))


def to_impressions(frame: pl.DataFrame) -> Impressions:
    """Takes the columns of `Impressions` out of a frame, in their types."""
    return Impressions(_typed(frame, IMPRESSION_COLUMNS))


def to_items(frame: pl.DataFrame, *seen: pl.Series) -> Items:
    """Makes the catalogue: what is known of items, and a bare line for each id seen besides.

    Args:
        frame: item_id, each once, and any other column; columns of `Items` that are not there
            become null, and columns that `Items` does not name stay as features.
        seen: item ids of the logs, repeated or not.
    """
    whole = _with_every_id(frame, "item_id", seen)
    absent = [pl.lit(None).alias(name) for name in ITEM_COLUMNS if name not in whole.columns]
    return Items(_typed(whole.with_columns(absent), ITEM_COLUMNS, keep_others=True))


def to_users(frame: pl.DataFrame, *seen: pl.Series) -> Users:
    """Makes the table of users; every column besides user_id becomes a feature, as text."""
    features = frame.with_columns(pl.exclude("user_id").cast(pl.String))
    whole = _with_every_id(features, "user_id", seen)
    return Users(_typed(whole, USER_COLUMNS, keep_others=True))


def first_features(events: pl.DataFrame, features: Mapping[str, str], *, by: str) -> pl.DataFrame:
    """A user's features as the first event shows them, so that none comes from the future.

    Args:
        events: user_id, a time, and the features.
        features: the name that a feature gets: its name in `events`.
        by: the name of the time.
    """
    named = [pl.col(column).alias(name) for name, column in features.items()]
    return (
        events.select("user_id", by, *named)
        .sort(by, maintain_order=True)
        .unique("user_id", keep="first", maintain_order=True)
        .drop(by)
    )


def _typed(
    frame: pl.DataFrame, columns: Mapping[str, Column], *, keep_others: bool = False
) -> pl.DataFrame:
    present = [name for name in columns if name in frame.columns]
    typed = [pl.col(n).cast(_dtype(columns[n].kind, frame.schema[n])) for n in present]
    return frame.select(*typed, *(frame.drop(present).columns if keep_others else ()))


def _dtype(kind: ColumnKind, given: pl.DataType) -> pl.DataType:
    """The type that the column has, if the schema allows it, else the first that it allows."""
    allowed = KIND_DTYPES[kind]
    return given if given in allowed else allowed[0]


def _with_every_id(frame: pl.DataFrame, key: str, seen: tuple[pl.Series, ...]) -> pl.DataFrame:
    known = frame.with_columns(pl.col(key).cast(pl.Int64))
    ids = pl.concat([known[key], *(series.unique().cast(pl.Int64) for series in seen)])
    every_id = ids.rename(key).unique().sort().to_frame()
    return every_id.join(known, on=key, how="left", maintain_order="left")
