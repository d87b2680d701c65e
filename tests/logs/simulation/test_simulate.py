import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.logs.simulation import simulate as room
from upnext.logs.simulation.fatigue import Fatigue
from upnext.logs.simulation.logging_policy import LoggingPolicy
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.truth import Truth, load_truth
from upnext.logs.simulation.world import START_MS, SimulationConfig
from upnext.schema import MS_PER_DAY, Impressions, Items, Searches, Users, Watches

CONFIG = SimulationConfig(
    num_users=250, num_items=1_200, num_days=6, num_channels=60, popularity_days=2
)
TINY = SimulationConfig(num_users=12, num_items=90, num_days=2, num_channels=5)


@dataclass(frozen=True)
class Simulated:
    """A small simulation and what went on inside while it ran."""

    directory: Path
    truth: Truth
    watches: pl.DataFrame
    impressions: pl.DataFrame
    searches: pl.DataFrame
    click_calls: list[tuple[NDArray[Any], ...]]
    num_watches: list[NDArray[np.int32]]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    directory = tmp_path_factory.mktemp("logs")
    click_calls: list[tuple[NDArray[Any], ...]] = []
    num_watches: list[NDArray[np.int32]] = []
    truly = Truth.click_probability

    def noted(self: Truth, *call: Any) -> Any:
        click_calls.append(tuple(np.copy(part) for part in call))
        return truly(self, *call)

    class NotedPolicy(LoggingPolicy):
        def __init__(self, *call: Any) -> None:
            num_watches.append(call[-1].copy())
            super().__init__(*call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Truth, "click_probability", noted)
        patch.setattr(room, "LoggingPolicy", NotedPolicy)
        simulate(CONFIG, directory)
    return Simulated(
        directory=directory,
        truth=load_truth(directory),
        watches=pl.read_parquet(directory / "watches"),
        impressions=pl.read_parquet(directory / "impressions"),
        searches=pl.read_parquet(directory / "searches"),
        click_calls=click_calls,
        num_watches=num_watches,
    )


