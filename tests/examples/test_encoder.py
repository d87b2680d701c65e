import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest

from upnext.errors import ConfigError, DataError
from upnext.examples.encoder import (
    Encoder,
    ExamplesConfig,
    build_encoder,
    now_ms,
    user_vocabulary,
)
from upnext.examples.history import EventLog
from upnext.examples.past import told_by
from upnext.schema import Logs, PastWatch, RecommendationRequest

MakeLogs = Callable[..., Logs]

NOW_MS = 1_000_000


@pytest.fixture
def logs(make_logs: MakeLogs) -> Logs:
    return make_logs(
        watches=[("a", 10, 500, 3.0), ("b", 20, 600, 4.0), ("a", 10, 400, 5.0)],
        impressions=[("r", "c", 20, 300, 0, True, 7.0), ("r", "c", 99, 300, 1, False, 0.0)],
        searches=[("a", 450, "slow ramen"), ("d", 460, "!")],
        items=[(10, 0, 12.5, "cook", None, None), (20, 0, 30.0, "sail", None, None)],
        users=pl.DataFrame({"user_id": ["a", "e"], "country": ["fi", None], "age": [7, 8]}),
    )


@pytest.fixture
def encoder(logs: Logs) -> Encoder:
    config = ExamplesConfig(clock=("hour", "weekday"), user_features=("country", "age"))
    return build_encoder(logs, config)


def events_of(log: EventLog) -> list[tuple[int, int, int, float]]:
    columns = (log.user_rows(), log.rows, log.at_ms, log.watch_time_s)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_users_are_all_who_occur_in_any_table(logs: Logs) -> None:
    assert set(user_vocabulary(logs).series()) == {"a", "b", "c", "d", "e"}


def test_a_history_holds_each_users_events_in_order_of_time(encoder: Encoder, logs: Logs) -> None:
    users, items = user_vocabulary(logs), encoder.catalogue.items
    history = encoder.history(logs, users)
    a, b = users.rows(["a", "b"])
    ten, twenty = items.rows([10, 20])
    watches = [(a, ten, 400, 5.0), (a, ten, 500, 3.0), (b, twenty, 600, 4.0)]
    assert events_of(history.watches) == sorted(watches, key=lambda event: event[0])
    tokens = [encoder.search_tokens.row(token) for token in ("ramen", "ramen slow", "slow")]
    assert events_of(history.searches) == [(a, token, 450, 0.0) for token in tokens]
    assert 1 not in tokens


def test_an_impression_tells_nothing_of_what_came_of_it(encoder: Encoder, logs: Logs) -> None:
    users = user_vocabulary(logs)
    twenty = encoder.catalogue.items.row(20)
    shown = encoder.history(logs, users).shown
    assert events_of(shown) == [(users.row("c"), row, 300, 0.0) for row in (twenty, 1)]


def test_reserved_rows_and_strangers_have_no_history(
    encoder: Encoder, logs: Logs, make_logs: MakeLogs
) -> None:
    users = user_vocabulary(make_logs(watches=[("b", 1, 0, 0.0)]))
    history = encoder.history(logs, users)
    assert history.watches.starts.tolist() == [0, 0, 0, 1]
    assert history.searches.starts.tolist() == history.shown.starts.tolist() == [0, 0, 0, 0]
    assert history.feature_rows.tolist() == [[1, 1]] * 3


def test_declared_features_of_users_are_rows_and_unknown_where_missing(
    encoder: Encoder, logs: Logs
) -> None:
    users = user_vocabulary(logs)
    country, age = encoder.user_features["country"], encoder.user_features["age"]
    features = encoder.history(logs, users).feature_rows
    assert features[users.row("a")].tolist() == [country.row("fi"), age.row("7")]
    assert features[users.row("e")].tolist() == [1, age.row("8")]
    assert features[users.row("b")].tolist() == [1, 1]
    assert encoder.context_sizes == (24, 7, country.num_rows, age.num_rows)


