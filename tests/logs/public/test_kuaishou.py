import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from upnext.errors import DataError
from upnext.logs.public.kuaishou import load_kuairand, load_kuairec

KUAIRAND_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
    "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab\n"
)
VIDEO_HEADER = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag\n"
)
USER_HEADER = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,"
    "follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,"
    "friend_user_num_range,register_days,register_days_range,"
    + ",".join(f"onehot_feat{number}" for number in range(18))
    + "\n"
)
USER_ROW = '0,full_active,0,1,1,514,500+,150,"[100,1k)",34,"[30,60)",799,730+' + ",1" * 18 + "\n"
LOG = "log_standard_4_08_to_4_21_pure.csv"
LATER_LOG = "log_standard_4_22_to_5_08_pure.csv"
TIME_MS = 1_649_581_149_287


def log_row(user: int, video: int, time_ms: int, clicked: int, play_ms: int, long_ms: int) -> str:
    marks = f"{clicked},0,0,0,0,0,0"
    return f"{user},{video},20220410,1700,{time_ms},{marks},{play_ms},{long_ms},0,0,0,0,1\n"


def write_kuairand(folder: Path) -> Path:
    data = folder / "KuaiRand-Pure" / "data"
    data.mkdir(parents=True)
    (data / LOG).write_text(
        KUAIRAND_HEADER
        + log_row(0, 10, TIME_MS, 1, 46_500, 45_000)
        + log_row(0, 20, TIME_MS, 0, 3_000, 0)
    )
    (data / LATER_LOG).write_text(KUAIRAND_HEADER + log_row(1, 10, TIME_MS + 1, 0, 0, 45_000))
    (data / "video_features_basic_pure.csv").write_text(
        VIDEO_HEADER
        + '10,77,NORMAL,2022-04-10,LongImport,0.0,87433.0,720.0,1280.0,915,9.0,"12,65"\n'
        + "30,78,AD,,Web,0.0,,720.0,1280.0,916,,\n"
    )
    return data


def test_kuairand_rows_are_impressions_and_clicks_are_watches(tmp_path: Path) -> None:
    write_kuairand(tmp_path)
    logs = load_kuairand(tmp_path)
    assert logs.impressions is not None
    assert logs.impressions.frame.rows() == [
        (f"0-{TIME_MS}", 0, 10, TIME_MS, 0, True, 46.5),
        (f"0-{TIME_MS}", 0, 20, TIME_MS, 1, False, 0.0),
        (f"1-{TIME_MS + 1}", 1, 10, TIME_MS + 1, 0, False, 0.0),
    ]
    assert logs.watches.frame.rows() == [(0, 10, TIME_MS, 46.5)]


def test_kuairand_videos(tmp_path: Path) -> None:
    items = load_kuairand(write_kuairand(tmp_path)).items.frame
    video, unlisted, unwatched = items.rows(named=True)
    assert (video["item_id"], unlisted["item_id"], unwatched["item_id"]) == (10, 20, 30)
    assert video["published_at_ms"] == 1_649_520_000_000  # 9 April, 16:00 UTC
    assert video["duration_s"] == pytest.approx(87.433)
    assert (video["channel_id"], video["tags"]) == (77, ["12", "65"])
    assert (unlisted["duration_s"], unlisted["tags"]) == (None, None)
    assert (unwatched["published_at_ms"], unwatched["video_type"]) == (None, "AD")


def test_kuairand_without_side_tables_takes_lengths_from_the_log(tmp_path: Path) -> None:
    data = write_kuairand(tmp_path)
    (data / "video_features_basic_pure.csv").unlink()
    items = load_kuairand(tmp_path).items.frame
    assert items.select("item_id", "duration_s").rows() == [(10, 45.0), (20, None)]


def test_kuairand_joins_side_tables_of_its_own_version_alone(tmp_path: Path) -> None:
    data = write_kuairand(tmp_path)
    (data / "user_features_1k.csv").write_text(USER_HEADER + USER_ROW)
    users = load_kuairand(tmp_path).users
    assert users is not None
    assert users.frame.rows() == [(0,), (1,)]
    (data / "user_features_1k.csv").rename(data / "user_features_pure.csv")
    users = load_kuairand(tmp_path).users
    assert users is not None
    assert users.frame["fans_user_num_range"].to_list() == ["[100,1k)", None]


