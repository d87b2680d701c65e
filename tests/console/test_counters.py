"""Rates, means and quantiles read off counters, against what was really counted."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.console.counters import Reading, Window

BOUNDS = (0.001, 0.004, 0.016, 0.064, 0.256)
TIMES = st.lists(st.floats(1e-5, 1.0), min_size=1, max_size=60)
SHARES = st.floats(0.001, 1.0)


def histogram(times_s: Sequence[float], **labels: str) -> str:
    """What a server tells of such times."""
    told = "".join(f'{name}="{value}",' for name, value in labels.items())
    lines = ["# TYPE upnext_stage_seconds histogram"]
    for bound in (*BOUNDS, math.inf):
        num = sum(one <= bound for one in times_s)
        lines.append(f'upnext_stage_seconds_bucket{{{told}le="{bound}"}} {num}')
    lines.append(f"upnext_stage_seconds_sum{{{told}}} {sum(times_s)!r}")
    lines.append(f"upnext_stage_seconds_count{{{told}}} {len(times_s)}")
    return "\n".join(lines) + "\n"


def window(before: str, after: str, length_s: float = 10.0) -> Window:
    return Window(Reading.of(before, 100.0), Reading.of(after, 100.0 + length_s))


@given(earlier=st.lists(st.floats(1e-5, 1.0), max_size=20), times=TIMES, share=SHARES)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(
    earlier: list[float], times: list[float], share: float
) -> None:
    told = window(histogram(earlier), histogram([*earlier, *times]))
    true = sorted(times)[math.ceil(share * len(times)) - 1]
    found = told.quantile(share, "upnext_stage_seconds")
    assert found is not None
    if true > BOUNDS[-1]:
        assert found == BOUNDS[-1]
    else:
        place = next(place for place, bound in enumerate(BOUNDS) if true <= bound)
        low = BOUNDS[place - 1] if place else 0.0
        assert low <= found <= BOUNDS[place] * (1 + 1e-12)


@given(times=TIMES, shares=st.tuples(SHARES, SHARES))
def test_quantiles_rise_with_their_share(times: list[float], shares: tuple[float, float]) -> None:
    seen = window("", histogram(times)).observed("upnext_stage_seconds")
    less, more = (seen.quantile(share) for share in sorted(shares))
    assert less is not None
    assert more is not None
    assert less <= more * (1 + 1e-12)


@given(earlier=TIMES, times=TIMES)
def test_a_histogram_tells_how_many_came_and_their_mean(
    earlier: list[float], times: list[float]
) -> None:
    told = window(histogram(earlier), histogram([*earlier, *times]))
    seen = told.observed("upnext_stage_seconds")
    assert seen.num == len(times)
    assert seen.mean == pytest.approx(sum(times) / len(times), rel=1e-6)


@given(a=TIMES, b=TIMES)
def test_histograms_of_several_labels_are_one(a: list[float], b: list[float]) -> None:
    apart = histogram(a, stage="served", release="1") + histogram(b, stage="served", release="2")
    both = window("", apart).observed("upnext_stage_seconds", stage="served")
    alone = window("", histogram([*a, *b])).observed("upnext_stage_seconds")
    assert both.buckets == alone.buckets
    assert both.mean == pytest.approx(alone.mean)


def test_of_nothing_there_is_no_mean_and_no_quantile() -> None:
    for told in (window("", ""), window(histogram([0.1]), histogram([0.1]))):
        seen = told.observed("upnext_stage_seconds")
        assert (seen.num, seen.mean, seen.quantile(0.5)) == (0, None, None)


@given(counts=st.dictionaries(st.sampled_from("abc"), st.integers(0, 10_000), min_size=1))
def test_what_came_by_label_adds_up(counts: dict[str, int]) -> None:
    text = "".join(
        f'upnext_answers_total{{label="{name}",release="{len(name)}"}} {num}\n'
        for name, num in counts.items()
    )
    told = window("", text, length_s=4.0)
    by = told.by("label", "upnext_answers_total")
    assert by == {name: num for name, num in sorted(counts.items()) if num}
    assert sum(by.values()) == told.increase("upnext_answers_total")
    assert told.per_s("upnext_answers_total") == sum(counts.values()) / 4.0
    pairs = told.by_all(("release", "label"), "upnext_answers_total")
    assert pairs == {("1", name): num for name, num in by.items()}


def test_a_gauge_is_what_is_so_now() -> None:
    text = "# TYPE upnext_waiting gauge\nupnext_waiting 3\n"
    reading = Reading.of(text, 0.0)
    assert reading.gauge("upnext_waiting") == 3
    assert reading.gauge("upnext_pages_lost") is None
    assert Window(Reading.of("", 0.0), reading).increase("upnext_waiting") == 0


def test_a_server_began_anew_if_a_counter_fell_or_is_gone() -> None:
    before = Reading.of('upnext_a_total 5\nupnext_b_total{x="1"} 2\n', 0.0)
    same = Reading.of('upnext_a_total 5\nupnext_b_total{x="1"} 3\nupnext_c_total 1\n', 1.0)
    fell = Reading.of('upnext_a_total 4\nupnext_b_total{x="1"} 2\n', 1.0)
    gone = Reading.of("upnext_a_total 9\n", 1.0)
    assert [now.began_anew_since(before) for now in (same, fell, gone)] == [False, True, True]
