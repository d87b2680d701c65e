"""After an answer: it is kept for training if somebody was shown it, and judged; nobody waits."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from tests.patience import SOON_S

from upnext.events.event import ServedItem, ServedPage
from upnext.schema import Id, Recommendation, RecommendationRequest, Recommendations
from upnext.serving.aftermath import Aftermath
from upnext.serving.answering import FAILED
from upnext.serving.asked import Answered, Asked
from upnext.serving.gate import Gate, GateConfig
from upnext.serving.metrics import Metrics


class Pages:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.kept: list[ServedPage] = []

    def log_pages(self, pages: Sequence[ServedPage]) -> None:
        self.kept += pages


class TakenBack:
    """What was taken back; `wait` returns it once as much as expected has come."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, str]] = []
        self._changed = threading.Condition()

    def __call__(self, label: str, version: int, reason: str) -> None:
        with self._changed:
            self.calls.append((label, version, reason))
            self._changed.notify_all()

    def wait(self, count: int) -> list[tuple[str, int]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= count, SOON_S)
            return [call[:2] for call in self.calls]


def asked(user_id: Id | None = "ann", *, at_ms: int | None = None, **options: Any) -> Asked:
    return Asked(request=RecommendationRequest(user_id=user_id, at_ms=at_ms), **options)


def page(*items: tuple[Id, Sequence[str], float], degraded: Sequence[str] = ()) -> Recommendations:
    return Recommendations(
        items=[
            Recommendation(
                item_id=item_id,
                title=None,
                expected_watch_time_s=None,
                retrieval_score=1.0,
                retrieval_rank=None,
                sources=sources,
                propensity=propensity,
            )
            for item_id, sources, propensity in items
        ],
        release="7",
        num_candidates=9,
        timings_ms={"total": 3.0},
        degraded=degraded,
    )


PAGE = page(("soup", ("retrieval", "fresh"), 1.0), (5, (), 0.25))


def answered(
    answer: Recommendations = PAGE, *, label: str | None = "stable", version: int = 7
) -> Answered:
    return Answered(recommendations=answer, label=label, version=version, request_id="r")


def test_a_page_is_kept_as_it_was_served_with_propensities() -> None:
    pages = Pages()
    Aftermath(pages=pages).of(asked(at_ms=1_000), answered())
    assert pages.kept == [
        ServedPage(
            request_id="r",
            user_id="ann",
            served_at_ms=1_000,
            release="7",
            label="stable",
            items=[
                ServedItem(item_id="soup", source="retrieval", propensity=1.0),
                ServedItem(item_id=5, source=None, propensity=0.25),
            ],
        )
    ]


def test_a_page_was_served_now_unless_its_request_says_when() -> None:
    pages = Pages()
    before_ms = time.time_ns() // 1_000_000
    for at_ms in (None, 0):
        Aftermath(pages=pages).of(asked(at_ms=at_ms), answered(label=None))
    now, then = pages.kept
    assert before_ms <= now.served_at_ms <= time.time_ns() // 1_000_000
    assert (then.served_at_ms, then.label) == (0, "")


@pytest.mark.parametrize(
    ("of", "answer"),
    [
        (asked(None), PAGE),
        (asked(is_logged=False), PAGE),
        (asked(), page()),
    ],
    ids=["nobody known", "not to be logged", "an empty page"],
)
def test_what_nobody_was_shown_is_not_kept(of: Asked, answer: Recommendations) -> None:
    pages = Pages()
    Aftermath(pages=pages).of(of, answered(answer))
    assert pages.kept == []


@pytest.mark.parametrize("user_id", ["1.2e+19", "a\0b", "\ufffd"])
def test_whoever_no_log_can_hold_is_answered_and_it_is_said(
    user_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    pages = Pages()
    Aftermath(pages=pages).of(asked(user_id), answered())
    assert pages.kept == []
    assert "page of request r is not kept: Expected user_id" in caplog.text


def test_what_a_shadow_answers_is_counted_and_never_kept_nor_judged() -> None:
    pages, metrics, taken_back = Pages(), Metrics(), TakenBack()
    gate = Gate(GateConfig(num_answers=10))
    aftermath = Aftermath(metrics=metrics, pages=pages, gate=gate, take_back=taken_back)
    unseen = page(("soup", (), 1.0), ("tea", (), 1.0), degraded=[FAILED])
    for _ in range(20):
        aftermath.of_shadow("canary", PAGE, unseen)
    assert pages.kept == []
    assert gate.verdict("canary") is None
    assert taken_back.calls == []
    told = metrics.to_text().decode()
    assert 'upnext_answers_total{label="shadow of canary",release="7"} 20.0' in told
    assert 'upnext_shadow_overlap_sum{label="canary"} 10.0' in told


def test_a_label_is_taken_back_once_from_each_version() -> None:
    taken_back = TakenBack()
    aftermath = Aftermath(gate=Gate(GateConfig(num_answers=10)), take_back=taken_back)
    bad = page(("soup", (), 1.0), degraded=[FAILED])

    def answer(version: int, *, count: int) -> None:
        for _ in range(count):
            aftermath.of(asked(), answered(bad, label="canary", version=version))

    answer(7, count=9)
    assert taken_back.calls == []
    answer(7, count=30)
    assert taken_back.wait(1) == [("canary", 7)]
    assert "100% of its answers" in taken_back.calls[0][2]
    answer(8, count=30)
    assert taken_back.wait(2) == [("canary", 7), ("canary", 8)]


@pytest.mark.parametrize(
    ("label", "cause"),
    [
        ("stable", FAILED),
        (None, FAILED),
        ("canary", "the live store could not be read"),
        ("canary", "rules leave 3 items for 10 slots"),
    ],
)
def test_nothing_is_taken_back_for_what_a_release_cannot_help(
    label: str | None, cause: str
) -> None:
    gate, taken_back = Gate(GateConfig(num_answers=10)), TakenBack()
    aftermath = Aftermath(gate=gate, take_back=taken_back)
    for _ in range(30):
        aftermath.of(asked(), answered(page(("soup", (), 1.0), degraded=[cause]), label=label))
    assert label is None or gate.verdict(label) is None
    assert taken_back.calls == []
