"""What every objective of ranking promises: seconds, whatever its outputs are."""

import math

import numpy as np
import pytest
import torch

from upnext.errors import ConfigError
from upnext.ranking.config import RankingConfig
from upnext.ranking.objectives import Objective, Outcomes, new_objective

CONFIGS = {
    "weighted-logistic": RankingConfig(objective="weighted-logistic"),
    "the paper's weights": RankingConfig(objective="weighted-logistic", variant="paper"),
    "click": RankingConfig(objective="click"),
    "click-and-share": RankingConfig(objective="click-and-share"),
    "regression": RankingConfig(objective="regression"),
    "d2q": RankingConfig(objective="d2q"),
}
NAMES = list(CONFIGS)
DURATION_S = 100.0


def outcomes_of(
    watched: list[float] | torch.Tensor,
    watch_time_s: list[float] | torch.Tensor,
    duration_s: list[float] | torch.Tensor | float = DURATION_S,
) -> Outcomes:
    columns = [torch.as_tensor(one, dtype=torch.float32) for one in (watched, watch_time_s)]
    lengths = torch.as_tensor(duration_s, dtype=torch.float32)
    return Outcomes(columns[0], columns[1], lengths.expand(len(columns[0])))


def drawn(seed: int, num_impressions: int = 400) -> Outcomes:
    """Three in ten are watched; items of 100 s, watches of 1 to 99 s."""
    rng = np.random.default_rng(seed)
    watched = rng.random(num_impressions) < 0.3
    seconds = np.where(watched, rng.uniform(1, 99, num_impressions), 0.0)
    return outcomes_of(torch.from_numpy(watched), torch.from_numpy(seconds))


def of_many_lengths(seed: int, num_impressions: int = 600) -> Outcomes:
    """Items of 10 s to half an hour, one in ten of unknown length; some watches go beyond it."""
    rng = np.random.default_rng(seed)
    duration_s = np.exp(rng.uniform(np.log(10), np.log(1_800), num_impressions))
    watched = rng.random(num_impressions) < 0.4
    seconds = np.where(watched, duration_s * rng.uniform(0, 1.2, num_impressions), 0.0)
    duration_s[rng.random(num_impressions) < 0.1] = 0.0
    columns = (torch.from_numpy(array) for array in (watched, seconds, duration_s))
    return outcomes_of(*columns)


def counted(name: str, outcomes: Outcomes) -> tuple[Objective, list[float]]:
    objective = new_objective(CONFIGS[name])
    return objective, list(objective.count(outcomes))


def slope(objective: Objective, outcomes: Outcomes, outputs: torch.Tensor) -> torch.Tensor:
    """[O] of the loss, all impressions having the same outputs."""
    alike = outputs.detach().clone().requires_grad_()
    loss = objective.loss(alike.expand(len(outcomes.watched), -1), outcomes)
    (gradient,) = torch.autograd.grad(loss, alike)
    return gradient


def least(objective: Objective, outcomes: Outcomes, num_outputs: int) -> torch.Tensor:
    """The outputs that cost least where all impressions share them: bisection by the slopes."""
    low = torch.full((num_outputs,), -40.0, dtype=torch.float64)
    high = -low
    for _ in range(80):
        middle = (low + high) / 2
        rises = slope(objective, outcomes, middle) > 0
        low, high = torch.where(rises, low, middle), torch.where(rises, middle, high)
    return low


def learned_s(name: str, outcomes: Outcomes, *, of: Outcomes | None = None) -> torch.Tensor:
    """What is predicted for each impression where nothing tells them apart."""
    objective, start = counted(name, of or outcomes)
    outputs = least(objective, outcomes, len(start))
    return objective.seconds(outputs.expand(len(outcomes.watched), -1), outcomes.duration_s)


def closed_form_s(name: str, outcomes: Outcomes) -> float:
    watched = outcomes.watched.bool().numpy()
    seconds = outcomes.watch_time_s.double().numpy()[watched]
    num, num_watched = len(watched), int(watched.sum())
    click_rate = num_watched / num
    match name:
        case "weighted-logistic" | "regression" | "click":
            return float(seconds.sum() / num)
        case "the paper's weights":
            return float(seconds.sum() / (num - num_watched))
        case "click-and-share":
            return float(click_rate * (seconds / DURATION_S).mean() * DURATION_S)
        case "d2q":
            levels = np.linspace(0, 1, 21)
            quantiles = np.quantile(seconds, levels)
            mean_level = np.interp(seconds, quantiles, levels).mean()
            return float(click_rate * np.interp(mean_level, levels, quantiles))
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_learned_of_alike_impressions_has_a_closed_form(name: str, seed: int) -> None:
    outcomes = drawn(seed)
    found = learned_s(name, outcomes)
    expected = closed_form_s(name, outcomes)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "d2q"])
@pytest.mark.parametrize("seed", range(3))
def test_training_begins_where_nothing_is_to_be_learned_of_all_alike(name: str, seed: int) -> None:
    outcomes = drawn(seed)
    objective, start = counted(name, outcomes)
    gradient = slope(objective, outcomes, torch.tensor(start, dtype=torch.float64))
    elsewhere = slope(objective, outcomes, torch.tensor(start, dtype=torch.float64) + 1)
    assert (gradient.abs() < 1e-3 * elsewhere.abs()).all()


