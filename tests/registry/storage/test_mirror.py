"""A mirror: labels go where they went on storage, each move once, whatever happens between."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.registry.storage.conftest import write
from tests.serving.killing import servers

from upnext.errors import ReleaseError, UpnextError
from upnext.registry.journal import LabelMove
from upnext.registry.labels import append_move, journal_path, read_labels, read_moves
from upnext.registry.moves import move_label, rollback
from upnext.registry.release import list_releases, publish
from upnext.registry.servers import read_servers
from upnext.registry.storage.labels import (
    move_stored_label,
    read_stored_moves,
    roll_back_stored_label,
)
from upnext.registry.storage.mirror import keep_mirroring, mirror
from upnext.registry.storage.objects import Storage, open_storage
from upnext.registry.storage.push import push

NUM_RELEASES = 4
LATEST_S = 60


@pytest.fixture
def shelf(registry: Path, url: str, storage: Storage) -> Storage:
    """Storage with four releases."""
    for _ in range(NUM_RELEASES - 1):
        publish(registry, write)
    push(registry, url)
    return storage


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


def of_labels(moves: Iterable[LabelMove]) -> dict[str, list[LabelMove]]:
    found: dict[str, list[LabelMove]] = {}
    for move in moves:
        found.setdefault(move.label, []).append(move)
    return found


def test_a_new_registry_takes_labels_their_past_and_what_they_need(
    shelf: Storage, url: str, here: Path
) -> None:
    for version in (1, 2, 3):
        move_stored_label(shelf, "stable", version, actor="ada", reason=f"number {version}")
    move_stored_label(shelf, "canary", 4)
    said: list[str] = []
    moved = mirror(url, here, say=said.append)
    assert read_labels(here) == {"canary": 4, "stable": 3}
    assert list_releases(here) == [2, 3, 4], "also what a rollback would go to, and no more"
    assert of_labels(read_moves(here)) == of_labels(read_stored_moves(shelf))
    assert sorted(one.move.to_version for one in moved) == [3, 4]
    assert "stable: 2 → 3" in said
    assert rollback(here, "stable").move.to_version == 2


def test_a_mirror_with_nothing_to_do_does_nothing(shelf: Storage, url: str, here: Path) -> None:
    assert mirror(url, here) == []
    move_stored_label(shelf, "stable", 1)
    assert len(mirror(url, here)) == 1
    assert mirror(url, here) == []
    assert len(read_moves(here)) == 1


def test_servers_have_loaded_and_followed_when_it_returns(
    shelf: Storage, url: str, here: Path, tmp_path: Path
) -> None:
    move_stored_label(shelf, "stable", 1)
    mirror(url, here)
    with servers(here, 2, tmp_path):
        move_stored_label(shelf, "stable", 2)
        move_stored_label(shelf, "stable", 4)
        (moved,) = mirror(url, here)
        assert "followed by 2 server(s)" in moved.steps[-1].what
        assert [server.labels for server in read_servers(here)] == [{"stable": 4}] * 2
        roll_back_stored_label(shelf, "stable")
        mirror(url, here)
        assert [server.labels for server in read_servers(here)] == [{"stable": 2}] * 2


def test_whoever_dies_after_any_byte_of_the_journal_goes_on_from_there(
    url: str, shelf: Storage, here: Path
) -> None:
    for version in (1, 2, 2):
        move_stored_label(shelf, "stable", version)
    roll_back_stored_label(shelf, "stable", reason="no good")
    mirror(url, here)
    whole = journal_path(here).read_bytes()
    step = 5 if url.startswith("memory") else 97
    for num_bytes in range(0, len(whole), step):
        journal_path(here).write_bytes(whole[:num_bytes])
        mirror(url, here)
        assert journal_path(here).read_bytes() == whole


def test_mirrors_of_one_registry_make_each_move_once(shelf: Storage, url: str, here: Path) -> None:
    for version in (1, 2, 3):
        move_stored_label(shelf, "stable", version)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: mirror(url, here), range(3)))
    assert read_moves(here) == read_stored_moves(shelf)


def test_what_moves_a_label_here_holds_until_it_moves_there(
    shelf: Storage, url: str, here: Path
) -> None:
    for version in (1, 2, 3):
        move_stored_label(shelf, "stable", version)
    mirror(url, here)
    rollback(here, "stable", reason="an emergency")
    move_label(here, "own", 3)
    assert mirror(url, here) == []
    assert read_labels(here) == {"own": 3, "stable": 2}

    move_stored_label(shelf, "stable", 4)
    mirror(url, here)
    last = read_moves(here)[-1]
    assert (last.kind, last.from_version, last.to_version) == ("move", 2, 4)
    roll_back_stored_label(shelf, "stable", reason="back to 3 there")
    mirror(url, here)
    last = read_moves(here)[-1]
    assert (last.kind, last.from_version, last.to_version) == ("move", 4, 3)
    assert read_labels(here) == {"own": 3, "stable": 3}
    assert mirror(url, here) == []


def test_who_pushes_labels_may_follow_them_too(
    registry: Path, shelf: Storage, url: str, here: Path
) -> None:
    append_move(registry, "stable", 1, actor="ada")
    append_move(registry, "stable", 2, actor="ada")
    push(registry, url, labels=True)
    append_move(registry, "stable", 3, reason="better")
    push(registry, url, labels=True)
    assert mirror(url, registry) == [], "those are its own moves"
    mirror(url, here)
    move_stored_label(shelf, "stable", 4)
    mirror(url, registry)
    mirror(url, here)
    assert [move.to_version for move in read_moves(registry)] == [1, 2, 3, 4]
    assert [move.to_version for move in read_moves(here)] == [2, 3, 4]


def test_a_label_whose_release_is_damaged_stays_and_others_move(
    shelf: Storage, url: str, here: Path
) -> None:
    move_stored_label(shelf, "canary", 1)
    move_stored_label(shelf, "stable", 2)
    path = f"{shelf.root}/releases/1/config.json"
    content = shelf.fs.cat_file(path)
    shelf.fs.pipe_file(path, b"#" * len(content))
    with pytest.raises(ReleaseError, match="SHA-256"):
        mirror(url, here)
    assert read_labels(here) == {"stable": 2}
    shelf.fs.pipe_file(path, content)
    mirror(url, here)
    assert read_labels(here) == {"canary": 1, "stable": 2}


def test_a_release_to_roll_back_to_may_be_gone(shelf: Storage, url: str, here: Path) -> None:
    move_stored_label(shelf, "stable", 1)
    move_stored_label(shelf, "stable", 2)
    shelf.fs.rm(f"{shelf.root}/releases/1", recursive=True)
    said: list[str] = []
    mirror(url, here, say=said.append)
    assert read_labels(here) == {"stable": 2}
    assert any("published: 2, 3, 4" in line for line in said)


steps = st.lists(
    st.tuples(st.sampled_from(["stable", "canary"]), st.sampled_from(["back", "look", 1, 2, 3])),
    max_size=14,
)


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Storage, Path]]:
    """Storage and a registry with the same three releases, and no labels yet."""
    registry = tmp_path_factory.mktemp("stocked")
    for _ in range(3):
        publish(registry, write)

    def stock() -> tuple[Storage, Path]:
        url = f"memory://{uuid4().hex}"
        journal_path(registry).unlink(missing_ok=True)
        push(registry, url)
        return open_storage(url), registry

    return stock


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps)
def test_whenever_it_looks_it_loses_no_move_and_makes_none_twice(
    stocked: Callable[[], tuple[Storage, Path]], steps: Sequence[tuple[str, str | int]]
) -> None:
    storage, registry = stocked()
    for label, step in steps:
        if step == "look":
            mirror(storage.url, registry)
        elif isinstance(step, int):
            move_stored_label(storage, label, step)
        else:
            try:
                roll_back_stored_label(storage, label)
            except ReleaseError:
                continue  # it has no version before
    mirror(storage.url, registry)
    assert of_labels(read_moves(registry)) == of_labels(read_stored_moves(storage))


class _EnoughError(Exception):
    """Ends what would go on for good."""


def test_what_goes_wrong_meanwhile_is_said_once_and_tried_again(
    shelf: Storage, url: str, here: Path
) -> None:
    broken = f"{shelf.root}/releases/1/config.json"
    content = shelf.fs.cat_file(broken)
    shelf.fs.pipe_file(broken, b"")
    move_stored_label(shelf, "stable", 1)
    said: list[str] = []
    rounds = iter([None, lambda: shelf.fs.pipe_file(broken, content), None])

    def rest(_: float) -> None:
        try:
            happens = next(rounds)
        except StopIteration:
            raise _EnoughError from None
        if happens is not None:
            happens()

    with pytest.raises(_EnoughError):
        keep_mirroring(url, here, 1.0, rest=rest, say=said.append)
    assert sum("expected 18 bytes, got 0" in line for line in said) == 1
    assert said[-1] == "stable: nothing → 1"


def test_storage_that_is_not_there_ends_it_at_once(bucket: str, here: Path) -> None:
    with pytest.raises(UpnextError, match="no such bucket"):
        keep_mirroring("s3://elsewhere/place", here, 1.0)


def test_the_verb_follows_until_it_is_ended(shelf: Storage, url: str, here: Path) -> None:
    if url.startswith("memory"):
        pytest.skip("memory is one process's own")
    command = [sys.executable, "-m", "upnext", "pull", url, str(here), "--follow", "0.1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            for version in (1, 3):
                move_stored_label(shelf, "stable", version)
                deadline_s = time.monotonic() + LATEST_S
                while not here.is_dir() or read_labels(here) != {"stable": version}:
                    assert running.poll() is None
                    assert time.monotonic() < deadline_s
                    time.sleep(0.01)
        finally:
            running.terminate()
    assert list_releases(here) == [1, 3]
