import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import ConfigError
from upnext.training.schedule import LearningRate, ScheduleName, check_warmup

SCHEDULES: tuple[ScheduleName, ...] = ("linear", "cosine", "constant")
schedules = st.sampled_from(SCHEDULES)
shares = st.floats(0.0, 1.0)
warmups = st.floats(0.0, 0.99)


@given(st.floats(1e-6, 10.0), shares)
def test_without_a_warmup_linear_is_the_peak_times_what_is_left(peak: float, share: float) -> None:
    assert LearningRate(peak=peak).at(share) == peak * (1.0 - share)


@pytest.mark.parametrize(
    ("schedule", "quarter", "half", "end"),
    [
        ("linear", 0.75, 0.5, 0.0),
        ("cosine", (1 + math.sqrt(0.5)) / 2, 0.5, 0.0),
        ("constant", 1.0, 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("warmup_share", [0.0, 0.2])
def test_after_the_warmup_each_schedule_has_its_shape(
    schedule: ScheduleName, quarter: float, half: float, end: float, warmup_share: float
) -> None:
    rate = LearningRate(peak=2.0, schedule=schedule, warmup_share=warmup_share)
    left = 1.0 - warmup_share
    at = [rate.at(warmup_share + part * left) for part in (0.0, 0.25, 0.5, 1.0)]
    assert at == pytest.approx([2.0, 2 * quarter, 2 * half, 2 * end], abs=1e-12)


@given(schedules, st.floats(0.01, 0.99), st.floats(0.0, 1.0, exclude_max=True))
def test_the_warmup_is_a_straight_line_from_0(
    schedule: ScheduleName, warmup_share: float, part: float
) -> None:
    rate = LearningRate(peak=3.0, schedule=schedule, warmup_share=warmup_share)
    assert rate.at(part * warmup_share) == pytest.approx(3.0 * part)


@given(schedules, warmups, shares)
def test_the_rate_stays_between_0_and_the_peak(
    schedule: ScheduleName, warmup_share: float, share: float
) -> None:
    rate = LearningRate(peak=0.5, schedule=schedule, warmup_share=warmup_share).at(share)
    assert 0.0 <= rate <= 0.5 * (1 + 1e-12)


@given(schedules, warmups, shares, shares)
def test_after_the_warmup_the_rate_never_rises(
    schedule: ScheduleName, warmup_share: float, first: float, second: float
) -> None:
    rate = LearningRate(peak=0.5, schedule=schedule, warmup_share=warmup_share)
    earlier, later = (max(warmup_share, share) for share in sorted((first, second)))
    assert rate.at(later) <= rate.at(earlier) + 1e-12


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0, math.nan])
def test_a_warmup_that_never_ends_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"\[retrieval\] warmup_share: expected .*got"):
        check_warmup("retrieval", share)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_any_other_warmup_is_fine(share: float) -> None:
    check_warmup("retrieval", share)
    assert LearningRate(peak=1.0, warmup_share=share).at(share) == 1.0
