from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from upnext.errors import DataError
from upnext.logs.public.news import load_eb_nerd, load_globo

CLICK_HEADER = (
    "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,"
    "click_environment,click_deviceGroup,click_os,click_country,click_region,click_referrer_type\n"
)
NOON = datetime(2023, 5, 18, 12)
NOON_MS = 1_684_411_200_000


def write_globo(folder: Path) -> Path:
    clicks = folder / "clicks"
    clicks.mkdir()
    (clicks / "clicks_hour_000.csv").write_text(
        CLICK_HEADER + "7,100,1000,3,11,1000,4,3,20,1,20,2\n7,100,1000,3,12,61500,4,1,17,1,21,2\n"
    )
    (clicks / "clicks_hour_001.csv").write_text(
        CLICK_HEADER
        + "7,100,1000,3,13,91500,4,1,17,1,21,2\n"
        + "8,200,5000,2,12,5000,4,1,17,1,25,1\n8,200,5000,2,11,1806000,4,1,17,1,25,1\n"
    )
    return folder


def test_globo_stays_end_with_the_next_click_of_the_session(tmp_path: Path) -> None:
    watches = load_globo(write_globo(tmp_path)).watches.frame
    assert watches.rows() == [
        (7, 11, 1_000, 60.5),
        (7, 12, 61_500, 30.0),  # the publisher's own half minute
        (7, 13, 91_500, 30.0),  # nothing ends it
        (8, 12, 5_000, 30.0),  # 1801 s is an absence
        (8, 11, 1_806_000, 30.0),
    ]


def test_globo_without_metadata_publishes_at_the_first_click(tmp_path: Path) -> None:
    items = load_globo(write_globo(tmp_path)).items.frame
    published = dict(items.select("item_id", "published_at_ms").rows())
    assert published == {11: 1_000, 12: 5_000, 13: 91_500}


def test_globo_metadata_is_the_catalogue(tmp_path: Path) -> None:
    (write_globo(tmp_path) / "articles_metadata.csv").write_text(
        "article_id,category_id,created_at_ts,publisher_id,words_count\n"
        "11,5,900,0,168\n99,6,800,0,20\n"
    )
    items = load_globo(tmp_path).items.frame
    columns = ["item_id", "published_at_ms", "channel_id", "words_count"]
    assert items.select(columns).rows() == [
        (11, 900, 5, 168.0),
        (12, None, None, None),
        (13, None, None, None),
        (99, 800, 6, 20.0),
    ]


def test_globo_users_are_as_at_their_first_click(tmp_path: Path) -> None:
    users = load_globo(write_globo(tmp_path)).users
    assert users is not None
    assert users.frame.rows() == [(7, "4", "3", "20", "1", "20"), (8, "4", "1", "17", "1", "25")]


def test_globo_names_the_missing_clicks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"clicks_hour_(?s:.*)Kaggle"):
        load_globo(tmp_path)


def behaviours(**changes: object) -> pl.DataFrame:
    """Two impressions of user 5: a front page left for article 2, then that article's page."""
    columns: dict[str, object] = {
        "impression_id": [71, 72],
        "article_id": [None, 2],
        "impression_time": [NOON, NOON.replace(second=21)],
        "read_time": [20.0, 40.0],
        "article_ids_inview": [[1, 2, 3], [4, 5]],
        "article_ids_clicked": [[2], [4, 5]],
        "user_id": [5, 5],
        "is_sso_user": [True, True],
        "gender": [1, 1],
        "postcode": [None, None],
        "age": [40, 40],
        "is_subscriber": [False, False],
        "device_type": [2, 1],
        "next_read_time": [40.0, 9.0],
    }
    return pl.DataFrame(columns | changes)


def histories(*clicks: tuple[int, datetime, float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": [5],
            "impression_time_fixed": [[time for _, time, _ in clicks]],
            "article_id_fixed": [[article for article, _, _ in clicks]],
            "read_time_fixed": [[read_time for _, _, read_time in clicks]],
        }
    )


