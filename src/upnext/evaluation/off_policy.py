"""What would another policy have brought? Estimates from the logs of the policy that was there.

A policy, here, fills one slot: it chooses item i with a known probability π(i | x). The context x
is all that was there when the slot was filled: the user, the past, the position and the items in
the slots above, *as they were logged*. So these estimates are about other choices for single slots
on the pages, and after the histories, that the logging policy made; what a policy would bring if it
filled whole pages for weeks, they do not tell.

They need the propensity p(i | x) > 0 of what was shown, and that p(j | x) > 0 for *every* j that
the target policy may choose. The logs cannot prove the second; but then the weights' mean is 1, and
a mean that is surely below 1 tells of choices that the logging policy never made.

Few large weights make an interval look surer than it is. On made-up bandits, 95% intervals held
the truth in 80 to 87% of logs with 44 to 65 effective slots, in 90 to 94% with 170 to 261, and in
92 to 96% with 667 to 1,038 (`benchmarks/off_policy.py intervals`).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.intervals import MetricValue, Values, metric_value, sum_by_user


@dataclass(frozen=True, kw_only=True, slots=True)
class OffPolicyValue:
    """One target policy: estimates of its mean watch time a slot, and what they rest on.

    `logged_s`: what the logging policy brought. `doubly_robust_s`: nan without a reward model.
    `mean_weight` should be 1. `effective_num_slots`: (Σ w)² / Σ w², how many slots of the target
    policy's own would tell as much; with few of them, the intervals are too narrow as well.
    `num_clipped`: weights that were cut, for less noise at the price of a bias.
    `truth_s`: nan but on simulated logs.
    """

    policy: str
    num_slots: int
    logged_s: MetricValue
    ips_s: MetricValue
    snips_s: MetricValue
    doubly_robust_s: MetricValue
    mean_weight: MetricValue
    max_weight: float
    effective_num_slots: float
    num_clipped: int = 0
    truth_s: float = math.nan


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """What a model expects, seconds: of the item that was shown, and of what the target chooses.

    predicted_s = q(x, i)        target_predicted_s = Σ_j π(j | x) q(x, j)        both [M]
    """

    predicted_s: NDArray[np.floating]
    target_predicted_s: NDArray[np.floating]


def off_policy_value(
    policy: str,
    *,
    user_rows: NDArray[Any],
    watch_time_s: NDArray[np.floating],
    propensities: NDArray[np.floating],
    target_probabilities: NDArray[np.floating],
    model: RewardModel | None = None,
    max_weight: float | None = None,
    truth_s: float = math.nan,
) -> OffPolicyValue:
    """Every estimate for one target policy, with intervals by drawing users anew.

    Args:
        policy: the target policy's name.
        user_rows: [M] whose slot it was.
        watch_time_s: [M] what the item that was shown brought, r.
        propensities: [M] p, with which the logging policy chose it for the slot.
        target_probabilities: [M] π, with which the target policy would have.
        model: for the doubly robust estimate.
        max_weight: greater weights are cut to it; None cuts none.
        truth_s: where it is known.

    Raises: ValueError: as `importance_weights`.
    """
    weights = importance_weights(target_probabilities, propensities)
    num_clipped = 0 if max_weight is None else int((weights > max_weight).sum())
    weights = np.minimum(weights, np.inf if max_weight is None else max_weight)
    one = np.ones(len(weights))

    def by_user(numerators: NDArray[Any], denominators: NDArray[Any]) -> MetricValue:
        return metric_value(
            sum_by_user(user_rows, numerators), sum_by_user(user_rows, denominators)
        )

    robust = doubly_robust(weights, watch_time_s, model) if model else None
    return OffPolicyValue(
        policy=policy,
        num_slots=len(weights),
        logged_s=by_user(watch_time_s, one),
        ips_s=by_user(inverse_propensity(weights, watch_time_s), one),
        snips_s=by_user(inverse_propensity(weights, watch_time_s), weights),
        doubly_robust_s=MetricValue(math.nan) if robust is None else by_user(robust, one),
        mean_weight=by_user(weights, one),
        max_weight=float(weights.max(initial=0.0)),
        effective_num_slots=effective_num_slots(weights),
        num_clipped=num_clipped,
        truth_s=truth_s,
    )


def importance_weights(
    target_probabilities: NDArray[np.floating], propensities: NDArray[np.floating]
) -> Values:
    """How much more often the target policy would choose what was shown: w = π / p, [M].

    Raises: ValueError: a propensity is not in (0, 1], or a target probability not in [0, 1].

    >>> importance_weights(np.array([0.5, 0.0]), np.array([0.25, 0.5]))
    array([2., 0.])
    """
    target = np.asarray(target_probabilities, np.float64)
    logged = np.asarray(propensities, np.float64)
    tiny = 1e-6  # float32 propensities of a certain choice may round to just above 1
    if not ((logged > 0) & (logged <= 1 + tiny)).all():
        raise ValueError("propensities: expected numbers above 0 and up to 1")
    if not ((target >= 0) & (target <= 1 + tiny)).all():
        raise ValueError("target_probabilities: expected numbers from 0 to 1")
    return target / logged


def inverse_propensity(weights: Values, watch_time_s: NDArray[np.floating]) -> Values:
    """Terms of IPS and SNIPS, w · r, [M].

        IPS = Σ w r / M        SNIPS = Σ w r / Σ w

    The expectation of a term is Σ_j p(j) · π(j) / p(j) · E[r | j], the target policy's value, so
    IPS is unbiased. SNIPS divides by the weights that there happened to be in place of those
    expected: nearly unbiased, mostly far less noisy, and exactly c where every reward is c.

    Source: Horvitz and Thompson 1952; Swaminathan and Joachims 2015, "The self-normalized estimator
    for counterfactual learning".

    >>> inverse_propensity(np.array([2.0, 0.0]), np.array([30.0, 10.0]))
    array([60.,  0.])
    """
    return weights * watch_time_s


def doubly_robust(
    weights: Values, watch_time_s: NDArray[np.floating], model: RewardModel
) -> Values:
    """Terms of the doubly robust estimate, [M]; their mean is the estimate.

        Σ_j π(j) q(j)  +  w · (r − q(i))

    What the model q expects of the target policy, and a correction by what it got wrong where the
    truth was seen. Unbiased with the right propensities, whatever the model; the better the model,
    the less is left for the noisy weights to carry. The model must not have learned from r.

    Source: Dudík, Langford and Li 2011, "Doubly robust policy evaluation and learning".

    >>> model = RewardModel(predicted_s=np.array([20.0]), target_predicted_s=np.array([25.0]))
    >>> doubly_robust(np.array([2.0]), np.array([30.0]), model)
    array([45.])
    """
    return model.target_predicted_s + weights * (watch_time_s - model.predicted_s)


def effective_num_slots(weights: Values) -> float:
    """(Σ w)² / Σ w²: all M slots where the weights are equal, one where one has all; 0 for none.

    Source: Kish 1965, "Survey sampling".

    >>> effective_num_slots(np.array([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0
