"""On a made-up platform whose policies and means are known, the estimators keep their promises."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from upnext.evaluation.off_policy import (
    RewardModel,
    doubly_robust,
    effective_num_slots,
    importance_weights,
    inverse_propensity,
    off_policy_value,
)

Table = NDArray[np.float64]
NUM_CONTEXTS, NUM_ITEMS, NUM_SLOTS, NUM_LOGS = 6, 8, 40, 4000
RNG = np.random.default_rng(0)
LOGGING: Table = RNG.dirichlet(np.full(NUM_ITEMS, 1.5), NUM_CONTEXTS) / 2 + 0.5 / NUM_ITEMS
TARGET: Table = RNG.dirichlet(np.full(NUM_ITEMS, 0.7), NUM_CONTEXTS)
MEAN_S: Table = RNG.gamma(2.0, 15.0, (NUM_CONTEXTS, NUM_ITEMS))
TRUTH_S = float((TARGET * MEAN_S).sum(axis=1).mean())


@dataclass(frozen=True)
class Drawn:
    """Many logs of a few slots each: [num_logs, num_slots]."""

    contexts: NDArray[np.int64]
    items: NDArray[np.int64]
    watch_time_s: Table

    @property
    def at(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.contexts, self.items

    @property
    def weights(self) -> Table:
        return importance_weights(TARGET[self.at], LOGGING[self.at])


def draw(num_logs: int, num_slots: int, seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    shape = (num_logs, num_slots)
    contexts = rng.integers(NUM_CONTEXTS, size=shape)
    chances = np.cumsum(LOGGING, axis=1)[contexts]
    items = np.minimum((chances < rng.random(shape)[..., None]).sum(axis=-1), NUM_ITEMS - 1)
    return Drawn(contexts, items, rng.exponential(MEAN_S[contexts, items]))


LOGS = draw(NUM_LOGS, NUM_SLOTS, seed=1)


def standard_errors_off(estimates: Table) -> float:
    """How many standard errors the mean of many logs' estimates [num_logs] lies from the truth."""
    error = float(estimates.std()) / np.sqrt(len(estimates))
    return float(abs(estimates.mean() - TRUTH_S) / error)


def robust_estimates(model_s: Table) -> Table:
    model = RewardModel(
        predicted_s=model_s[LOGS.at],
        target_predicted_s=(TARGET * model_s).sum(axis=1)[LOGS.contexts],
    )
    estimates: Table = doubly_robust(LOGS.weights, LOGS.watch_time_s, model).mean(axis=1)
    return estimates


IPS = inverse_propensity(LOGS.weights, LOGS.watch_time_s).mean(axis=1)


def test_inverse_propensity_is_unbiased() -> None:
    assert standard_errors_off(IPS) < 3
    logged = LOGS.watch_time_s.mean(axis=1)
    assert standard_errors_off(logged) > 10, "the logs themselves tell something else"


@pytest.mark.parametrize("wrong_s", [MEAN_S * 3 + 40, np.zeros_like(MEAN_S), MEAN_S[::-1, ::-1]])
def test_doubly_robust_is_unbiased_whatever_the_model_says(wrong_s: Table) -> None:
    assert standard_errors_off(robust_estimates(wrong_s)) < 3


def test_a_perfect_model_makes_doubly_robust_steadier_than_inverse_propensity() -> None:
    perfect = robust_estimates(MEAN_S)
    assert standard_errors_off(perfect) < 3
    assert perfect.var() < 0.6 * IPS.var()
    assert robust_estimates(np.zeros_like(MEAN_S)) == pytest.approx(IPS)


def test_self_normalised_estimates_near_the_truth_and_are_exact_for_a_constant_reward() -> None:
    snips = IPS / LOGS.weights.mean(axis=1)
    assert snips.mean() == pytest.approx(TRUTH_S, rel=0.02)
    assert snips.var() < IPS.var()
    log = draw(1, 30, seed=3)
    value = off_policy_value(
        "constant",
        user_rows=np.arange(30),
        watch_time_s=np.full(30, 7.0),
        propensities=LOGGING[log.at][0],
        target_probabilities=TARGET[log.at][0],
    )
    assert value.snips_s.value == pytest.approx(7.0)
    assert value.snips_s.low == pytest.approx(value.snips_s.high)
    assert value.ips_s.value == pytest.approx(7.0 * value.mean_weight.value)


