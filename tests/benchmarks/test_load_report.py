"""What a run's records say, and how the highest rate is found."""

import numpy as np
import pytest
from benchmarks.load_report import highest_rate, summary_of
from benchmarks.open_loop import RECORD
from hypothesis import given
from hypothesis import strategies as st


def records_of(taken_ms: list[float], *, gap_s: float = 0.1) -> np.ndarray:
    records = np.zeros(len(taken_ms), RECORD)
    records["scheduled_s"] = 100 + gap_s * np.arange(len(taken_ms))
    records["sent_s"] = records["scheduled_s"]
    records["done_s"] = records["scheduled_s"] + np.array(taken_ms) / 1e3
    records["status"], records["release"], records["is_right"] = 200, 1, True
    return records


def test_latency_counts_from_when_a_request_was_due_not_from_when_it_was_sent() -> None:
    records = records_of([50.0] * 10)
    records["sent_s"] = records["done_s"] - 0.001
    told = summary_of(records)
    assert told.p50_ms == pytest.approx(50)
    assert told.late_ms == pytest.approx(49)
    assert told.good_rate == 0


def test_the_warm_up_is_left_out() -> None:
    told = summary_of(records_of([500.0] * 10 + [5.0] * 10), warm_up_s=0.95)
    assert told.num_requests == 10
    assert told.p999_ms == pytest.approx(5)


def test_errors_and_wrong_answers_are_no_goodput_and_are_not_borne() -> None:
    records = records_of([5.0] * 101)
    assert summary_of(records).is_borne
    refused, wrong = records.copy(), records.copy()
    refused["status"][50], refused["is_right"][50] = 429, False
    wrong["is_right"][50] = False
    for one in (refused, wrong):
        assert not summary_of(one).is_borne
        assert summary_of(one).good_rate == pytest.approx(100 / 10)
    assert summary_of(refused).statuses == {"200": 100, "429": 1}


def test_a_server_that_falls_behind_is_not_borne_though_it_answers_all() -> None:
    told = summary_of(records_of([float(10 * place) for place in range(100)], gap_s=0.01))
    assert told.answered_rate < 0.6 * told.offered_rate


@given(st.floats(1.5, 5_000), st.floats(10, 200), st.floats(0.01, 0.2))
def test_the_highest_rate_is_found_to_the_precision(
    limit: float, start: float, precision: float
) -> None:
    found = highest_rate(lambda rate: rate <= limit, start=start, precision=precision)
    if limit < start / 64:
        assert found <= limit
    else:
        assert found <= limit <= found * (1 + precision) * (1 + 1e-9)


def test_where_nothing_is_borne_the_highest_rate_is_0() -> None:
    assert highest_rate(lambda _: False, start=40) == 0