def test_kuairand_refuses_logs_of_two_versions(tmp_path: Path) -> None:
    data = write_kuairand(tmp_path)
    (data / LATER_LOG).rename(data / "log_standard_4_22_to_5_08_1k.csv")
    with pytest.raises(DataError, match="1k, pure"):
        load_kuairand(tmp_path)


def test_kuairand_27k_comes_in_parts_and_packed(tmp_path: Path) -> None:
    for part in (1, 2):
        content = KUAIRAND_HEADER + log_row(part, 10, TIME_MS, 1, 1_000, 2_000)
        file = tmp_path / f"log_standard_4_08_to_4_21_27k_part{part}.csv.gz"
        file.write_bytes(gzip.compress(content.encode()))
    assert load_kuairand(tmp_path).watches.frame["user_id"].to_list() == [1, 2]


def test_kuairand_names_the_missing_log(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log_standard_(?s:.*)kuairand\.com"):
        load_kuairand(tmp_path)


MATRIX_HEADER = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"


def write_kuairec(folder: Path) -> Path:
    data = folder / "KuaiRec 2.0" / "data"
    data.mkdir(parents=True)
    day = "2020-07-05 00:08:23.438,20200705"
    (data / "big_matrix.csv").write_text(
        f"{MATRIX_HEADER}0,3649,13838,10867,{day},1593878903.438,1.273397\n"
        f"0,9598,0,10984,{day},1593878999,0.0\n"
    )
    return data


def test_kuairec_rows(tmp_path: Path) -> None:
    write_kuairec(tmp_path)
    logs = load_kuairec(tmp_path)
    assert logs.impressions is not None
    shown = logs.impressions.frame.drop("watch_time_s")
    assert shown.rows() == [
        ("0-1593878903438", 0, 3649, 1_593_878_903_438, 0, True, "big_matrix"),
        ("0-1593878999000", 0, 9598, 1_593_878_999_000, 0, False, "big_matrix"),
    ]
    assert logs.watches.frame["watch_time_s"].to_list() == pytest.approx([13.838])
    assert logs.items.frame["duration_s"].to_list() == pytest.approx([10.867, 10.984])


def test_kuairec_side_tables(tmp_path: Path) -> None:
    data = write_kuairec(tmp_path)
    (data / "item_categories.csv").write_text('video_id,feat\n3649,"[27, 9]"\n5,[8]\n')
    (data / "item_daily_features.csv").write_text(
        "video_id,date,author_id,video_type,upload_dt,upload_type,visible_status,show_cnt\n"
        "3649,20200706,66,NORMAL,2020-03-30,ShortImport,public,9\n"
        "3649,20200705,66,NORMAL,2020-03-30,ShortImport,public,8\n"
    )
    (data / "user_features.csv").write_text(USER_HEADER + USER_ROW)
    logs = load_kuairec(tmp_path)
    items = logs.items.frame
    assert items.select("item_id", "channel_id", "tags").rows() == [
        (5, None, ["8"]),
        (3649, 66, ["27", "9"]),
        (9598, None, None),
    ]
    assert items["published_at_ms"].to_list() == [None, 1_585_497_600_000, None]
    assert logs.users is not None
    assert logs.users.frame["register_days"].to_list() == ["799"]


def test_kuairec_counts_the_rows_without_a_time(tmp_path: Path) -> None:
    (write_kuairec(tmp_path) / "small_matrix.csv").write_text(
        f"{MATRIX_HEADER}14,148,4381,6067,2020-07-05,20200705,1593878903.5,0.72\n"
        "14,183,11635,6100,,,,1.9\n"
    )
    with pytest.warns(UserWarning, match=r"small_matrix\.csv: 1 of 2 rows have no time"):
        logs = load_kuairec(tmp_path)
    assert logs.impressions is not None
    assert logs.impressions.frame["source"].to_list() == ["big_matrix"] * 2 + ["small_matrix"]


def test_kuairec_names_the_missing_matrices(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"big_matrix\.csv or small_matrix\.csv"):
        load_kuairec(tmp_path)


def test_real_kuairand_excerpt(real_data: Callable[[str], Path]) -> None:
    logs = load_kuairand(real_data("kuairand"))
    assert logs.impressions is not None
    shown = logs.impressions.frame
    assert (shown.height, shown["user_id"].n_unique()) == (41_828, 664)
    assert shown["watched"].mean() == pytest.approx(0.657, abs=0.0005)
    assert logs.items.frame.height == 9_359
    assert logs.items.frame["channel_id"].null_count() == 9_359
