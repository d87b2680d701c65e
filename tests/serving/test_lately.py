"""What takes long is expected to, until it no longer does or nobody has seen it for a while."""

from hypothesis import given
from hypothesis import strategies as st

from upnext.serving.lately import Lately

SECONDS = st.floats(0, 100)


@given(first_s=SECONDS, next_s=SECONDS, after_s=SECONDS)
def test_nothing_is_expected_to_be_faster_than_it_was_just_now(
    first_s: float, next_s: float, after_s: float
) -> None:
    lately = Lately().told(first_s, at_s=5.0).told(next_s, at_s=5.0 + after_s)
    assert next_s <= lately.longest_s(at_s=5.0 + after_s) <= max(first_s, next_s)


def test_a_pause_of_the_machine_is_forgotten_in_seconds_though_nobody_asks() -> None:
    paused = Lately().told(10.0, at_s=0.0)
    assert paused.longest_s(at_s=1.0) == 5.0
    assert paused.longest_s(at_s=6.0) < 0.25


def test_it_is_forgotten_sooner_where_many_ask() -> None:
    lately = Lately().told(0.8, at_s=0.0)
    for _ in range(25):
        lately = lately.told(0.002, at_s=0.0)
    assert 0.002 < lately.longest_s(at_s=0.0) < 0.25
