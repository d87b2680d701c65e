"""A server holds what its registry asks for, and what fails leaves the rest as it is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from upnext.errors import ReleaseError
from upnext.registry.journal import LabelConflictError
from upnext.registry.labels import journal_path, read_labels
from upnext.registry.moves import load_release, move_label, rollback, unload_release
from upnext.registry.release import publish
from upnext.registry.servers import read_servers, servers_path
from upnext.serving.following import Following
from upnext.serving.releases import LiveReleases

if TYPE_CHECKING:
    from tests.serving.conftest import FakeReleases


def _break() -> None:
    raise RuntimeError("broken on purpose")


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").touch()
    return {}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for _ in range(4):
        publish(tmp_path, _write)
    return tmp_path


@contextmanager
def _serving(fakes: FakeReleases, registry: Path) -> Iterator[LiveReleases]:
    live = LiveReleases(fakes.open)
    with Following(live, registry, look_every_s=0.005) as following:
        assert following.wait(60)
        yield live


def _until(holds: Callable[[], bool]) -> None:
    """Returns once it holds; what a server does in its own time is waited for like this."""
    give_up_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up_s, "it never came to be"
        time.sleep(0.005)


def _states(live: LiveReleases) -> dict[int, str]:
    return {one.version: one.state for one in live.state.held}


def test_a_move_is_followed_when_it_returns(fakes: FakeReleases, registry: Path) -> None:
    with _serving(fakes, registry) as live:
        for version in (1, 2, 3):
            moved = move_label(registry, "stable", version)
            assert live.state.labels == {"stable": version}
            assert [step.after_s for step in moved.steps] == sorted(
                step.after_s for step in moved.steps
            )
        assert "followed by 1 server(s)" in moved.steps[-1].what
        assert f"server {os.getpid()}: release 3 loaded" in " ".join(s.what for s in moved.steps)


def test_the_version_before_stays_ready_and_the_one_before_that_goes(
    fakes: FakeReleases, registry: Path
) -> None:
    with _serving(fakes, registry) as live:
        for version in (1, 2, 3):
            move_label(registry, "stable", version)
        _until(lambda: _states(live) == {2: "ready", 3: "ready"})
        rollback(registry, "stable")
        assert live.state.labels == {"stable": 2}
        _until(lambda: _states(live) == {1: "ready", 2: "ready"})
    assert fakes.opened == [1, 2, 3, 1]


def test_a_start_restores_labels_and_what_they_would_roll_back_to(
    fakes: FakeReleases, registry: Path
) -> None:
    move_label(registry, "stable", 1)
    move_label(registry, "stable", 3)
    move_label(registry, "canary", 2)
    with _serving(fakes, registry) as live:
        assert live.state.labels == {"canary": 2, "stable": 3}
        _until(lambda: _states(live) == {1: "ready", 2: "ready", 3: "ready"})
        assert live.state.problems == {}


def test_no_label_moves_to_a_release_that_does_not_load(
    fakes: FakeReleases, registry: Path
) -> None:
    with _serving(fakes, registry) as live:
        move_label(registry, "stable", 1)
        journal = journal_path(registry).read_bytes()
        fakes.on_request[2] = _break
        with pytest.raises(ReleaseError, match="broken on purpose"):
            move_label(registry, "stable", 2)
        assert journal_path(registry).read_bytes() == journal
        assert live.state.labels == {"stable": 1}
        _until(lambda: _states(live) == {1: "ready"})

        fakes.on_request.clear()
        move_label(registry, "stable", 2)  # asked for anew, it is tried anew
        assert live.state.labels == {"stable": 2}


def test_no_label_moves_before_a_slow_server_is_ready(fakes: FakeReleases, registry: Path) -> None:
    may_open = threading.Event()
    with _serving(fakes, registry):
        move_label(registry, "stable", 1)
        fakes.on_open[2] = lambda: assert_set(may_open)
        with pytest.raises(ReleaseError, match=r"loading.*\nHint: no label has moved"):
            move_label(registry, "stable", 2, load_timeout_s=2.0)
        assert read_labels(registry) == {"stable": 1}
        may_open.set()


def assert_set(event: threading.Event) -> None:
    assert event.wait(60)


def test_a_labelled_release_that_fails_after_a_start_gives_way_to_the_last_good_one(
    fakes: FakeReleases, registry: Path
) -> None:
    for version in (1, 2, 3, 4):
        move_label(registry, "stable", version)
    move_label(registry, "canary", 1)
    journal = journal_path(registry).read_bytes()
    fakes.on_open[4] = fakes.on_open[3] = _break
    with _serving(fakes, registry) as live:
        assert live.state.labels == {"canary": 1, "stable": 2}
        assert "version 4: RuntimeError: broken on purpose" in live.state.problems["stable"]
        assert "version 2 answers in its place" in live.state.problems["stable"]
        assert journal_path(registry).read_bytes() == journal

        move_label(registry, "stable", 1)
        assert live.state.labels == {"canary": 1, "stable": 1}
        assert "stable" not in live.state.problems


def test_a_label_all_of_whose_versions_fail_leaves_the_others_alone(
    fakes: FakeReleases, registry: Path
) -> None:
    move_label(registry, "stable", 1)
    move_label(registry, "canary", 2)
    fakes.on_open[1] = _break
    with _serving(fakes, registry) as live:
        assert live.state.labels == {"canary": 2}
        assert "nothing answers in its place" in live.state.problems["stable"]


def test_a_damaged_journal_leaves_everything_as_it_is(fakes: FakeReleases, registry: Path) -> None:
    with _serving(fakes, registry) as live:
        move_label(registry, "stable", 1)
        whole = journal_path(registry).read_bytes()
        journal_path(registry).write_bytes(whole + b"nonsense\n")
        _until(lambda: "line 2" in live.state.problems.get("journal", ""))
        assert live.state.labels == {"stable": 1}
        journal_path(registry).write_bytes(whole)
        _until(lambda: live.state.problems == {})


def test_a_replaced_journal_of_the_same_size_is_seen(fakes: FakeReleases, registry: Path) -> None:
    with _serving(fakes, registry) as live:
        move_label(registry, "stable", 1)
        path = journal_path(registry)
        path.write_bytes(path.read_bytes().replace(b'"to_version":1', b'"to_version":2'))
        _until(lambda: live.state.labels == {"stable": 2})


def test_releases_are_loaded_and_unloaded_without_a_label(
    fakes: FakeReleases, registry: Path
) -> None:
    with _serving(fakes, registry) as live:
        move_label(registry, "stable", 1)
        load_release(registry, 3)
        assert _states(live) == {1: "ready", 3: "ready"}
        with pytest.raises(LabelConflictError, match="label stable"):
            unload_release(registry, 1)
        unload_release(registry, 3)
        assert _states(live) == {1: "ready"}
        move_label(registry, "stable", 2)
        with pytest.raises(LabelConflictError, match="rollback of label stable"):
            unload_release(registry, 1)


def test_a_load_that_fails_is_not_asked_for_any_more(fakes: FakeReleases, registry: Path) -> None:
    fakes.on_open[2] = _break
    with _serving(fakes, registry) as live:
        with pytest.raises(ReleaseError, match="on purpose"):
            load_release(registry, 2)
        _until(lambda: _states(live) == {})


def test_a_release_that_was_loaded_by_hand_goes_after_its_last_label(
    fakes: FakeReleases, registry: Path
) -> None:
    with _serving(fakes, registry) as live:
        load_release(registry, 1)
        for version in (1, 2, 3):
            move_label(registry, "stable", version)
        _until(lambda: _states(live) == {2: "ready", 3: "ready"})


def test_answers_under_way_finish_on_the_release_that_they_began_on(
    fakes: FakeReleases, registry: Path
) -> None:
    with _serving(fakes, registry) as live:
        move_label(registry, "stable", 1)
        with live.acquire("stable") as route:
            move_label(registry, "stable", 2)
            move_label(registry, "stable", 3)
            _until(lambda: _states(live)[1] == "draining")
            _until(lambda: read_servers(registry)[0].releases[0].num_running == 1)
            assert route.version == 1
        _until(lambda: _states(live) == {2: "ready", 3: "ready"})


def test_several_servers_follow_together_and_leave_no_trace(
    fakes: FakeReleases, registry: Path
) -> None:
    with _serving(fakes, registry) as first, _serving(fakes, registry) as second:
        assert len(read_servers(registry)) == 2
        moved = move_label(registry, "stable", 4)
        assert first.state.labels == second.state.labels == {"stable": 4}
        assert "followed by 2 server(s)" in moved.steps[-1].what
    assert read_servers(registry) == []
    left = {path.name for path in servers_path(registry).iterdir()}
    of_the_mover = {"lock", "wanted.json", "verified.lock", "4.verified.json"}
    assert {"lock", "wanted.json"} <= left <= of_the_mover
