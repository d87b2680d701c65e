"""Other choices for the first slot are the release's own, and near the truth where it is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from upnext.evaluation.off_policy import OffPolicyValue
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.first_slot import POWERS, FirstSlotChoices, FirstSlots
from upnext.pipeline.measuring.oracle import Oracle
from upnext.pipeline.measuring.parts import measure_part
from upnext.schema import NUM_RESERVED_ROWS, Impressions

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

ALIKE, PROPORTIONAL, SQUARE = POWERS


@pytest.fixture(scope="module")
def bench(tiny_release: TrainedRelease) -> Bench:
    return Bench.prepare(tiny_release.logs_dir, tiny_release.registry, 1)


def slots_of(bench: Bench, impressions: Impressions, num_slots: int = 10_000) -> FirstSlots | None:
    items = bench.recommender.encoder.catalogue.items
    return FirstSlots.of_impressions(impressions, items, bench.users, num_slots=num_slots)


@pytest.fixture(scope="module")
def slots(bench: Bench) -> FirstSlots:
    """Of all days: the tiny test day alone has too few."""
    assert bench.logs.impressions is not None
    slots = slots_of(bench, bench.logs.impressions)
    assert slots is not None
    return slots


@pytest.fixture(scope="module")
def oracle(bench: Bench, tiny_release: TrainedRelease) -> Oracle:
    oracle = Oracle.open(tiny_release.logs_dir, bench.logs, bench.recommender, bench.users)
    assert oracle is not None
    return oracle


@pytest.fixture(scope="module")
def values(bench: Bench, slots: FirstSlots, oracle: Oracle) -> dict[str, OffPolicyValue]:
    found = values_of(bench, slots, masks_watched=True, oracle=oracle)
    return {value.policy: value for value in found}


def values_of(
    bench: Bench, slots: FirstSlots, *, masks_watched: bool, oracle: Oracle | None
) -> tuple[OffPolicyValue, ...]:
    choices = FirstSlotChoices(
        recommender=bench.recommender,
        history=bench.history,
        slots=slots,
        masks_watched=masks_watched,
        oracle=oracle,
    )
    return choices.values(measure_part(choices))


def test_slots_are_the_first_of_each_page(bench: Bench, slots: FirstSlots) -> None:
    assert bench.logs.impressions is not None
    first = bench.logs.impressions.frame.filter(pl.col("position") == 0).sort("shown_at_ms")
    assert slots.at_ms.tolist() == first["shown_at_ms"].to_list()
    assert slots.watch_time_s.sum() == pytest.approx(first["watch_time_s"].sum(), rel=1e-5)
    assert slots.propensities.sum() == pytest.approx(first["propensity"].sum(), rel=1e-5)
    fewer = slots_of(bench, bench.logs.impressions, num_slots=20)
    assert fewer is not None
    assert len(fewer.at_ms) == 20
    assert set(fewer.at_ms) <= set(slots.at_ms)


def test_logs_without_propensities_have_no_slots(bench: Bench) -> None:
    assert bench.logs.impressions is not None
    frame = bench.logs.impressions.frame
    for without in (
        frame.drop("propensity"),
        frame.with_columns(propensity=pl.lit(None, pl.Float32)),
        frame.with_columns(propensity=pl.lit(0.0, pl.Float32)),
        frame.filter(pl.col("position") > 0),
    ):
        assert slots_of(bench, Impressions(without)) is None


def test_estimates_are_near_the_truth(values: dict[str, OffPolicyValue]) -> None:
    for value in values.values():
        for found in (value.snips_s, value.doubly_robust_s):
            width = found.high - found.low
            assert found.low - width / 2 < value.truth_s < found.high + width / 2


def test_the_more_a_choice_heeds_the_ranker_the_more_it_truly_brings_and_the_less_is_known(
    values: dict[str, OffPolicyValue],
) -> None:
    truths = [values[name].truth_s for name in (ALIKE, PROPORTIONAL, SQUARE)]
    assert truths == sorted(truths)
    known = [values[name].effective_num_slots for name in (ALIKE, PROPORTIONAL, SQUARE)]
    assert known == sorted(known, reverse=True)
    assert known[0] < values[ALIKE].num_slots


def test_weights_are_one_on_average_over_what_the_logging_policy_could_choose(
    bench: Bench, slots: FirstSlots
) -> None:
    """Were every slot logged with each of its items in turn, chances would add up to one."""
    rng = np.random.default_rng(0)
    num_items = bench.recommender.encoder.catalogue.num_rows - 2
    item_rows = (2 + rng.integers(num_items, size=len(slots.at_ms))).astype(np.int32)
    uniform = replace(
        slots,
        item_rows=item_rows,
        propensities=np.full(len(item_rows), 1 / num_items, np.float32),
    )
    for value in values_of(bench, uniform, masks_watched=False, oracle=None):
        assert value.mean_weight.low < 1 < value.mean_weight.high
        assert np.isnan(value.truth_s)


@pytest.mark.parametrize("bonus", [50.0, -50.0])
def test_choices_are_those_that_would_be_served(
    bench: Bench, slots: FirstSlots, bonus: float
) -> None:
    """What was watched has its bonus where it may come again, and is left out where it may not."""
    retriever = replace(bench.recommender.retriever, repeat_bonus=bonus)
    choices = FirstSlotChoices(
        recommender=replace(bench.recommender, retriever=retriever),
        history=bench.history,
        slots=slots,
        masks_watched=False,
        oracle=None,
    )
    last = slice(len(slots.at_ms) - 20, None)
    starts, seen = bench.history.watches.all_before(slots.user_rows[last], slots.at_ms[last])
    again = choices.measure(last)["item_rows"]
    others = replace(choices, masks_watched=True).measure(last)["item_rows"]
    num_found = bench.recommender.num_found()
    for place, rows in enumerate(np.split(seen, starts[1:-1])):
        assert not np.isin(others[place], rows).any()
        known = np.unique(rows[rows >= NUM_RESERVED_ROWS])
        assert len(known)
        if bonus > 0:
            assert np.isin(known, again[place, :num_found]).all()
        else:
            assert not np.isin(again[place, :num_found], known).any()


def test_a_release_without_a_ranker_has_no_such_choice(
    retrieval_release: TrainedRelease, bench: Bench
) -> None:
    assert FirstSlotChoices.of(bench) is not None
    unranked = replace(bench, recommender=retrieval_release.recommender)
    assert FirstSlotChoices.of(unranked) is None
