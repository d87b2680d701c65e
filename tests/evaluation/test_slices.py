"""A slice is measured as if nothing else had been shown."""

import numpy as np
import pytest

from upnext.evaluation.compare import ShownImpressions, ranking_metrics
from upnext.evaluation.slices import ImpressionFacts, ranking_slices

RNG = np.random.default_rng(0)
NUM = 3000
SHOWN = ShownImpressions(
    user_rows=np.repeat(np.arange(60), 50),
    request_ids=np.repeat(np.arange(300), 10),
    watched=RNG.random(NUM) < 0.3,
    watch_time_s=np.zeros(NUM),
)
WATCH_TIME_S = SHOWN.watched * RNG.exponential(40, NUM)
SHOWN = ShownImpressions(**(vars(SHOWN) | {"watch_time_s": WATCH_TIME_S}))
FACTS = ImpressionFacts(
    num_watches_before=np.repeat(np.arange(300), 10) % 25,
    item_age_days=np.where(RNG.random(NUM) < 0.1, np.nan, RNG.exponential(5, NUM)),
    duration_s=np.where(RNG.random(NUM) < 0.2, np.nan, RNG.lognormal(5, 1, NUM)),
    position=np.tile(np.arange(10.0), 300),
)
EXPECTED_S = WATCH_TIME_S * 0.3 + RNG.exponential(10, NUM)


def test_each_slice_has_the_metrics_of_its_impressions_alone() -> None:
    slices = ranking_slices(SHOWN, FACTS, EXPECTED_S, num_new_user_watches=5, fresh_days=2.0)
    by_name = {one.name: one for one in slices}
    assert len(by_name) == 6
    expected = {
        "all": np.ones(NUM, bool),
        "new users, under 5 watches": FACTS.num_watches_before < 5,
        "new items, under 2 days": FACTS.item_age_days < 2,
    }
    for name, chosen in expected.items():
        assert by_name[name].num_impressions == chosen.sum()
        alone = ranking_metrics(SHOWN[chosen], EXPECTED_S[chosen], scores_are_seconds=True)
        assert by_name[name].metrics == alone


def test_thirds_by_duration_hold_all_known_durations_once() -> None:
    slices = ranking_slices(SHOWN, FACTS, EXPECTED_S, num_new_user_watches=5, fresh_days=2.0)
    thirds = [one.num_impressions for one in slices[3:]]
    num_known = int((~np.isnan(FACTS.duration_s)).sum())
    assert sum(thirds) == num_known
    assert thirds == pytest.approx([num_known / 3] * 3, abs=1)


def test_slices_without_impressions_are_left_out() -> None:
    unknown = np.full(NUM, np.nan)
    facts = ImpressionFacts(
        num_watches_before=np.full(NUM, 99),
        item_age_days=unknown,
        duration_s=unknown,
        position=FACTS.position,
    )
    slices = ranking_slices(SHOWN, facts, EXPECTED_S, num_new_user_watches=5, fresh_days=2.0)
    assert [one.name for one in slices] == ["all"]