def hashes(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_equal_settings_give_equal_bytes(tmp_path: Path) -> None:
    simulate(TINY, tmp_path / "one")
    simulate(TINY, tmp_path / "two")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert "impressions/day-001.parquet" in hashes(tmp_path / "one")


def test_progress_is_told_day_by_day(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    simulate(TINY, tmp_path, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="empty directory"):
        simulate(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interrupted_simulation_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    logs = tmp_path / "logs"
    with pytest.raises(KeyboardInterrupt):
        simulate(TINY, logs, progress=interrupt)
    assert not (logs / "items.parquet").exists()
    assert (tmp_path / "logs.unfinished" / "items.parquet").exists()
    (tmp_path / "logs.unfinished" / "watches" / "day-999.parquet").write_text("of another world")
    simulate(TINY, logs)
    simulate(TINY, tmp_path / "never interrupted")
    assert hashes(logs) == hashes(tmp_path / "never interrupted")
    assert not (tmp_path / "logs.unfinished").exists()


def test_tables_are_what_the_schema_says(simulated: Simulated) -> None:
    Watches(simulated.watches)
    Impressions(simulated.impressions)
    Searches(simulated.searches)
    Items(pl.read_parquet(simulated.directory / "items.parquet"))
    Users(pl.read_parquet(simulated.directory / "users.parquet"))


def test_no_two_events_of_a_user_share_a_time(simulated: Simulated) -> None:
    requests = simulated.impressions.group_by("request_id").agg(
        pl.col("user_id", "shown_at_ms").first()
    )
    times = pl.concat(
        [
            simulated.watches.select("user_id", at="started_at_ms"),
            requests.select("user_id", at="shown_at_ms"),
            simulated.searches.select("user_id", at="searched_at_ms"),
        ]
    )
    assert times.is_duplicated().sum() == 0


def test_a_watch_ends_before_the_users_next_event_begins(simulated: Simulated) -> None:
    spans = pl.concat(
        [
            simulated.watches.select(
                "user_id",
                start=pl.col("started_at_ms"),
                end=pl.col("started_at_ms") + pl.col("watch_time_s") * 1_000,
            ),
            simulated.impressions.filter(pl.col("position") == 0).select(
                "user_id", start="shown_at_ms", end=pl.col("shown_at_ms").cast(pl.Float64)
            ),
        ]
    ).sort("user_id", "start")
    gaps = spans.select(pl.col("start").shift(-1).over("user_id") - pl.col("end"))["start"]
    assert gaps.drop_nulls().min() > 0  # type: ignore[operator]


def test_a_page_is_one_request_with_different_published_items(simulated: Simulated) -> None:
    pages = simulated.impressions.group_by("request_id").agg(
        pl.col("user_id", "shown_at_ms", "item_id").n_unique(),
        pl.col("position").sort(),
    )
    assert set(pages["user_id"]) == set(pages["shown_at_ms"]) == {1}
    assert set(pages["item_id"]) == {10}
    assert pages["position"].to_list() == [list(range(10))] * pages.height
    catalogue = simulated.truth.world.catalogue
    shown = simulated.truth.item_rows(simulated.impressions["item_id"])
    ages_ms = simulated.impressions["shown_at_ms"].to_numpy() - catalogue.published_at_ms[shown]
    assert ages_ms.min() >= 0


def test_watches_are_the_watched_impressions_and_one_a_search(simulated: Simulated) -> None:
    watched = simulated.impressions.filter("watched")
    unwatched = simulated.impressions.filter(~pl.col("watched"))
    assert simulated.watches.height == watched.height + simulated.searches.height
    keys = ["user_id", "item_id", "watch_time_s"]
    assert watched.join(simulated.watches, on=keys, how="anti").height == 0
    assert unwatched["watch_time_s"].max() == 0
    assert (watched["watch_time_s"] > 0).all()


def test_counts_found_in_the_logs_are_those_used_inside(simulated: Simulated) -> None:
    fatigue = Fatigue.of_logs(
        simulated.truth, Impressions(simulated.impressions), Watches(simulated.watches)
    )
    num_positive = 0
    for user_rows, item_rows, at_ms, num_shown, num_watched in simulated.click_calls:
        shown, watched = fatigue.counts(user_rows, item_rows, at_ms)
        np.testing.assert_array_equal(shown, num_shown)
        np.testing.assert_array_equal(watched, num_watched)
        num_positive += int(np.count_nonzero(num_watched))
    assert num_positive > 100


def test_popularity_counts_the_watches_of_the_last_days_only(simulated: Simulated) -> None:
    started_at_ms = simulated.watches["started_at_ms"].to_numpy()
    item_rows = simulated.truth.item_rows(simulated.watches["item_id"])
    for day, counted in enumerate(simulated.num_watches):
        until_ms = START_MS + day * MS_PER_DAY
        lately = (until_ms - 2 * MS_PER_DAY <= started_at_ms) & (started_at_ms < until_ms)
        expected = np.bincount(item_rows[lately], minlength=CONFIG.num_items)
        np.testing.assert_array_equal(counted, expected)


def test_logged_watch_time_and_clicks_agree_with_the_truth(simulated: Simulated) -> None:
    truth = simulated.truth
    calls = [np.concatenate(parts) for parts in zip(*simulated.click_calls, strict=True)]
    examination = truth.examination(np.arange(10))
    clicks = examination * truth.click_probability(*calls)
    seconds = examination * truth.expected_watch_time_s(*calls)
    logged = simulated.impressions
    num = logged.height
    click_error = logged["watched"].sum() - clicks.sum(dtype=np.float64)
    assert abs(click_error) < 4 * np.sqrt((clicks * (1 - clicks)).sum(dtype=np.float64))
    spread_s = float(logged["watch_time_s"].cast(pl.Float64).std())  # type: ignore[arg-type]
    total_s = logged["watch_time_s"].sum()
    assert abs(total_s - seconds.sum(dtype=np.float64)) < 4 * spread_s * np.sqrt(num)
    assert 0.08 < logged["watched"].mean() < 0.2  # type: ignore[operator]


def test_learning_is_worth_its_while(simulated: Simulated) -> None:
    """True expected watch time beats clicks, clicks beat popularity, and topics help."""
    truth, catalogue = simulated.truth, simulated.truth.world.catalogue
    at_ms = np.full(CONFIG.num_users, START_MS + 5 * MS_PER_DAY)
    users = np.arange(CONFIG.num_users, dtype=np.int32)
    num_published = int(truth.num_published(at_ms)[0])
    items = np.broadcast_to(np.arange(num_published, dtype=np.int32), (users.size, num_published))
    fatigue = Fatigue.of_logs(truth, Impressions(simulated.impressions), Watches(simulated.watches))
    counts = fatigue.counts(users, items, at_ms)
    seconds = truth.expected_watch_time_s(users, items, at_ms, *counts)
    popular = 1.0 + simulated.num_watches[5][:num_published]
    tastes = truth.world.audience.tastes[:, catalogue.main_topics[:num_published]]

    def value_s(scores: NDArray[np.floating[Any]]) -> float:
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        return float(np.take_along_axis(seconds, best, axis=1).mean())

    popular_s = value_s(np.broadcast_to(popular, seconds.shape))
    oracle_s = value_s(seconds)
    assert oracle_s > 3 * popular_s
    assert value_s(tastes * popular) > 1.5 * popular_s
    clicks = truth.click_probability(users, items, at_ms, *counts)
    assert value_s(clicks) < 0.7 * oracle_s
