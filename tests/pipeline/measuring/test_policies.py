"""The truth of a simulated platform bounds every policy, and is reached by who knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.evaluation.report import PolicyValue
from upnext.examples.watches import WatchTargets
from upnext.pipeline.measuring.oracle import Oracle
from upnext.pipeline.measuring.parts import measure_part
from upnext.pipeline.measuring.policies import BEST, BEST_OF_ALL, PolicyPages
from upnext.schema import UNKNOWN_ROW, Floats, Logs

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

TRUTH, POPULAR = "by the truth itself", "most watched"


@pytest.fixture(scope="module")
def oracle(tiny_release: TrainedRelease, tiny_logs: Logs) -> Oracle:
    recommender = tiny_release.recommender
    oracle = Oracle.open(tiny_release.logs_dir, tiny_logs, recommender, recommender.users)
    assert oracle is not None
    return oracle


@pytest.fixture(scope="module")
def moments(tiny_release: TrainedRelease) -> WatchTargets:
    """When users watched something, every fifth time."""
    history = tiny_release.recommender.history
    users, times = history.watches.user_rows(), history.watches.at_ms
    rows = np.full(len(users), UNKNOWN_ROW, np.int32)
    return WatchTargets(history, users, times, rows)[::5]


@pytest.fixture(scope="module")
def values(
    oracle: Oracle, tiny_release: TrainedRelease, moments: WatchTargets
) -> dict[str, PolicyValue]:
    recommender = tiny_release.recommender
    num_watches = recommender.encoder.catalogue.num_watches.astype(np.float32)
    rows = np.arange(len(num_watches), dtype=np.int32)

    def truth(part: WatchTargets) -> Floats:
        everything = np.tile(rows, (len(part), 1))
        return oracle.expected_watch_time_s(part.user_rows, part.at_ms, everything)

    def popularity(part: WatchTargets) -> Floats:
        return np.tile(num_watches, (len(part), 1))

    pages = PolicyPages(
        oracle=oracle,
        recommender=recommender,
        moments=moments,
        others={TRUTH: truth, POPULAR: popularity},
    )
    return {value.name: value for value in pages.values(measure_part(pages))}


def test_the_best_order_of_the_candidates_bounds_who_orders_them(
    values: dict[str, PolicyValue],
) -> None:
    best_s = values[BEST].expected_watch_time_s
    assert 0 < values["two-stage"].expected_watch_time_s <= best_s
    assert 0 < values["retrieval alone"].expected_watch_time_s <= best_s
    assert values[BEST].share_of_best == pytest.approx(1.0)


def test_the_best_of_all_bounds_everyone_and_is_reached_by_the_truth(
    values: dict[str, PolicyValue],
) -> None:
    best_s = values[BEST_OF_ALL].expected_watch_time_s
    assert max(value.expected_watch_time_s for value in values.values()) <= best_s * (1 + 1e-6)
    assert values[TRUTH].expected_watch_time_s == pytest.approx(best_s, rel=1e-6)
    assert values[POPULAR].expected_watch_time_s < best_s


def test_policies_are_told_best_first_with_their_intervals(
    values: dict[str, PolicyValue],
) -> None:
    seconds = [value.expected_watch_time_s for value in values.values()]
    assert seconds == sorted(seconds, reverse=True)
    assert all(v.low <= v.expected_watch_time_s <= v.high for v in values.values())
    for value in values.values():
        share = value.expected_watch_time_s / values[BEST].expected_watch_time_s
        assert value.share_of_best == pytest.approx(share)


def test_padding_and_unknown_items_bring_nothing(oracle: Oracle, moments: WatchTargets) -> None:
    part = moments[:3]
    rows = np.tile(np.array([-1, 0, 1, 2], np.int32), (3, 1))
    seconds = oracle.expected_watch_time_s(part.user_rows, part.at_ms, rows)
    assert (seconds[:, :3] == 0).all()
    assert (seconds[:, 3] > 0).all()


def test_logs_that_were_not_simulated_have_no_oracle(
    plain_release: TrainedRelease, tiny_logs: Logs
) -> None:
    recommender = plain_release.recommender
    assert Oracle.open(plain_release.logs_dir, tiny_logs, recommender, recommender.users) is None