def write_eb_nerd(folder: Path, shown: pl.DataFrame, history: pl.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shown.write_parquet(folder / "behaviors.parquet")
    history.write_parquet(folder / "history.parquet")
    return folder


EARLIER = histories((8, NOON.replace(day=1), 12.0))


def test_eb_nerd_lists_in_view_are_requests(tmp_path: Path) -> None:
    logs = load_eb_nerd(write_eb_nerd(tmp_path, behaviours(), EARLIER))
    assert logs.impressions is not None
    columns = ["request_id", "item_id", "shown_at_ms", "position", "watched", "watch_time_s"]
    assert logs.impressions.frame.select(columns).rows() == [
        (71, 1, NOON_MS, 0, False, 0.0),
        (71, 2, NOON_MS, 1, True, 40.0),
        (71, 3, NOON_MS, 2, False, 0.0),
        (72, 4, NOON_MS + 21_000, 0, True, 4.5),
        (72, 5, NOON_MS + 21_000, 1, True, 4.5),
    ]


def test_eb_nerd_counts_a_click_and_the_visit_that_follows_once(tmp_path: Path) -> None:
    logs = load_eb_nerd(write_eb_nerd(tmp_path, behaviours(), EARLIER))
    assert logs.watches.frame.sort("started_at_ms", "item_id").rows() == [
        (5, 8, NOON_MS - 17 * 86_400_000, 12.0),
        (5, 2, NOON_MS + 20_000, 40.0),
        (5, 4, NOON_MS + 61_000, 4.5),
        (5, 5, NOON_MS + 61_000, 4.5),
    ]


def test_eb_nerd_keeps_the_page_of_an_article_that_nobody_was_seen_to_click(tmp_path: Path) -> None:
    arrived = behaviours(article_id=[9, 2])
    watches = load_eb_nerd(write_eb_nerd(tmp_path, arrived, EARLIER)).watches.frame
    assert watches.filter(item_id=9).rows() == [(5, 9, NOON_MS, 20.0)]


def test_eb_nerd_joins_train_and_validation(tmp_path: Path) -> None:
    later = behaviours(
        impression_id=[81, 82],
        impression_time=[NOON.replace(day=25), NOON.replace(day=26)],
        article_id=[None, None],
    )
    clicked_in_train = histories(
        (8, NOON.replace(day=1), 12.0), (2, NOON.replace(second=21), 40.0), (6, NOON, 3.0)
    )
    write_eb_nerd(tmp_path / "ebnerd_small" / "train", behaviours(), EARLIER)
    write_eb_nerd(tmp_path / "ebnerd_small" / "validation", later, clicked_in_train)
    logs = load_eb_nerd(tmp_path)
    assert logs.impressions is not None
    assert logs.impressions.frame["request_id"].unique().to_list() == [71, 72, 81, 82]
    watched = logs.watches.frame.group_by("item_id").len().sort("item_id").rows()
    assert watched == [(2, 2), (4, 2), (5, 2), (6, 1), (8, 1)]


def test_eb_nerd_without_a_read_time_counts_zero_seconds(tmp_path: Path) -> None:
    unread = behaviours(next_read_time=[None, 9.0], article_id=[None, 7])
    watches = load_eb_nerd(write_eb_nerd(tmp_path, unread, EARLIER)).watches.frame
    assert watches.filter(item_id=2)["watch_time_s"].to_list() == [0.0]


def test_eb_nerd_articles_and_users(tmp_path: Path) -> None:
    write_eb_nerd(tmp_path / "train", behaviours(), EARLIER)
    pl.DataFrame(
        {
            "article_id": [1],
            "title": ["Zlatans paradis til salg"],
            "published_time": [NOON],
            "category_str": ["sport"],
            "topics": [["Kendt", "Sport"]],
            "total_inviews": [1000],
        }
    ).write_parquet(tmp_path / "articles.parquet")
    logs = load_eb_nerd(tmp_path)
    items = logs.items.frame
    assert items["item_id"].to_list() == [1, 2, 3, 4, 5, 8]
    assert items.row(0, named=True) == {
        "item_id": 1,
        "published_at_ms": NOON_MS,
        "duration_s": None,
        "channel_id": "sport",
        "tags": ["Kendt", "Sport"],
        "title": "Zlatans paradis til salg",
    }
    assert logs.users is not None
    assert logs.users.frame.rows() == [(5, "true", "1", None, "40", "false", "2")]


def test_eb_nerd_refuses_the_test_set(tmp_path: Path) -> None:
    hidden = behaviours().drop("article_ids_clicked", "next_read_time")
    write_eb_nerd(tmp_path, hidden, EARLIER)
    with pytest.raises(DataError, match="test set"):
        load_eb_nerd(tmp_path)


def test_real_globo(real_data: Callable[[str], Path]) -> None:
    logs = load_globo(real_data("globo-g1"))
    watches, items = logs.watches.frame, logs.items.frame
    assert watches.height == 2_590_647
    assert watches["watch_time_s"].is_between(0, 1800).all()
    assert items.height == watches["item_id"].n_unique()
    assert logs.users is not None
    assert logs.users.frame.height == watches["user_id"].n_unique()
    first_click = watches.join(items.select("item_id", "published_at_ms"), on="item_id")
    assert (first_click["started_at_ms"] >= first_click["published_at_ms"]).all()


def test_real_eb_nerd(real_data: Callable[[str], Path]) -> None:
    logs = load_eb_nerd(real_data("ebnerd-fixture"))
    assert logs.impressions is not None
    shown = logs.impressions.frame
    assert shown["request_id"].n_unique() == 1_046
    assert (
        shown.group_by("request_id")
        .agg(pl.col("position").max() + 1 - pl.len())["position"]
        .to_list()
        == [0] * 1_046
    )
    assert shown["watched"].sum() == 1_047
    assert logs.users is not None
    assert logs.users.frame.height == 44
    assert set(shown["item_id"]) | set(logs.watches.frame["item_id"]) == set(
        logs.items.frame["item_id"]
    )
