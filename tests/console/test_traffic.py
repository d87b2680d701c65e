"""The page of traffic: its numbers are those that were counted."""

import html
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.console.fake_server import Asked, FakeServer
from tests.console.measured import histogram
from tests.patience import SOON_S

from upnext.console import watching
from upnext.console.counters import Reading, Window
from upnext.console.pages.traffic import numbers_of
from upnext.pictures.numbers import milliseconds, percent

RELEASES = st.sampled_from(["1", "2", "3"])
LABELS = st.sampled_from(["stable", "canary", ""])
COUNTS = st.dictionaries(st.tuples(RELEASES, LABELS), st.integers(1, 5_000), min_size=1)


def text_of(counts: dict[tuple[str, str], int], degraded: int = 0) -> str:
    return "".join(
        f'upnext_answers_total{{release="{release}",label="{label}"}} {num}\n'
        f'upnext_degraded_total{{cause="late",release="{release}",label="{label}"}} '
        f"{min(num, degraded)}\n"
        for (release, label), num in counts.items()
    )


@given(counts=COUNTS, degraded=st.integers(0, 50))
def test_shares_of_answers_add_up(counts: dict[tuple[str, str], int], degraded: int) -> None:
    told = numbers_of(Window(Reading.of("", 0.0), Reading.of(text_of(counts, degraded), 8.0)))
    assert sum(one["share"] for one in told["by_label"]) == pytest.approx(1.0)
    assert sum(one["num"] for one in told["by_label"]) == told["num_answers"]
    assert sum(one["per_s"] for one in told["by_label"]) == pytest.approx(told["per_s"])
    for one in told["degraded"]:
        of = counts[one["release"], one["label"]]
        assert one["share"] == pytest.approx(min(of, degraded) / of)


def test_each_stage_of_each_release_is_told_apart() -> None:
    times = {("2", "served"): [0.01, 0.02], ("2", "past"): [0.001], ("3", "served"): [0.3]}
    text = "".join(
        histogram("upnext_stage_seconds", values, stage=stage, release=release, label="stable")
        for (release, stage), values in times.items()
    )
    groups = numbers_of(Window(Reading.of("", 0.0), Reading.of(text, 5.0)))["latency"]
    assert [(group["release"], [s["stage"] for s in group["stages"]]) for group in groups] == [
        ("2", ["served", "past"]),
        ("3", ["served"]),
    ]
    assert [(s["num"], s["mean_ms"]) for s in groups[0]["stages"]] == [
        (2, pytest.approx(15.0)),
        (1, pytest.approx(1.0)),
    ]


def test_answers_that_nobody_was_given_are_told_apart() -> None:
    text = text_of({("2", "stable"): 40, ("3", "shadow of canary"): 7})
    told = numbers_of(Window(Reading.of("", 0.0), Reading.of(text, 5.0)))
    assert (told["num_answers"], told["num_unseen"]) == (47, 7)


def test_an_empty_window_has_no_numbers_but_0_and_nothing() -> None:
    nothing = Reading.of("", 1.0)
    told = numbers_of(Window(nothing, nothing))
    assert (told["num_answers"], told["per_s"], told["waiting"]) == (0, None, None)
    assert told["by_label"] == told["latency"] == told["degraded"] == []


BEFORE = text_of({("2", "stable"): 100})
AFTER = (
    text_of({("2", "stable"): 1_334, ("3", "<b>canary</b>"): 411}, degraded=77)
    + histogram("upnext_stage_seconds", [0.02] * 1_234, stage="served", release="2", label="stable")
    + histogram("upnext_queue_waited_seconds", [0.003] * 1_645)
    + histogram("upnext_index_recall", [0.875] * 16, (0.9, 1.0), release="2")
    + histogram("upnext_shadow_overlap", [0.625] * 8, (0.5, 1.0), label="shadow-label")
    + "# TYPE upnext_waiting gauge\nupnext_waiting 5\n"
    + "# TYPE upnext_pages_lost gauge\nupnext_pages_lost 21\n"
    + "upnext_pages_not_kept_total 13\nupnext_refused_total 37\n"
    + 'upnext_responses_total{route="recommend",status="429"} 38\n'
    + 'upnext_events_total{outcome="accepted"} 907\n'
)


@pytest.fixture
def counted(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """A server that counted something between the first reading and all others."""
    monkeypatch.setattr(watching, "EVERY_S", 0.02)

    def metrics(_: Asked) -> str:
        asked = [one for one in fake.asked if one.path == "/metrics"]
        return BEFORE if len(asked) < 2 else AFTER

    fake.answers["GET /metrics"] = metrics
    return fake


def page(visitor: httpx.Client, path: str = "/traffic") -> httpx.Response:
    """The page, once there are two readings."""
    deadline = time.monotonic() + SOON_S
    answer = visitor.get(path)
    while "1,645" not in answer.text and time.monotonic() < deadline:
        answer = visitor.get(path)
    return answer


@pytest.mark.parametrize("path", ["/traffic", "/traffic?last=60", "/traffic?last=nonsense"])
def test_what_was_counted_stands_in_the_page(
    counted: FakeServer, visitor: httpx.Client, path: str
) -> None:
    answer = page(visitor, path)
    assert answer.status_code == 200
    text = html.unescape(answer.text)
    for number in (
        "1,645",
        "1,234",
        "411",
        "5 requests",
        "37 pages",
        "38 responses",
        "907 accepted",
    ):
        assert number in text, number
    for number in ("21 lost", "13 that no log", percent(77 / 1_234), percent(411 / 1_645)):
        assert number in text, number
    assert f"release 2 found {percent(0.875)}" in text
    assert "mean of 16 live requests" in text
    assert f"shadow-label had {percent(0.625)}" in text
    assert milliseconds(20.0) in text
    assert "<b>canary" not in answer.text


def test_the_window_in_the_url_is_marked(counted: FakeServer, visitor: httpx.Client) -> None:
    for last_s in ("60", "300", "3600"):
        answer = visitor.get("/traffic", params={"last": last_s})
        assert f'href="/traffic?last={last_s}" aria-current="true"' in answer.text
    assert 'href="/traffic?last=300" aria-current="true"' in visitor.get("/traffic").text


def test_slow_requests_stand_there_with_all_that_is_known(visitor: httpx.Client) -> None:
    answer = visitor.get("/traffic")
    for told in ("request-412", "412 ms", "ranking would have come too late", "73,456", "4711"):
        assert told in answer.text, told


def test_no_slow_requests_are_a_sentence(fake: FakeServer, visitor: httpx.Client) -> None:
    fake.answers["GET /insight/v1/slow"] = {"window_s": 600.0, "num_seen": 0, "slow": []}
    assert "None in the last 10 min; 0 requests were seen." in visitor.get("/traffic").text


def test_before_anything_is_counted_the_page_says_so(visitor: httpx.Client) -> None:
    assert "Counted from now on" in visitor.get("/traffic").text