def test_of_the_logging_policy_itself_every_estimate_is_the_logged_mean() -> None:
    log = draw(1, 200, seed=4)
    propensities = LOGGING[log.at][0].astype(np.float32)
    value = off_policy_value(
        "logging",
        user_rows=np.arange(200) // 10,
        watch_time_s=log.watch_time_s[0],
        propensities=propensities,
        target_probabilities=propensities,
    )
    assert value.ips_s == value.snips_s == value.logged_s
    assert value.logged_s.value == pytest.approx(log.watch_time_s.mean())
    assert (value.mean_weight.value, value.max_weight) == (1.0, 1.0)
    assert value.effective_num_slots == pytest.approx(200)
    assert np.isnan(value.doubly_robust_s.value)


def test_intervals_hold_the_truth_nearly_as_often_as_they_say() -> None:
    num_logs, num_slots = 100, 1200
    log = draw(num_logs, num_slots, seed=5)
    model = RewardModel(
        predicted_s=np.full(num_slots, 30.0), target_predicted_s=np.full(num_slots, 30.0)
    )
    covered = dict.fromkeys(("ips_s", "snips_s", "doubly_robust_s"), 0)
    for one in range(num_logs):
        contexts, items = log.contexts[one], log.items[one]
        value = off_policy_value(
            "target",
            user_rows=np.arange(num_slots) // 3,
            watch_time_s=log.watch_time_s[one],
            propensities=LOGGING[contexts, items],
            target_probabilities=TARGET[contexts, items],
            model=model,
            truth_s=TRUTH_S,
        )
        for name in covered:
            found = getattr(value, name)
            covered[name] += found.low <= value.truth_s <= found.high
    assert min(covered.values()) >= 0.87 * num_logs
    assert max(covered.values()) < num_logs


def test_clipping_bounds_the_weights_and_is_told() -> None:
    log = draw(1, 500, seed=6)

    def value(max_weight: float | None) -> tuple[float, float, float, int]:
        found = off_policy_value(
            "target",
            user_rows=np.arange(500),
            watch_time_s=log.watch_time_s[0],
            propensities=LOGGING[log.at][0],
            target_probabilities=TARGET[log.at][0],
            max_weight=max_weight,
        )
        return found.ips_s.value, found.max_weight, found.effective_num_slots, found.num_clipped

    ips_s, greatest, effective, num_clipped = value(None)
    assert num_clipped == 0
    clipped_s, clipped_greatest, clipped_effective, num_clipped = value(2.0)
    assert clipped_greatest == 2.0 < greatest
    assert clipped_s < ips_s
    assert clipped_effective > effective
    assert num_clipped == (log.weights > 2.0).sum() > 0
    assert value(greatest) == (ips_s, greatest, effective, 0)


def test_choices_that_the_logging_policy_never_makes_show_in_the_mean_weight() -> None:
    rng = np.random.default_rng(7)
    value = off_policy_value(
        "half of it elsewhere",
        user_rows=np.arange(400),
        watch_time_s=rng.exponential(10, 400),
        propensities=np.full(400, 0.25),
        target_probabilities=rng.permutation(np.repeat([0.25, 0.0], 200)),
    )
    assert value.mean_weight.high < 1
    assert value.effective_num_slots == pytest.approx(200)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.1, np.nan])
def test_propensities_that_are_none_are_refused(propensity: float) -> None:
    with pytest.raises(ValueError, match="propensities"):
        importance_weights(np.array([0.5, 0.5]), np.array([0.5, propensity]))


@pytest.mark.parametrize("probability", [-0.1, 1.1, np.nan])
def test_target_probabilities_that_are_none_are_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="target_probabilities"):
        importance_weights(np.array([0.5, probability]), np.array([0.5, 0.5]))


def test_without_weight_nothing_is_effective() -> None:
    assert effective_num_slots(np.zeros(3)) == 0
    assert effective_num_slots(np.array([0.0, 9.0])) == 1
