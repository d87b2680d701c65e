"""Logs of one mix of sources tell what other mixes would have brought; the simulator knows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from upnext.evaluation.intervals import sum_by_user
from upnext.evaluation.off_policy import OffPolicyValue, RewardModel, off_policy_value
from upnext.logs.read import read_logs
from upnext.logs.simulation.replay import ReplayedPages, replayed_pages
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.truth import load_truth
from upnext.logs.simulation.world import LoggingWeights, SimulationConfig
from upnext.schema import Floats

SEEDS = range(8)
TARGETS = {
    "related": LoggingWeights(popular=0.1, fresh=0.2, related=0.6, random=0.1),
    "fresh": LoggingWeights(popular=0.1, fresh=0.7, related=0.1, random=0.1),
    "random": LoggingWeights(popular=0.05, fresh=0.05, related=0.05, random=0.85),
}
ESTIMATES = ("ips_s", "snips_s", "doubly_robust_s")


@dataclass(frozen=True)
class Estimate:
    """A target policy on one log; `surprise`: the error of IPS in standard errors, by user."""

    value: OffPolicyValue
    surprise: float


@pytest.fixture(scope="module")
def estimates(tmp_path_factory: pytest.TempPathFactory) -> list[Estimate]:
    return [
        estimate
        for seed in SEEDS
        for estimate in _estimates(tmp_path_factory.mktemp("world") / "logs", seed)
    ]


def _estimates(directory: Path, seed: int) -> list[Estimate]:
    simulate(SimulationConfig(num_users=80, num_items=120, num_days=4, seed=seed), directory)
    logs, truth = read_logs(directory)[0], load_truth(directory)
    assert logs.impressions is not None
    pages = list(replayed_pages(truth, logs.impressions, logs.watches, from_day=1))
    true_s = [part.true_watch_time_s() for part in pages]
    return [_estimate(name, weights, pages, true_s) for name, weights in TARGETS.items()]


def _estimate(
    name: str, weights: LoggingWeights, pages: list[ReplayedPages], true_s: list[Floats]
) -> Estimate:
    """The model knows every item's worth but for a factor of a half."""
    examination = pages[0].truth.examination(np.arange(pages[0].item_rows.shape[1]))
    of_shown = [np.take_along_axis(s, p.item_rows, 1) for p, s in zip(pages, true_s, strict=True)]
    expected = [p.expected(weights, s) * examination for p, s in zip(pages, true_s, strict=True)]
    truth_s = np.concatenate(expected).ravel()
    shown_s = (np.concatenate(of_shown) * examination).ravel()
    user_rows = np.concatenate([np.repeat(p.user_rows, len(examination)) for p in pages])
    watch_time_s = np.concatenate([p.watch_time_s.ravel() for p in pages])
    propensities = np.concatenate([p.propensities.ravel() for p in pages])
    chances = np.concatenate([p.probabilities(weights).ravel() for p in pages])
    value = off_policy_value(
        name,
        user_rows=user_rows,
        watch_time_s=watch_time_s,
        propensities=propensities,
        target_probabilities=chances,
        model=RewardModel(predicted_s=shown_s / 2, target_predicted_s=truth_s / 2),
        truth_s=float(truth_s.mean()),
    )
    errors = sum_by_user(user_rows, watch_time_s * chances / propensities - truth_s)
    return Estimate(value, float(errors.sum() / np.sqrt((errors**2).sum())))


def test_intervals_cover_the_truth(estimates: list[Estimate]) -> None:
    """Nearly always: they allow for other users' requests too, and the truth is of these."""
    covered = [
        getattr(one.value, name).low <= one.value.truth_s <= getattr(one.value, name).high
        for one in estimates
        for name in ESTIMATES
    ]
    assert len(covered) == 8 * 3 * 3
    assert np.mean(covered) >= 0.9


def test_errors_are_as_large_as_chance_makes_them(estimates: list[Estimate]) -> None:
    surprises = np.array([one.surprise for one in estimates])
    assert abs(surprises.mean()) < 3 / np.sqrt(len(SEEDS))
    assert 0.5 < surprises.std() < 1.6


def test_estimates_tell_apart_what_the_logs_alone_do_not(estimates: list[Estimate]) -> None:
    """Over all logs, the target policies stand in the order of their true values."""
    names = list(TARGETS)
    values = np.array([[one.value.truth_s, one.value.snips_s.value] for one in estimates])
    means = values.reshape(len(SEEDS), len(names), 2).mean(axis=0)
    assert np.argsort(means[:, 0]).tolist() == np.argsort(means[:, 1]).tolist()
    assert means[:, 0].max() > 1.2 * means[:, 0].min()
