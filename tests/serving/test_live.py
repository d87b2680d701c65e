"""Labels swap whole: load and warm first, then one assignment; a failure changes nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from upnext.errors import ReleaseError
from upnext.registry.labels import journal_path, move_label, rollback
from upnext.registry.release import publish
from upnext.schema import RecommendationRequest
from upnext.serving.live import LiveReleases

if TYPE_CHECKING:
    from tests.serving.conftest import FakeReleases


def _break() -> None:
    raise RuntimeError("broken on purpose")


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").touch()
    return {}


def _answering(live: LiveReleases) -> dict[str, str]:
    """By label, the release that answers."""
    state = live.state
    recommenders = {label: state.recommender(label) for label in state.labels}
    return {label: r.release for label, r in recommenders.items() if r is not None}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for _ in range(3):
        publish(tmp_path, _write)
    return tmp_path


def test_nothing_answers_before_it_is_loaded_and_labelled(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    assert live.state.recommender("stable") is None
    live.load(1)
    assert live.state.recommender("stable") is None
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
    assert live.state is before


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
    recommender = held.recommender("stable")
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
            assert live.state.recommender("stable") is not None
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


def test_without_a_registry_there_is_nothing_to_follow(fakes: FakeReleases) -> None:
    assert LiveReleases(fakes.open).follow_labels() is False


def test_labels_are_followed_as_they_move(fakes: FakeReleases, registry: Path) -> None:
    live = LiveReleases(fakes.open, registry=registry)
    assert live.follow_labels() is False

    move_label(registry, "stable", 1)
    move_label(registry, "canary", 2)
    assert live.follow_labels() is True
    assert _answering(live) == {"canary": "2", "stable": "1"}

    move_label(registry, "stable", 2)
    assert live.follow_labels() is True
    assert _answering(live) == {"canary": "2", "stable": "2"}
    assert list(live.state.recommenders) == [2], "nothing points at version 1 any longer"

    rollback(registry, "stable")
    assert live.follow_labels() is True
    assert _answering(live) == {"canary": "2", "stable": "1"}


def test_a_look_at_an_unchanged_journal_reads_nothing(
    fakes: FakeReleases, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveReleases(fakes.open, registry=registry)
    move_label(registry, "stable", 1)
    live.follow_labels()
    monkeypatch.setattr("upnext.serving.live.read_labels", _break)
    assert live.follow_labels() is False


def test_a_version_that_fails_leaves_its_label_and_the_others_alone(
    fakes: FakeReleases, registry: Path
) -> None:
    live = LiveReleases(fakes.open, registry=registry)
    move_label(registry, "stable", 1)
    live.follow_labels()

    fakes.on_request[2] = _break
    move_label(registry, "stable", 2)
    move_label(registry, "canary", 3)
    assert live.follow_labels() is True
    assert _answering(live) == {"canary": "3", "stable": "1"}
    assert live.state.problems == {"stable": "label stable, version 2: broken on purpose"}

    rollback(registry, "stable")
    live.follow_labels()
    assert live.state.problems == {}


def test_a_damaged_journal_leaves_everything_as_it_is(fakes: FakeReleases, registry: Path) -> None:
    live = LiveReleases(fakes.open, registry=registry)
    move_label(registry, "stable", 1)
    live.follow_labels()
    with journal_path(registry).open("ab") as journal:
        journal.write(b"nonsense\n")
    assert live.follow_labels() is False
    assert _answering(live) == {"stable": "1"}
    assert "line 2" in live.state.problems["journal"]


def test_a_replaced_journal_of_the_same_size_is_seen(fakes: FakeReleases, registry: Path) -> None:
    live = LiveReleases(fakes.open, registry=registry)
    move_label(registry, "stable", 1)
    live.follow_labels()
    path = journal_path(registry)
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"to_version":1', b'"to_version":2'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert path.stat().st_size == status.st_size
    assert live.follow_labels() is True
    assert _answering(live) == {"stable": "2"}
