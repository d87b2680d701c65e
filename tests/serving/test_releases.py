"""Labels swap whole: load and warm first, then one assignment; a failure changes nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.patience import SOON_S

from upnext.errors import ReleaseError
from upnext.schema import RecommendationRequest
from upnext.serving.releases import LiveReleases, LiveState, NotServedError, Recommender

if TYPE_CHECKING:
    from tests.serving.conftest import FakeReleases


def recommender_of(state: LiveState, label: str) -> Recommender | None:
    """What answers under a label; None where nothing does."""
    loaded = state.find(label, None)
    return None if loaded is None else loaded.recommender


def _break() -> None:
    raise RuntimeError("broken on purpose")


def _answering(live: LiveReleases) -> dict[str, str]:
    """By label, the release that answers."""
    state = live.state
    recommenders = {label: recommender_of(state, label) for label in state.labels}
    return {label: r.release for label, r in recommenders.items() if r is not None}


def test_nothing_answers_before_it_is_loaded_and_labelled(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    assert recommender_of(live.state, "stable") is None
    live.load(1)
    assert recommender_of(live.state, "stable") is None
    live.label("stable", 1)
    assert _answering(live) == {"stable": "1"}


def test_loading_warms_up_with_one_request(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.load(1)
    assert fakes.opened == [1]
    assert fakes.requests == [RecommendationRequest()]


def test_a_label_takes_loaded_versions_only(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    with pytest.raises(ReleaseError, match="load it first"):
        live.label("stable", 1)


@pytest.mark.parametrize("where", ["open", "warm up"])
def test_a_version_that_fails_to_load_changes_nothing(fakes: FakeReleases, where: str) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    before = live.state
    (fakes.on_open if where == "open" else fakes.on_request)[2] = _break
    with pytest.raises(RuntimeError, match="on purpose"):
        live.load(2)
    assert (live.state.loaded, live.state.labels) == (before.loaded, before.labels)
    assert [(one.version, one.state) for one in live.state.held] == [(1, "ready"), (2, "failed")]
    assert "on purpose" in live.state.failed[2]


def test_a_version_is_unloaded_only_without_labels(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    with pytest.raises(ReleaseError, match="no label on it, got stable"):
        live.unload(1)
    live.load(2)
    live.label("stable", 2)
    live.unload(1)
    assert list(live.state.recommenders) == [2]


def test_a_state_once_read_never_changes(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    held = live.state
    live.load(2)
    live.label("stable", 2)
    live.unload(1)
    recommender = recommender_of(held, "stable")
    assert recommender is not None
    assert recommender.recommend(RecommendationRequest(k=1)).release == "1"


def test_readers_always_find_a_whole_state(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(0)
    live.label("stable", 0)
    done = threading.Event()

    def read() -> int:
        num_reads = 0
        while not done.is_set():
            assert recommender_of(live.state, "stable") is not None
            num_reads += 1
        return num_reads

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        try:
            for version in range(1, 200):
                live.load(version)
                live.label("stable", version)
                live.unload(version - 1)
        finally:
            done.set()
        assert all(reader.result() > 0 for reader in readers)


def test_an_unloaded_release_lives_until_its_last_answer_is_done(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    with live.acquire(version=1) as first, live.acquire(version=1):
        live.unload(1)
        assert [(one.state, one.num_running) for one in live.state.held] == [("draining", 2)]
        assert first.recommender.recommend(RecommendationRequest(k=1)).release == "1"
        with pytest.raises(NotServedError), live.acquire(version=1):
            pytest.fail("an answer began on a draining release")
    assert live.state.held == ()


def test_memory_is_given_back_once_the_last_answer_is_done(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    for version in (1, 2, 3):
        live.load(version)
    with live.acquire(version=1), live.acquire(version=2):
        for version in (1, 2, 3):
            live.unload(version)
        live.load(2)  # which is needed again before it was gone
        assert fakes.let_go.get(timeout=SOON_S) == 3
        assert fakes.let_go.empty()
    assert fakes.let_go.get(timeout=SOON_S) == 1
    live.unload(2)
    assert fakes.let_go.get(timeout=SOON_S) == 2
    assert fakes.opened == [1, 2, 3]


def test_a_draining_release_is_ready_again_without_being_opened_anew(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    with live.acquire(version=1):
        live.unload(1)
        live.load(1)
        assert [one.state for one in live.state.held] == ["ready"]
    live.label("stable", 1)
    assert _answering(live) == {"stable": "1"}
    assert fakes.opened == [1]


def test_an_answer_that_fails_lets_its_release_go_as_well(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)

    def fail_in_the_middle() -> None:
        with live.acquire("stable") as route:
            assert (route.version, route.label) == (1, "stable")
            live.load(2)
            live.label("stable", 2)
            live.unload(1)
            _break()

    with pytest.raises(RuntimeError, match="on purpose"):
        fail_in_the_middle()
    assert [one.version for one in live.state.held] == [2]


@pytest.mark.parametrize("name", ["stable", "canary"])
def test_nothing_is_acquired_where_nothing_answers(fakes: FakeReleases, name: str) -> None:
    live = LiveReleases(fakes.open)
    with pytest.raises(NotServedError, match="expected a loaded release"), live.acquire(name):
        pytest.fail("it answered")
    live.load(1)
    live.label("beta", 1)
    with pytest.raises(NotServedError, match="one of beta"), live.acquire(name):
        pytest.fail("it answered")


def test_every_release_is_gone_once_its_answers_are_whatever_the_timing(
    fakes: FakeReleases,
) -> None:
    live = LiveReleases(fakes.open)
    live.load(0)
    live.label("stable", 0)
    done = threading.Event()

    def answer() -> int:
        num_answers = 0
        while not done.is_set():
            with live.acquire("stable") as route:
                assert route.recommender.release == str(route.version)
                num_answers += 1
        return num_answers

    with ThreadPoolExecutor(3) as threads:
        answering = [threads.submit(answer) for _ in range(3)]
        try:
            for version in range(1, 300):
                live.load(version)
                live.label("stable", version)
                live.unload(version - 1)
        finally:
            done.set()
        assert all(one.result() > 0 for one in answering)
    assert [(one.version, one.state) for one in live.state.held] == [(299, "ready")]


def test_loads_run_one_at_a_time_and_requests_go_on_meanwhile(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    opening, may_open = threading.Event(), threading.Event()

    def hold() -> None:
        opening.set()
        assert may_open.wait(60)

    fakes.on_open[2] = hold
    with ThreadPoolExecutor(2) as threads:
        second = threads.submit(live.load, 2)
        assert opening.wait(60)
        third = threads.submit(live.load, 3)
        with live.acquire("stable") as route:
            assert route.version == 1
        assert [one.state for one in live.state.held] == ["ready", "loading"]
        assert 3 not in fakes.opened
        may_open.set()
        second.result()
        third.result()
    assert fakes.opened == [1, 2, 3]
