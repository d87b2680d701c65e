"""The slowest answers are remembered and told, with nothing of who asked; the rest is forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.registry.slow import NUM_SLOWEST, PART_MS, WINDOW_S, SlowOfProcess
from upnext.schema import RecommendationRequest, Recommendations
from upnext.serving.aftermath import Aftermath
from upnext.serving.asked import Answered, Asked
from upnext.serving.slow import MAX_CAUSE_CHARACTERS, MAX_CAUSES, SlowRequests

WINDOW_MS = round(WINDOW_S * 1e3)
ASKED = Asked(request=RecommendationRequest(user_id="the-secret-user", k=7))


@dataclass
class Told:
    """What was written, and the time, which tests move."""

    at_ms: int = 1_800_000_000_000
    written: list[SlowOfProcess] = field(default_factory=list)

    def slow(self) -> SlowRequests:
        return SlowRequests(self.written.append, clock_ms=lambda: self.at_ms)


def answered(took_ms: float, *, degraded: Sequence[str] = ()) -> Answered:
    answer = Recommendations(
        items=[],
        release="3",
        num_candidates=300,
        timings_ms={"past": 0.5, "total": took_ms / 2, "served": took_ms},
        degraded=degraded,
    )
    return Answered(recommendations=answer, label="canary", version=3, request_id="r1")


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(0, 1e4), st.integers(0, 2 * PART_MS // 40)), min_size=1, max_size=400
    )
)
def test_what_is_told_is_the_slowest_of_the_window(answers: list[tuple[float, int]]) -> None:
    """Whatever comes when; what began in the half minute in which the window begins may be told."""
    told = Told()
    slow = told.slow()
    seen = []
    for took_ms, later_ms in answers:
        told.at_ms += later_ms * 40
        seen.append((told.at_ms, took_ms))
        slow.see(ASKED, answered(took_ms))
    slow.tell()
    (last,) = told.written
    edge_ms = told.at_ms - WINDOW_MS
    kept = [(at_ms, took) for at_ms, took in seen if at_ms - at_ms % PART_MS + PART_MS > edge_ms]
    assert sum(last.num_seen.values()) == len(kept)
    slowest = sorted((took_ms for _, took_ms in kept), reverse=True)[:NUM_SLOWEST]
    assert [one.took_ms for one in last.slow] == slowest


def test_a_request_is_told_with_its_stages_and_without_who_asked() -> None:
    told = Told()
    slow = told.slow()
    Aftermath(slow=slow).of(ASKED, answered(8.0, degraded=["ranking failed"]))
    slow.tell()
    (request,) = told.written[0].slow
    assert (request.request_id, request.release, request.label) == ("r1", "3", "canary")
    assert (request.took_ms, request.k, request.num_candidates) == (8.0, 7, 300)
    assert request.timings_ms == {"past": 0.5, "total": 4.0, "served": 8.0}
    assert request.degraded == ["ranking failed"]
    assert request.at_ms == told.at_ms
    assert b"secret" not in msgspec.json.encode(told.written[0])


def test_a_client_cannot_make_it_long() -> None:
    told = Told()
    slow = told.slow()
    slow.see(ASKED, answered(1.0, degraded=["x" * 100_000] * 1_000))
    slow.tell()
    (request,) = told.written[0].slow
    assert [len(cause) for cause in request.degraded] == [MAX_CAUSE_CHARACTERS] * MAX_CAUSES


def test_it_is_written_only_when_something_is_new() -> None:
    told = Told()
    slow = told.slow()
    slow.tell()
    assert told.written == []
    slow.see(ASKED, answered(1.0))
    for _ in range(3):
        slow.tell()
    assert len(told.written) == 1
    told.at_ms += WINDOW_MS + 2 * PART_MS
    for _ in range(3):
        slow.tell()
    assert told.written[1:] == [SlowOfProcess(num_seen={}, slow=[])]


def test_what_could_not_be_written_is_written_later() -> None:
    told, is_full = Told(), [True]

    def write(one: SlowOfProcess) -> None:
        if is_full[0]:
            raise OSError("no space left")
        told.written.append(one)

    slow = SlowRequests(write)
    slow.see(ASKED, answered(1.0))
    with pytest.raises(OSError, match="no space"):
        slow.tell()
    is_full[0] = False
    slow.tell()
    assert len(told.written) == 1


def test_a_clock_that_goes_back_loses_nothing() -> None:
    told = Told()
    slow = told.slow()
    slow.see(ASKED, answered(1.0))
    told.at_ms -= 3_600_000
    slow.see(ASKED, answered(2.0))
    slow.tell()
    assert [one.took_ms for one in told.written[0].slow] == [2.0, 1.0]
