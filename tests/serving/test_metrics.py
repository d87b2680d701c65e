"""What is counted is told as it is: causes by their stage, times closely enough for quantiles."""

import math
from bisect import bisect_left
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.recommender.funnel import NO_RANKING, TOO_LATE
from upnext.serving import answering
from upnext.serving.metrics import SECONDS, Metrics, causes_of


@pytest.mark.parametrize(
    ("sentence", "counted"),
    [
        (TOO_LATE, ["ranking_late"]),
        (answering.TOO_LATE, ["late"]),
        (answering.FAILED, ["failed"]),
        (answering.NO_STORE, ["store"]),
        (NO_RANKING, []),
        ("rules leave 3 items for 10 slots", []),
    ],
)
def test_a_cause_is_counted_as_what_it_is(sentence: str, counted: list[str]) -> None:
    assert causes_of([sentence]) == counted


def _interpolated(median_s: float, sigma: float, share: float) -> float:
    """A quantile as Prometheus makes it of the buckets of very many log-normal times."""
    normal = NormalDist(math.log(median_s), sigma)
    bounds = (0.0, *SECONDS)
    below = [0.0, *(normal.cdf(math.log(bound)) for bound in SECONDS)]
    place = bisect_left(below, share)
    low, high = bounds[place - 1], bounds[place]
    return low + (high - low) * (share - below[place - 1]) / (below[place] - below[place - 1])


@settings(max_examples=500)
@given(
    median_s=st.floats(0.001, 0.5),
    sigma=st.floats(0.2, 1.2),
    share=st.sampled_from([0.5, 0.9, 0.99, 0.999]),
)
def test_quantiles_read_off_the_buckets_are_near_the_true_ones(
    median_s: float, sigma: float, share: float
) -> None:
    true_s = math.exp(NormalDist(math.log(median_s), sigma).inv_cdf(share))
    if SECONDS[0] <= true_s <= SECONDS[-1]:
        assert _interpolated(median_s, sigma, share) == pytest.approx(true_s, rel=0.12)


def test_bounds_rise_from_half_a_millisecond_to_ten_seconds() -> None:
    assert (SECONDS[0], SECONDS[-1]) == (0.0005, 10.0)
    ratios = [high / low for low, high in pairwise(SECONDS)]
    assert max(ratios) < 1.3
    assert min(ratios) > 1.27


def test_waits_refusals_and_comparisons_are_told() -> None:
    metrics = Metrics()
    for seconds in (0.0002, 0.5):
        metrics.waited(seconds)
    metrics.refused()
    for recall in (0.94, 1.0):
        metrics.compared_index("7", recall)
    told = metrics.to_text().decode()
    for line in (
        'upnext_queue_waited_seconds_bucket{le="0.0005"} 1.0',
        "upnext_queue_waited_seconds_count 2.0",
        "upnext_refused_total 1.0",
        'upnext_index_recall_bucket{le="0.94",release="7"} 1.0',
        'upnext_index_recall_bucket{le="0.999",release="7"} 1.0',
        'upnext_index_recall_sum{release="7"} 1.94',
    ):
        assert f"{line}\n" in told
