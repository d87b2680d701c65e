"""News: clicks of Globo's G1 portal (2017) and impressions of Ekstra Bladet, EB-NeRD (2023)."""

from pathlib import Path

import polars as pl

from upnext.errors import DataError
from upnext.logs.public.files import (
    find_file,
    parquet_columns,
    read_delimited,
    read_parquet,
    require_files,
)
from upnext.logs.public.tables import (
    first_features,
    to_impressions,
    to_items,
    to_users,
    to_watches,
)
from upnext.schema import Logs

HOME_GLOBO = "the Kaggle page 'News Portal User Interactions by Globo.com' (clicks.zip)"
HOME_EB_NERD = "the dataset page of recsys.eb.dk (ebnerd_small.zip, ebnerd_large.zip)"

GLOBO_CLICK = pl.Schema(
    {
        "user_id": pl.Int64,
        "session_id": pl.Int64,
        "click_article_id": pl.Int64,
        "click_timestamp": pl.Int64,
        "click_environment": pl.Int64,
        "click_deviceGroup": pl.Int64,
        "click_os": pl.Int64,
        "click_country": pl.Int64,
        "click_region": pl.Int64,
    }
)
GLOBO_USER = {
    "environment": "click_environment",
    "device_group": "click_deviceGroup",
    "os": "click_os",
    "country": "click_country",
    "region": "click_region",
}
GLOBO_ARTICLE = pl.Schema(
    {
        "article_id": pl.Int64,
        "category_id": pl.Int64,
        "created_at_ts": pl.Int64,
        "words_count": pl.Int64,
    }
)
ASSUMED_STAY_S = 30.0
"""Globo closes each session with a click set exactly 30 s after the one before."""
LONGEST_STAY_S = 1800.0
"""A longer gap between two clicks is an absence, not reading."""

EB_NERD_USER = ("is_sso_user", "gender", "postcode", "age", "is_subscriber", "device_type")
EB_NERD_BEHAVIOUR = (
    *("impression_id", "user_id", "impression_time", "article_id", "read_time"),
    *("article_ids_inview", "article_ids_clicked", "next_read_time"),
    *EB_NERD_USER,
)
EB_NERD_HISTORY = ("user_id", "impression_time_fixed", "article_id_fixed", "read_time_fixed")
EB_NERD_ARTICLE = ("article_id", "title", "published_time", "category_str", "topics")
SAME_CLICK_MS = 60_000
"""A click and a visit of the same user to the same article this close are one watch."""


def load_globo(path: Path) -> Logs:
    """Loads Globo G1: the hour files `clicks_hour_*.csv` and `articles_metadata.csv`.

    Each click is a watch. A stay is the gap to the next click of the session, which is real
    only in part: the publisher set each session's last click 30 s after the one before. So the
    last stay, which nothing ends, counts 30 s as well, and so does a gap above 30 minutes, an
    absence rather than reading.

    Without `articles_metadata.csv` an article counts as published at its first click; with it,
    created_at_ts is published_at_ms, the category is channel_id and `words_count` a feature. The
    catalogue holds every article of the metadata, clicked or not. User features, as codes and
    as the user's first click has them: environment, device_group, os, country, region.

    Args:
        path: the unpacked folder; one `clicks.parquet` with the same columns may stand in for
            the hour files.

    Raises: DataError: the clicks are missing, cut short or of another format.
    """
    if parquet := find_file(path, "clicks.parquet"):
        clicks = read_parquet(parquet, list(GLOBO_CLICK)).cast(GLOBO_CLICK)
    else:
        hours = require_files(path, "clicks_hour_*.csv", home=HOME_GLOBO)
        clicks = pl.concat([read_delimited(hour, GLOBO_CLICK) for hour in hours])
    clicks = clicks.rename({"click_article_id": "item_id", "click_timestamp": "started_at_ms"})
    metadata = find_file(path, "articles_metadata.csv")
    articles = _globo_articles(metadata) if metadata else _first_clicks(clicks)
    return Logs(
        watches=to_watches(_with_stays(clicks)),
        items=to_items(articles, clicks["item_id"]),
        users=to_users(first_features(clicks, GLOBO_USER, by="started_at_ms")),
    )


def load_eb_nerd(path: Path) -> Logs:
    """Loads EB-NeRD: `behaviors.parquet`, `history.parquet` and, if there, `articles.parquet`.

    A row of behaviors is a request: the articles in view are its impressions, in the order of
    the list. The publisher shuffled that list, so position tells nothing about the screen. The
    clicked ones were watched, for next_read_time, which is the time on the clicked article;
    several clicked articles share it evenly, and where it is missing the time is 0.

    Watches are these clicks, begun when the stay on the page before ended, at impression_time +
    read_time; then the articles on whose pages impressions were shown (read_time is the time
    there); and the history. A visit within a minute of a click of the same user on the same
    article is that very click and not counted again. Times bear no zone and are taken as UTC.

    Articles: topics are the tags, the category is channel_id. Counts such as total_inviews come
    from later than the impressions and are left alone. User features, as codes and as the user's
    first impression has them: is_sso_user, gender, postcode, age, is_subscriber, device_type.

    Args:
        path: the unpacked folder, with or without its parts train and validation.

    Raises: DataError: a file is missing, damaged or of another format. The test set hides the
        clicks and cannot be loaded.
    """
    behaviours = _eb_nerd_behaviours(path)
    clicks = _eb_nerd_clicks(behaviours)
    histories = require_files(path, "history.parquet", home=HOME_EB_NERD)
    visits = [_eb_nerd_own_pages(behaviours), *map(_eb_nerd_history, histories)]
    watches = pl.concat([clicks, _unlike(pl.concat(visits), clicks)])
    impressions = _eb_nerd_impressions(behaviours)
    articles = find_file(path, "articles.parquet")
    known = _eb_nerd_articles(articles) if articles else impressions.select("item_id").unique()
    features = first_features(behaviours, {n: n for n in EB_NERD_USER}, by="impression_time")
    return Logs(
        watches=to_watches(watches),
        impressions=to_impressions(impressions),
        items=to_items(known, impressions["item_id"], watches["item_id"]),
        users=to_users(features, watches["user_id"]),
    )


