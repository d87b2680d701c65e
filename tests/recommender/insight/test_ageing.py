"""Figure 4 of one item is the mean of class probabilities, computed by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from upnext.examples.watches import build_watch_examples
from upnext.export.probabilities import class_probabilities
from upnext.insight import ItemAgeing
from upnext.pipeline.learning_logs import split_logs
from upnext.recommender.insight import ageing
from upnext.recommender.insight.ageing import Ageing
from upnext.registry.release import Release
from upnext.schema import MS_PER_DAY, MS_PER_HOUR, NUM_RESERVED_ROWS, Logs

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

    from upnext.recommender import Recommender


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


def aged(of: Recommender | Ageing, row: int, *, age: float = 0.0, num_users: int = 7) -> ItemAgeing:
    """The answer; before it there are only steps."""
    drawn = of if isinstance(of, Ageing) else Ageing(of)
    *steps, answer = drawn.of_item(row, age, num_users)
    assert steps == [None] * len(steps)
    assert answer is not None
    return answer


def new_item(recommender: Recommender) -> int:
    """The row of an item that was published in the midst of the logs."""
    published = recommender.encoder.catalogue.published_at_ms
    first_ms = int(recommender.history.watches.at_ms.min())
    is_new = published > first_ms + 2 * MS_PER_DAY + MS_PER_HOUR
    is_new &= published < recommender.known_until_ms - MS_PER_DAY
    return int(np.flatnonzero(is_new)[0])


def probability(recommender: Recommender, user_row: int, row: int, at_ms: int, age: float) -> float:
    """Of one item, by the tower and the softmax over the whole catalogue."""
    vectors = recommender.retriever.user_vectors_at_age(
        recommender.history, np.array([user_row]), np.array([at_ms]), np.array([age], np.float32)
    )
    return float(class_probabilities(recommender, vectors[0])[row])


def sampled(recommender: Recommender, num_users: int) -> list[int]:
    watching = np.flatnonzero(np.diff(recommender.history.watches.starts))
    drawn = np.random.default_rng(0).choice(watching, num_users, replace=False)
    told: list[int] = sorted(drawn.tolist())
    return told


@pytest.mark.parametrize("num_users", [1, 5])
def test_both_curves_are_means_of_class_probabilities(
    recommender: Recommender, num_users: int
) -> None:
    row = new_item(recommender)
    found = aged(recommender, row, age=3.5, num_users=num_users)
    users = sampled(recommender, num_users)
    trained_until = datetime.fromisoformat(recommender.kept.metadata["train_until"])
    trained_until_ms = round(trained_until.timestamp() * 1000)
    assert found.trained_until_ms == trained_until_ms
    assert (found.num_users, found.days[0]) == (num_users, -2)
    assert found.num_items_summed == recommender.encoder.catalogue.num_rows - NUM_RESERVED_ROWS
    for day, as_trained, at_age in zip(found.days, found.as_trained, found.at_age, strict=True):
        at_ms = found.published_at_ms + day * MS_PER_DAY
        age = max(0.0, (trained_until_ms - at_ms) / MS_PER_DAY)
        for told, of_age in ((as_trained, age), (at_age, 3.5)):
            each = [probability(recommender, user, row, at_ms, of_age) for user in users]
            assert told == pytest.approx(np.mean(each), rel=1e-4)


def test_training_ended_where_its_examples_did(
    tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    """Ages count from the last example that was learned from, not from the end of all logs."""
    recommender, config = tiny_release.recommender, tiny_release.config
    learned_from = split_logs(tiny_logs, config.split).train
    history = recommender.encoder.history(learned_from, recommender.users)
    _, examples = build_watch_examples(recommender.encoder, history, completed_share=0)
    found = aged(recommender, new_item(recommender))
    assert found.trained_until_ms == examples.last_ms < recommender.known_until_ms


def test_days_lie_within_the_logs_and_end_with_them(recommender: Recommender) -> None:
    published = recommender.encoder.catalogue.published_at_ms
    first_ms = recommender.history.item_counts.watches_by_hour()[0] * MS_PER_HOUR
    drawn = Ageing(recommender)
    for row in range(NUM_RESERVED_ROWS, len(published)):
        found = aged(drawn, row, num_users=1)
        at_ms = [int(published[row]) + day * MS_PER_DAY for day in found.days]
        assert at_ms[0] >= first_ms
        assert 0 <= recommender.known_until_ms - at_ms[-1] < MS_PER_DAY
        assert list(found.days) == list(range(found.days[0], found.days[-1] + 1))


def test_watches_of_a_day_and_their_share_are_those_of_the_logs(
    recommender: Recommender, tiny_logs: Logs
) -> None:
    row = new_item(recommender)
    found = aged(recommender, row)
    is_known = recommender.encoder.catalogue.items.rows(tiny_logs.watches.frame["item_id"]) > 1
    watches = tiny_logs.watches.frame.filter(is_known).with_columns(
        hour=(pl.col("started_at_ms") + (pl.col("watch_time_s") * 1000).ceil().cast(pl.Int64))
        // MS_PER_HOUR
    )
    for day, num, share in zip(found.days, found.num_watches, found.watched_share, strict=True):
        since = found.published_at_ms // MS_PER_HOUR + 24 * day
        of_day = watches.filter(pl.col("hour").is_between(since, since + 23))
        own = of_day.filter(pl.col("item_id") == found.item_id)
        assert num == own.height
        assert share == pytest.approx(own.height / max(1, of_day.height))


def test_a_curve_is_drawn_once_and_a_second_age_leaves_the_first_curve(
    recommender: Recommender,
) -> None:
    drawn, row = Ageing(recommender), new_item(recommender)
    first = aged(drawn, row)
    assert len(list(drawn.of_item(row, 0.0, 7))) == 1
    other = aged(drawn, row, age=5.0)
    assert other.as_trained == first.as_trained
    assert other.at_age != first.at_age
    assert aged(drawn, row) == first


def test_many_items_leave_fewer_users_and_long_logs_fewer_days(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = new_item(recommender)
    all_days = aged(recommender, row).days
    num_items = recommender.encoder.catalogue.num_rows - NUM_RESERVED_ROWS
    monkeypatch.setattr(ageing, "MAX_POINTS", 3)
    monkeypatch.setattr(ageing, "MAX_CELLS", 3 * 4 * num_items)
    found = aged(recommender, row)
    assert found.num_users <= 6
    assert len(found.days) <= 3
    assert list(found.days) == list(all_days[:: found.days[1] - found.days[0]])


def test_steps_do_not_change_what_comes_out(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = new_item(recommender)
    whole = aged(recommender, row)
    monkeypatch.setattr(ageing, "MOMENTS_A_STEP", 3)
    parts = aged(recommender, row)
    assert parts.as_trained == pytest.approx(whole.as_trained, rel=1e-5)
    assert parts.at_age == pytest.approx(whole.at_age, rel=1e-5)


def test_where_age_is_read_as_that_of_the_item_it_is_so_here(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recommender.kept.json("config.json")
    config["retrieval"]["network"]["example_age"] = "publication"
    monkeypatch.setattr(Release, "json", lambda _self, _name: config)
    row = new_item(recommender)
    found = aged(recommender, row, num_users=1)
    (user,) = sampled(recommender, 1)
    for day, as_trained in zip(found.days, found.as_trained, strict=True):
        at_ms = found.published_at_ms + day * MS_PER_DAY
        expected = probability(recommender, user, row, at_ms, max(0, day))
        assert as_trained == pytest.approx(expected, rel=1e-4)


def test_an_item_published_after_the_logs_has_no_days(recommender: Recommender) -> None:
    row, catalogue = new_item(recommender), recommender.encoder.catalogue
    published = catalogue.published_at_ms.copy()
    published[row] = recommender.known_until_ms + 9 * MS_PER_DAY
    encoder = replace(recommender.encoder, catalogue=replace(catalogue, published_at_ms=published))
    found = aged(replace(recommender, encoder=encoder), row)
    assert (found.days, found.as_trained, found.at_age) == ([], [], [])
    assert (found.watched_share, found.num_watches) == ([], [])