@pytest.mark.parametrize(
    ("moment", "hour", "weekday"),
    [
        (datetime(1970, 1, 1, 0, 0, tzinfo=UTC), 0, 3),
        (datetime(2026, 1, 5, 0, 0, tzinfo=UTC), 0, 0),
        (datetime(2026, 1, 4, 23, 59, 59, tzinfo=UTC), 23, 6),
        (datetime(2024, 2, 29, 12, 30, tzinfo=UTC), 12, 3),
        (datetime(1969, 12, 31, 22, 0, tzinfo=UTC), 22, 2),
    ],
)
def test_context_is_the_hour_and_the_weekday(
    encoder: Encoder, moment: datetime, hour: int, weekday: int
) -> None:
    at_ms = np.array([round(moment.timestamp() * 1_000)])
    assert moment.weekday() == weekday
    rows = encoder.context_rows(np.array([[5, 6]], np.int32), at_ms)
    assert rows.dtype == np.int32
    assert rows.tolist() == [[hour, weekday, 5, 6]]


@pytest.mark.parametrize(
    ("clock", "context"),
    [((), []), (("hour",), [14]), (("weekday",), [2]), (("weekday", "hour"), [2, 14])],
)
def test_only_the_declared_parts_of_the_clock_are_told(
    make_logs: MakeLogs, clock: tuple[Literal["hour", "weekday"], ...], context: list[int]
) -> None:
    encoder = build_encoder(make_logs(), ExamplesConfig(clock=clock))
    moment = datetime(2026, 7, 1, 14, 59, tzinfo=UTC)
    at_ms = np.array([round(moment.timestamp() * 1_000)])
    assert encoder.context_rows(np.zeros((1, 0), np.int32), at_ms).tolist() == [context]
    assert len(encoder.context_sizes) == len(context)
    assert all(row < size for row, size in zip(context, encoder.context_sizes, strict=True))


def test_a_request_without_times_was_watched_just_before_in_its_order(encoder: Encoder) -> None:
    past = [PastWatch(item_id=20), PastWatch(item_id=10, watch_time_s=2.0), PastWatch(item_id=99)]
    watches = told_by(encoder, RecommendationRequest(history=past), NOW_MS).watches
    assert watches.rows.tolist() == [*encoder.catalogue.items.rows([20, 10]), 1]
    assert watches.watch_time_s.tolist() == [30.0, 2.0, 0.0]
    ended_ms = watches.at_ms + np.round(1_000 * watches.watch_time_s).astype(np.int64)
    assert (ended_ms[:-1] == watches.at_ms[1:]).all()
    assert NOW_MS - 1 <= ended_ms[-1] <= NOW_MS
    assert watches.window_before(np.array([0]), np.array([NOW_MS]), 50)[1].tolist() == [3]


def test_a_request_with_times_is_put_in_their_order(encoder: Encoder) -> None:
    past = [
        PastWatch(item_id=10, started_at_ms=NOW_MS - 5, watch_time_s=1.5),
        PastWatch(item_id=20, started_at_ms=NOW_MS - 9_000, watch_time_s=2.5),
        PastWatch(item_id="20", started_at_ms=0),
    ]
    watches = told_by(encoder, RecommendationRequest(history=past), NOW_MS).watches
    ten, twenty = encoder.catalogue.items.rows([10, 20]).tolist()
    assert events_of(watches) == [
        (0, twenty, 0, 30.0),
        (0, twenty, NOW_MS - 9_000, 2.5),
        (0, ten, NOW_MS - 5, 1.5),
    ]


def test_what_a_fast_clock_tells_has_happened_just_before_the_request(encoder: Encoder) -> None:
    past = [
        PastWatch(item_id=10, started_at_ms=NOW_MS + 2_000, watch_time_s=1.0),
        PastWatch(item_id=20, started_at_ms=NOW_MS, watch_time_s=2.0),
        PastWatch(item_id=10, started_at_ms=NOW_MS - 7, watch_time_s=3.0),
        PastWatch(item_id=20, watch_time_s=4.0),
    ]
    watches = told_by(encoder, RecommendationRequest(history=past), NOW_MS).watches
    assert watches.watch_time_s.tolist() == [4.0, 3.0, 2.0, 1.0]
    assert watches.at_ms.tolist() == [NOW_MS - 4_000, NOW_MS - 7, NOW_MS - 1, NOW_MS - 1]
    assert watches.rows.tolist() == encoder.catalogue.items.rows([20, 10, 20, 10]).tolist()