def _with_stays(clicks: pl.DataFrame) -> pl.DataFrame:
    ordered = clicks.sort("user_id", "session_id", "started_at_ms", maintain_order=True)
    following = pl.col("user_id", "session_id").shift(-1)
    session_goes_on = pl.all_horizontal(following == pl.col("user_id", "session_id"))
    stay_s = (pl.col("started_at_ms").shift(-1) - pl.col("started_at_ms")) / 1000
    known = session_goes_on & (stay_s <= LONGEST_STAY_S)
    return ordered.with_columns(
        watch_time_s=pl.when(known).then(stay_s).otherwise(pl.lit(ASSUMED_STAY_S))
    )


def _globo_articles(file: Path) -> pl.DataFrame:
    return read_delimited(file, GLOBO_ARTICLE).select(
        item_id="article_id",
        published_at_ms="created_at_ts",
        channel_id="category_id",
        words_count=pl.col("words_count").cast(pl.Float32),
    )


def _first_clicks(clicks: pl.DataFrame) -> pl.DataFrame:
    return clicks.group_by("item_id").agg(published_at_ms=pl.col("started_at_ms").min())


def _eb_nerd_behaviours(path: Path) -> pl.DataFrame:
    files = require_files(path, "behaviors.parquet", home=HOME_EB_NERD)
    for file in files:
        if "article_ids_clicked" not in parquet_columns(file):
            raise DataError(
                str(file),
                expected="a column article_ids_clicked",
                got="impressions whose clicks are hidden",
                hint="this is the test set; load the folder of train or validation.",
            )
    return pl.concat([read_parquet(file, EB_NERD_BEHAVIOUR) for file in files]).with_columns(
        pl.col("impression_time").dt.epoch("ms"),
        time_per_click_s=pl.col("next_read_time").fill_null(0.0)
        / pl.col("article_ids_clicked").list.len().cast(pl.Float32),
    )


def _eb_nerd_clicks(behaviours: pl.DataFrame) -> pl.DataFrame:
    clicked = behaviours.filter(pl.col("article_ids_clicked").list.len() > 0)
    stay_ms = (pl.col("read_time").fill_null(0.0) * 1000).cast(pl.Int64)
    return clicked.explode("article_ids_clicked").select(
        "user_id",
        item_id="article_ids_clicked",
        started_at_ms=pl.col("impression_time") + stay_ms,
        watch_time_s="time_per_click_s",
    )


def _eb_nerd_own_pages(behaviours: pl.DataFrame) -> pl.DataFrame:
    return behaviours.filter(pl.col("article_id").is_not_null()).select(
        "user_id",
        item_id="article_id",
        started_at_ms="impression_time",
        watch_time_s=pl.col("read_time").fill_null(0.0),
    )


def _eb_nerd_history(file: Path) -> pl.DataFrame:
    lists = read_parquet(file, EB_NERD_HISTORY)
    filled = lists.filter(pl.col("article_id_fixed").list.len() > 0)
    return filled.explode(EB_NERD_HISTORY[1:]).select(
        "user_id",
        item_id="article_id_fixed",
        started_at_ms=pl.col("impression_time_fixed").dt.epoch("ms"),
        watch_time_s=pl.col("read_time_fixed").fill_null(0.0),
    )


def _unlike(visits: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    """The visits that are not one of the clicks, each once."""
    key = ["user_id", "item_id", "started_at_ms"]
    once = visits.unique(key, keep="first", maintain_order=True).with_row_index("visit")
    pairs = once.join(clicks, on=["user_id", "item_id"], suffix="_of_click")
    apart_ms = (pl.col("started_at_ms") - pl.col("started_at_ms_of_click")).abs()
    return once.join(pairs.filter(apart_ms <= SAME_CLICK_MS), on="visit", how="anti").drop("visit")


def _eb_nerd_impressions(behaviours: pl.DataFrame) -> pl.DataFrame:
    in_view = behaviours.filter(pl.col("article_ids_inview").list.len() > 0)
    positions = pl.int_ranges(pl.col("article_ids_inview").list.len())
    shown = in_view.with_columns(position=positions).explode("article_ids_inview", "position")
    watched = pl.col("article_ids_inview").is_in("article_ids_clicked")
    return shown.select(
        "user_id",
        "position",
        request_id="impression_id",
        item_id="article_ids_inview",
        shown_at_ms="impression_time",
        watched=watched,
        watch_time_s=pl.when(watched).then("time_per_click_s").otherwise(0.0),
    )


def _eb_nerd_articles(file: Path) -> pl.DataFrame:
    return read_parquet(file, EB_NERD_ARTICLE).select(
        item_id="article_id",
        title="title",
        published_at_ms=pl.col("published_time").dt.epoch("ms"),
        channel_id="category_str",
        tags="topics",
    )
