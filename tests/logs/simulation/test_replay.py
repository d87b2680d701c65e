"""A replayed page knows what the simulation knew, and other mixes are told from it exactly."""

import numpy as np
import pytest

from upnext.logs.read import read_logs
from upnext.logs.simulation.replay import ReplayedPages, replayed_pages
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.truth import Truth, load_truth
from upnext.logs.simulation.world import LoggingWeights, SimulationConfig
from upnext.schema import Logs

CONFIG = SimulationConfig(
    num_users=60, num_items=90, num_days=4, num_channels=8, popularity_days=2, page_size=5
)
OTHER = LoggingWeights(popular=0.1, fresh=0.2, related=0.6, random=0.1)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Truth, Logs]:
    directory = tmp_path_factory.mktemp("replay") / "logs"
    simulate(CONFIG, directory)
    return load_truth(directory), read_logs(directory)[0]


@pytest.fixture(scope="module")
def pages(simulated: tuple[Truth, Logs]) -> list[ReplayedPages]:
    truth, logs = simulated
    assert logs.impressions is not None
    return list(replayed_pages(truth, logs.impressions, logs.watches))


def test_every_logged_page_comes_again_once(
    simulated: tuple[Truth, Logs], pages: list[ReplayedPages]
) -> None:
    truth, logs = simulated
    assert logs.impressions is not None
    frame = logs.impressions.frame.sort("request_id", "position")
    shown = np.concatenate([part.item_rows.ravel() for part in pages])
    assert shown.tolist() == truth.item_rows(frame["item_id"]).tolist()
    seconds = np.concatenate([part.watch_time_s.ravel() for part in pages])
    assert seconds.tolist() == frame["watch_time_s"].to_list()
    assert logs.impressions is not None
    later = list(replayed_pages(truth, logs.impressions, logs.watches, from_day=2))
    assert sum(len(part.at_ms) for part in later) < sum(len(part.at_ms) for part in pages)
    np.testing.assert_array_equal(later[-1].item_rows, pages[-1].item_rows)


def test_the_logging_mix_gives_back_the_logged_propensities(pages: list[ReplayedPages]) -> None:
    for part in pages:
        again = part.probabilities(CONFIG.logging)
        np.testing.assert_allclose(again, part.propensities, rtol=1e-6)


def test_expected_values_are_those_of_drawn_pages(pages: list[ReplayedPages]) -> None:
    """Only the first slot of a freshly drawn page has the same slots above it as the logged."""
    part = pages[-1]
    num = len(part.at_ms)
    values = np.random.default_rng(0).exponential(20, (num, CONFIG.num_items))
    expected = part.expected(OTHER, values)[:, 0]
    policy, rng = part.policy.with_weights(OTHER), np.random.default_rng(1)
    drawn = [policy.draw_pages(rng, part.recent_rows, part.at_ms).item_rows for _ in range(800)]
    seconds = np.stack([np.take_along_axis(values, rows[:, :1], axis=1)[:, 0] for rows in drawn])
    error = seconds.std(axis=0) / np.sqrt(len(drawn))
    assert np.abs((seconds.mean(axis=0) - expected) / error).max() < 4.5
    assert abs(seconds.mean() - expected.mean()) < 4 * seconds.std() / np.sqrt(seconds.size)


def test_a_slot_never_holds_what_stands_above_it(pages: list[ReplayedPages]) -> None:
    part = pages[0]
    everything = np.ones((len(part.at_ms), CONFIG.num_items))
    np.testing.assert_allclose(part.expected(OTHER, everything), 1, rtol=1e-9)
    of_first = np.zeros_like(everything)
    np.put_along_axis(of_first, part.item_rows[:, :1].astype(np.int64), 1.0, axis=1)
    expected = part.expected(OTHER, of_first)
    np.testing.assert_allclose(expected[:, 0], part.probabilities(OTHER)[:, 0])
    np.testing.assert_allclose(expected[:, 1:], 0, atol=1e-12)


def test_the_truth_of_shown_items_is_that_of_the_logs(pages: list[ReplayedPages]) -> None:
    truth = pages[0].truth
    examination = truth.examination(np.arange(CONFIG.page_size))
    expected = np.concatenate(
        [
            (np.take_along_axis(part.true_watch_time_s(), part.item_rows, 1) * examination).ravel()
            for part in pages
        ]
    )
    logged = np.concatenate([part.watch_time_s.ravel() for part in pages])
    error = (logged - expected).std() / np.sqrt(logged.size)
    assert abs((logged - expected).mean()) < 4 * error
