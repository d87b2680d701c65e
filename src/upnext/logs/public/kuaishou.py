"""Short videos of Kuaishou, with watch times: KuaiRand (2022) and KuaiRec (2020)."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from upnext.errors import DataError
from upnext.logs.public.files import find_file, read_delimited, require_files
from upnext.logs.public.tables import to_impressions, to_items, to_users, to_watches
from upnext.schema import Logs

HOME_KUAIRAND = "kuairand.com (KuaiRand-Pure, KuaiRand-1K or KuaiRand-27K)"
HOME_KUAIREC = "kuairec.com (KuaiRec.zip)"
CHINA = "Asia/Shanghai"
KUAIREC_MATRICES = ("big_matrix", "small_matrix")

KUAIRAND_ROW = pl.Schema(
    {
        "user_id": pl.Int64,
        "video_id": pl.Int64,
        "time_ms": pl.Int64,
        "is_click": pl.Int64,
        "play_time_ms": pl.Int64,
        "duration_ms": pl.Int64,
    }
)
KUAIRAND_VIDEO = pl.Schema(
    {
        "video_id": pl.Int64,
        "author_id": pl.Int64,
        "video_type": pl.String,
        "upload_dt": pl.String,
        "upload_type": pl.String,
        "video_duration": pl.Float64,
        "tag": pl.String,
    }
)
KUAIREC_ROW = pl.Schema(
    {
        "user_id": pl.Int64,
        "video_id": pl.Int64,
        "play_duration": pl.Int64,
        "video_duration": pl.Int64,
        "timestamp": pl.Float64,
    }
)
KUAIREC_VIDEO = pl.Schema(
    {
        "video_id": pl.Int64,
        "date": pl.Int64,
        "author_id": pl.Int64,
        "video_type": pl.String,
        "upload_dt": pl.String,
        "upload_type": pl.String,
    }
)
KUAIREC_CATEGORY = pl.Schema({"video_id": pl.Int64, "feat": pl.String})
USER_FEATURES = (
    *("user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"),
    *("follow_user_num", "follow_user_num_range", "fans_user_num", "fans_user_num_range"),
    *("friend_user_num", "friend_user_num_range", "register_days", "register_days_range"),
    *(f"onehot_feat{number}" for number in range(18)),
)
USER = pl.Schema({"user_id": pl.Int64} | dict.fromkeys(USER_FEATURES, pl.String))


def load_kuairand(path: Path) -> Logs:
    """Loads KuaiRand: `log_standard_*.csv`, `video_features_basic_*`, `user_features_*`.

    Each row of the log is an impression of the platform's own feed; the random exposures,
    `log_random_*.csv`, stay out. watched is is_click: a click where the page has two columns,
    elsewhere a valid play (to the end, or above 7 s). The few seconds before a skip are no watch
    and count 0. Rows of one user at one millisecond were handed out together: they are one
    request, its positions in the order of the file.

    The author is channel_id, upload_dt (midnight in China) published_at_ms, and all columns of
    the user table are features. Both tables are optional. The three versions 27K, 1K and Pure
    number users and videos anew, so a table is joined only to a log of its own version.

    Args:
        path: the unpacked folder of one version. A tab-separated excerpt of the 27K log,
            `kuairand27k_*.tsv`, may stand in for the log.

    Raises: DataError: the log is missing, cut short, of another format, or of several versions.
    """
    files = require_files(path, "log_standard_*.csv", "kuairand*.tsv", home=HOME_KUAIRAND)
    version = _version(files)
    tables = [
        read_delimited(file, KUAIRAND_ROW, separator="\t" if ".tsv" in file.name else ",")
        for file in files
    ]
    rows = pl.concat(tables).select(
        "user_id",
        item_id="video_id",
        shown_at_ms="time_ms",
        watched=pl.col("is_click") == 1,
        watch_time_s=pl.col("play_time_ms") / 1000,
        video_ms="duration_ms",
    )
    videos = find_file(path, f"video_features_basic_{version}.csv")
    users = find_file(path, f"user_features_{version}.csv")
    return _to_logs(rows, _kuairand_videos(videos) if videos else None, users)


def load_kuairec(path: Path) -> Logs:
    """Loads KuaiRec: `big_matrix.csv` and `small_matrix.csv`, or the one that is there.

    Each row is an impression, watched where play_duration is above 0; `source` tells which
    matrix it comes from. Requests are as in `load_kuairand`. Some rows of the small matrix bear
    no time and have no place in a log: they are left out, with a warning that counts them.

    Optional: `item_categories.csv` (tags), `item_daily_features.csv` (channel_id is the author,
    published_at_ms midnight in China of upload_dt; its counts are from later days and left
    alone) and `user_features.csv` (user features).

    Args:
        path: the unpacked folder.

    Raises: DataError: both matrices are missing, or a file is cut short or of another format.
    """
    require_files(path, "big_matrix.csv", "small_matrix.csv", home=HOME_KUAIREC)
    files = [f for name in KUAIREC_MATRICES if (f := find_file(path, f"{name}.csv"))]
    rows = pl.concat([_kuairec_rows(file) for file in files])
    return _to_logs(rows, _kuairec_videos(path), find_file(path, "user_features.csv"))


def _version(files: Sequence[Path]) -> str:
    """27k, 1k or pure: which numbering of users and videos the files of KuaiRand follow."""
    versions: set[str] = {
        v for f in files for v in re.findall(r"(?<!\d)(27k|1k|pure)(?![a-z])", f.name)
    }
    if len(versions) == 1:
        return versions.pop()
    raise DataError(
        str(files[0].parent),
        expected="logs of one version of KuaiRand, 27k, 1k or pure",
        got=", ".join(sorted(versions)) or "names that tell no version",
        hint="each version numbers users and videos anew; load the folder of one.",
    )


def _to_logs(rows: pl.DataFrame, videos: pl.DataFrame | None, user_file: Path | None) -> Logs:
    lengths = (
        rows.filter(pl.col("video_ms") > 0)
        .group_by("item_id")
        .agg(played_s=pl.col("video_ms").max() / 1000)
    )
    known = rows.select("item_id").unique() if videos is None else videos
    stated_s = pl.col("duration_s") if "duration_s" in known.columns else pl.lit(None)
    items = known.join(lengths, on="item_id", how="left", maintain_order="left").with_columns(
        duration_s=pl.coalesce(stated_s, "played_s")
    )
    users = read_delimited(user_file, USER) if user_file else rows.select("user_id")
    impressions = _feed(rows)
    watches = impressions.filter("watched").rename({"shown_at_ms": "started_at_ms"})
    return Logs(
        watches=to_watches(watches),
        impressions=to_impressions(impressions),
        items=to_items(items.drop("played_s"), rows["item_id"]),
        users=to_users(users.unique("user_id"), rows["user_id"]),
    )


def _feed(rows: pl.DataFrame) -> pl.DataFrame:
    together = ["user_id", "shown_at_ms"]
    return rows.with_columns(
        request_id=pl.concat_str(together, separator="-"),
        position=pl.int_range(pl.len()).over(together),
        watch_time_s=pl.when("watched").then("watch_time_s").otherwise(0.0),
    )


def _kuairand_videos(file: Path) -> pl.DataFrame:
    return read_delimited(file, KUAIRAND_VIDEO).select(
        "video_type",
        "upload_type",
        item_id="video_id",
        channel_id="author_id",
        published_at_ms=_midnight_in_china("upload_dt"),
        duration_s=pl.when(pl.col("video_duration") > 0).then(pl.col("video_duration") / 1000),
        tags=pl.col("tag").str.split(","),
    )


def _kuairec_rows(file: Path) -> pl.DataFrame:
    table = read_delimited(file, KUAIREC_ROW)
    if num_timeless := table["timestamp"].null_count():
        warnings.warn(
            f"{file}: {num_timeless:,} of {table.height:,} rows have no time and are left out",
            stacklevel=3,
        )
    return table.drop_nulls("timestamp").select(
        "user_id",
        item_id="video_id",
        shown_at_ms=(pl.col("timestamp") * 1000).round().cast(pl.Int64),
        watched=pl.col("play_duration") > 0,
        watch_time_s=pl.col("play_duration") / 1000,
        video_ms="video_duration",
        source=pl.lit(file.name.partition(".")[0]),
    )


def _kuairec_videos(path: Path) -> pl.DataFrame | None:
    daily = find_file(path, "item_daily_features.csv")
    categories = find_file(path, "item_categories.csv")
    tables = [
        *([_kuairec_uploads(daily)] if daily else ()),
        *([_kuairec_tags(categories)] if categories else ()),
    ]
    return pl.concat(tables, how="align_full") if tables else None


def _kuairec_uploads(file: Path) -> pl.DataFrame:
    days = read_delimited(file, KUAIREC_VIDEO).sort("video_id", "date")
    return days.unique("video_id", keep="first", maintain_order=True).select(
        "video_type",
        "upload_type",
        item_id="video_id",
        channel_id="author_id",
        published_at_ms=_midnight_in_china("upload_dt"),
    )


def _kuairec_tags(file: Path) -> pl.DataFrame:
    categories = read_delimited(file, KUAIREC_CATEGORY)
    return categories.select(item_id="video_id", tags=pl.col("feat").str.extract_all(r"\d+"))


def _midnight_in_china(date: str) -> pl.Expr:
    """The start of a day like 2022-04-10 in China, int64 UTC ms; null where there is no date."""
    midnight = pl.col(date).str.to_datetime("%Y-%m-%d", time_unit="ms", strict=False)
    return midnight.dt.replace_time_zone(CHINA).dt.epoch("ms")