def test_searches_and_features_of_a_request_are_encoded_as_those_of_the_logs(
    encoder: Encoder,
) -> None:
    request = RecommendationRequest(
        searches=["Slow ramen", "tofu"], user_features={"country": "fi", "shoe_size": "44"}
    )
    history = told_by(encoder, request, NOW_MS)
    tokens = ["ramen", "ramen slow", "slow", "tofu"]
    assert history.searches.rows.tolist() == encoder.search_tokens.rows(tokens).tolist()
    assert (np.diff(history.searches.at_ms) >= 0).all()
    assert history.searches.at_ms.max() < NOW_MS
    assert history.feature_rows.tolist() == [[encoder.user_features["country"].row("fi"), 1]]


def test_an_empty_request_is_an_ordinary_one(encoder: Encoder) -> None:
    history = told_by(encoder, RecommendationRequest(), NOW_MS)
    for log in (history.watches, history.searches, history.shown):
        assert log.starts.tolist() == [0, 0]
    assert history.feature_rows.tolist() == [[1, 1]]


def test_a_saved_encoder_encodes_the_same(tiny_logs: Logs, tmp_path: Path) -> None:
    config = ExamplesConfig(user_features=("region", "device"), max_items=50)
    encoder, users = build_encoder(tiny_logs, config), user_vocabulary(tiny_logs)
    for name, array in encoder.to_arrays().items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=False)
    arrays = {path.stem: np.load(path, allow_pickle=False) for path in tmp_path.iterdir()}
    again = Encoder.from_arrays(arrays, config)
    assert again.context_sizes == encoder.context_sizes
    expected = encoder.history(tiny_logs, users).to_arrays()
    for name, array in again.history(tiny_logs, users).to_arrays().items():
        assert array.dtype == expected[name].dtype
        assert np.array_equal(array, expected[name])


def test_logs_without_the_optional_tables_are_welcome(make_logs: MakeLogs) -> None:
    logs = make_logs(watches=[(1, 10, 5, 1.0)])
    encoder, users = build_encoder(logs, ExamplesConfig(clock=())), user_vocabulary(logs)
    history = encoder.history(logs, users)
    assert history.watches.starts.tolist() == [0, 0, 0, 1]
    assert history.searches.num_users == history.shown.num_users == users.num_rows
    assert history.feature_rows.shape == (3, 0)
    assert encoder.context_sizes == ()


def test_a_feature_that_is_no_column_is_an_error_that_names_the_columns(logs: Logs) -> None:
    with pytest.raises(DataError, match="a column region, got user_id, country, age"):
        build_encoder(logs, ExamplesConfig(user_features=("region",)))


def test_features_without_a_users_table_are_an_error(make_logs: MakeLogs) -> None:
    with pytest.raises(DataError, match="no users table"):
        build_encoder(make_logs(), ExamplesConfig(user_features=("region",)))


@pytest.mark.parametrize(
    "setting",
    [
        {"max_items": 0},
        {"min_watches": 0},
        {"max_search_tokens": -1},
        {"max_tags": 0},
        {"num_watches": 0},
        {"num_searches": 0},
        {"num_shown": -5},
        {"recent_watches": (1, 0)},
    ],
)
def test_sizes_below_one_are_refused(setting: dict[str, int]) -> None:
    (name,) = setting
    with pytest.raises(ConfigError, match=re.escape(f"[examples] {name}: expected 1 or more")):
        ExamplesConfig(**setting)  # type: ignore[arg-type]


def test_the_most_frequent_tokens_are_kept(make_logs: MakeLogs) -> None:
    logs = make_logs(searches=[(1, 0, "tea"), (1, 1, "tea"), (1, 2, "rice")])
    encoder = build_encoder(logs, ExamplesConfig(max_search_tokens=1))
    assert encoder.search_tokens.series().to_list() == ["tea"]


def test_now_is_in_milliseconds_of_utc() -> None:
    before = datetime.now(UTC).timestamp()
    assert before - 1 <= now_ms() / 1_000 <= datetime.now(UTC).timestamp() + 1