@pytest.mark.parametrize("name", NAMES)
def test_seconds_are_numbers_from_zero_on_however_extreme_the_outputs(name: str) -> None:
    outcomes = of_many_lengths(4)
    objective, start = counted(name, outcomes)
    for extreme in (-1e4, -80.0, -20.0, 0.0, 20.0, 80.0, 1e4):
        outputs = torch.full((len(outcomes.watched), len(start)), extreme, requires_grad=True)
        seconds = objective.seconds(outputs, outcomes.duration_s)
        assert seconds.shape == outcomes.watched.shape
        assert seconds.isfinite().all(), extreme
        assert (seconds >= 0).all(), extreme
        loss = objective.loss(outputs, outcomes)
        (gradient,) = torch.autograd.grad(loss, outputs)
        assert loss.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_greater_output_is_never_fewer_seconds(name: str) -> None:
    outcomes = of_many_lengths(5)
    objective, start = counted(name, outcomes)
    base = torch.tensor(start)
    for output in range(len(start)):
        outputs = base.expand(101, -1).clone()
        outputs[:, output] = torch.linspace(-8, 8, 101)
        for duration_s in (0.0, 10.0, 500.0, 1e5):
            seconds = objective.seconds(outputs, torch.full((101,), duration_s))
            assert (seconds.diff() >= 0).all()
            assert seconds[-1] > seconds[0]


@pytest.mark.parametrize("name", NAMES)
def test_seconds_of_what_was_not_watched_say_nothing(name: str) -> None:
    outcomes = of_many_lengths(6)
    junk = outcomes.watch_time_s + 500.0 * (1 - outcomes.watched)
    with_junk = Outcomes(outcomes.watched, junk, outcomes.duration_s)
    objective, start = counted(name, outcomes)
    other, same_start = counted(name, with_junk)
    assert start == pytest.approx(same_start, rel=1e-6)
    outputs = torch.linspace(-2, 2, len(junk))[:, None].expand(-1, len(start))
    loss = objective.loss(outputs, outcomes)
    torch.testing.assert_close(other.loss(outputs, with_junk), loss)


@pytest.mark.parametrize("name", [name for name in NAMES if "paper" not in name])
def test_where_everything_is_watched_alike_training_begins_at_that(name: str) -> None:
    """Twenty seconds of each, without exception: nothing deviates, and nothing is unwatched."""
    outcomes = outcomes_of([1.0] * 30, [20.0] * 30)
    objective, start = counted(name, outcomes)
    assert all(map(math.isfinite, start))
    begun = objective.seconds(torch.tensor([start]), outcomes.duration_s[:1])
    assert begun.item() == pytest.approx(20.0, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_counted_is_part_of_the_state(name: str) -> None:
    """So that it is exported, and a training that goes on has it."""
    outcomes = of_many_lengths(7)
    objective, start = counted(name, outcomes)
    again = new_objective(CONFIGS[name])
    again.load_state_dict(objective.state_dict())
    outputs = torch.linspace(-3, 3, len(outcomes.watched))[:, None].expand(-1, len(start))
    found = again.seconds(outputs, outcomes.duration_s)
    assert found.equal(objective.seconds(outputs, outcomes.duration_s))


def test_a_quantile_is_turned_back_into_the_seconds_it_came_from() -> None:
    """Of one watched impression alone, its own watch time is learned, whatever its duration."""
    population = of_many_lengths(8)
    watched = population.watched.bool() & (population.duration_s > 0)
    for place in watched.nonzero()[::25, 0]:
        one = slice(int(place), int(place) + 1)
        alone = Outcomes(
            population.watched[one], population.watch_time_s[one], population.duration_s[one]
        )
        found = learned_s("d2q", alone, of=population)
        np.testing.assert_allclose(found, alone.watch_time_s, rtol=1e-3, atol=1e-3)


def test_quantiles_do_not_know_how_long_items_are() -> None:
    """Where long items are watched for the same shares as short ones, seconds are as durations."""
    shares = torch.linspace(0.02, 0.98, 49)
    lengths = torch.tensor([10.0] * 49 + [1_000.0] * 49)
    outcomes = outcomes_of([1.0] * 98, torch.cat([shares, shares]) * lengths, lengths)
    found = learned_s("d2q", outcomes)
    torch.testing.assert_close(found[:49] * 100, found[49:], rtol=1e-3, atol=1e-3)


def test_an_item_of_unknown_length_counts_as_long_as_the_mean_watch() -> None:
    outcomes = outcomes_of([1.0, 1.0, 0.0], [30.0, 50.0, 0.0], [0.0, 60.0, 60.0])
    objective, start = counted("click-and-share", outcomes)
    certain = torch.full((2, len(start)), 50.0)
    assert objective.seconds(certain, torch.tensor([0.0, 60.0])).tolist() == [40.0, 60.0]


def test_only_watch_times_can_be_drawn_by() -> None:
    with pytest.raises(
        ConfigError, match=r"weighting: expected 'loss'.*'up-sampling' with .*'d2q'"
    ):
        RankingConfig(objective="d2q", weighting="up-sampling")
    assert RankingConfig(weighting="up-sampling").objective == "weighted-logistic"
