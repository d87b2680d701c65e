"""A push: a release is on storage whole or not at all, whoever dies or comes at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tests.registry.storage.conftest import NUM_FILES, contents, write, writer

from upnext.errors import ReleaseError
from upnext.registry.labels import append_move, append_rollback
from upnext.registry.release import Release, open_release, publish
from upnext.registry.storage.labels import read_stored_labels, read_stored_moves
from upnext.registry.storage.objects import Storage, StorageError, open_storage
from upnext.registry.storage.pull import pull_release
from upnext.registry.storage.push import push, push_release
from upnext.registry.storage.stored import list_stored, read_stored

NUM_WRITES = NUM_FILES + 2
"""The seal, the files, the manifest."""

PUSH_AND_DIE = """
import os, sys
from pathlib import Path
import upnext.registry.storage.objects as objects
from upnext.registry.release import open_release
from upnext.registry.storage.push import push_release

num_left = int(sys.argv[3])

def dying(does):
    def do(*arguments):
        global num_left
        num_left -= 1
        if num_left < 0:
            os._exit(9)
        return does(*arguments)
    return do

objects._create, objects._send = dying(objects._create), dying(objects._send)
push_release(objects.open_storage(sys.argv[2]), open_release(Path(sys.argv[1]), 1))
"""


class Failing(MemoryFileSystem):  # type: ignore[misc]
    """Fails from the k-th write on, half a file written."""

    fails_at: int | None = None
    num_writes = 0

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self._count()
        super().pipe_file(path, value, mode=mode)

    def put_file(self, lpath: str, rpath: str, *arguments: Any, **named: Any) -> None:
        try:
            self._count()
        except OSError:
            content = Path(lpath).read_bytes()
            super().pipe_file(rpath, content[: len(content) // 2])
            raise
        super().put_file(lpath, rpath, *arguments, **named)

    def _count(self) -> None:
        if self.num_writes == self.fails_at:
            raise OSError("the line is dead")
        self.num_writes += 1


@pytest.fixture
def release(registry: Path) -> Release:
    return open_release(registry, 1)


def assert_whole(storage: Storage, release: Release, directory: Path) -> None:
    """What is pulled is what was published, to the byte."""
    pull_release(storage, directory, release.version)
    assert contents(open_release(directory, release.version)) == contents(release)


def test_what_is_pushed_is_pulled_byte_by_byte(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    copied = push_release(storage, release)
    assert (copied.num_copied, copied.copied_bytes) == (NUM_FILES, release.size_bytes)
    assert list_stored(storage) == [1]
    assert read_stored(storage, 1).manifest.metadata == release.metadata
    assert_whole(storage, release, tmp_path / "elsewhere")


def test_a_second_push_sends_nothing(storage: Storage, release: Release) -> None:
    push_release(storage, release)
    again = push_release(storage, release)
    assert (again.num_files, again.num_copied, again.copied_bytes) == (NUM_FILES, 0, 0)


@pytest.mark.parametrize("fails_at", range(NUM_WRITES))
def test_a_push_that_fails_anywhere_publishes_nothing_and_the_next_goes_on(
    release: Release, tmp_path: Path, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upnext.registry.storage.copying.NUM_THREADS", 1)  # so that one can count
    fs = Failing(skip_instance_cache=True)
    storage = Storage(url="memory://x", fs=fs, root=f"/{tmp_path.name}-{fails_at}")
    fs.fails_at = fails_at
    with pytest.raises(StorageError, match="the line is dead"):
        push_release(storage, release)
    assert list_stored(storage) == []
    with pytest.raises(ReleaseError, match="expected a release, got none"):
        read_stored(storage, 1)
    fs.fails_at = None
    num_there = max(0, fails_at - 1)  # the seal comes before the files
    assert push_release(storage, release).num_copied <= NUM_FILES - num_there
    assert_whole(storage, release, tmp_path / "elsewhere")


@pytest.mark.parametrize("num_writes", [0, 1, 3, NUM_WRITES - 1])
def test_a_pusher_that_is_killed_publishes_nothing_and_the_next_goes_on(
    url: str, release: Release, tmp_path: Path, num_writes: int
) -> None:
    if url.startswith("memory"):
        pytest.skip("memory dies with its process")
    arguments = [str(release.path.parents[1]), url, str(num_writes)]
    killed = subprocess.run([sys.executable, "-c", PUSH_AND_DIE, *arguments], check=False)
    assert killed.returncode == 9
    storage = open_storage(url)
    assert list_stored(storage) == []
    push_release(storage, release)
    assert list_stored(storage) == [1]
    assert_whole(storage, release, tmp_path / "elsewhere")


def test_pushers_of_one_release_at_once_all_succeed(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: push_release(storage, release), range(4)))
    assert_whole(storage, release, tmp_path / "elsewhere")


def test_of_pushers_of_several_releases_of_a_version_one_wins_whole(
    storage: Storage, tmp_path: Path
) -> None:
    # Of the same size, so that only their content tells them apart.
    ours = [publish(tmp_path / text, writer(text)) for text in ("left", "mine", "next", "over")]

    def wins(release: Release) -> bool:
        try:
            push_release(storage, release)
        except ReleaseError as error:
            return "another" not in error.got
        return True

    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(wins, ours))
    assert sum(won) == 1
    assert_whole(storage, ours[won.index(True)], tmp_path / "elsewhere")
    assert [wins(release) for release in ours] == won, "and it stays so"


def test_another_release_that_was_begun_keeps_its_place_until_removed(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    other = publish(tmp_path / "other", write)
    assert storage.create("releases/1/manifest.sha256", b"of another")
    with pytest.raises(ReleaseError, match="has not ended") as caught:
        push_release(storage, other)
    assert "remove that folder" in caught.value.hint
    storage.fs.rm(f"{storage.root}/releases", recursive=True)
    push_release(storage, other)
    assert list_stored(storage) == [1]


def test_what_was_removed_or_cut_on_storage_is_sent_again(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    push_release(storage, release)
    storage.fs.rm_file(f"{storage.root}/releases/1/items/1.npy")
    (tmp_path / "short").write_bytes(b"{")
    storage.send(tmp_path / "short", "releases/1/config.json", lambda _: None)
    assert push_release(storage, release).num_copied == 2
    assert_whole(storage, release, tmp_path / "elsewhere")


def test_all_releases_are_pushed_unless_some_are_named(registry: Path, url: str) -> None:
    publish(registry, write)
    publish(registry, write)
    append_move(registry, "stable", 2)
    said: list[str] = []
    assert [one.version for one in push(registry, url, ["stable"], say=said.append)] == [2]
    assert list_stored(open_storage(url)) == [2]
    assert [one.version for one in push(registry, url, say=said.append)] == [1, 2, 3]
    assert list_stored(open_storage(url)) == [1, 2, 3]
    assert [line for line in said if line.endswith("all there already")] == [said[2]]
    assert read_stored_labels(open_storage(url)) == {}


def test_labels_follow_to_storage_with_their_releases(registry: Path, url: str) -> None:
    publish(registry, write)
    publish(registry, write)
    storage = open_storage(url)
    append_move(registry, "stable", 1, actor="ada", reason="the first")
    append_move(registry, "canary", 3, actor="bob")
    push(registry, url, ["2"], labels=True)
    assert list_stored(storage) == [1, 2, 3]
    assert read_stored_labels(storage) == {"canary": 3, "stable": 1}
    push(registry, url, labels=True)
    assert len(read_stored_moves(storage)) == 2, "none has moved since"
    append_move(registry, "stable", 2)
    push(registry, url, labels=True)
    append_rollback(registry, "stable", 1, expected_previous=2, actor="eve", reason="bad")
    push(registry, url, labels=True)
    told = [
        (move.label, move.kind, move.from_version, move.to_version, move.actor, move.reason)
        for move in read_stored_moves(storage)
    ]
    assert told == [
        ("canary", "move", None, 3, "bob", ""),
        ("stable", "move", None, 1, "ada", "the first"),
        ("stable", "move", 1, 2, "", ""),
        ("stable", "rollback", 2, 1, "eve", "bad"),
    ]


def test_a_damaged_release_is_not_pushed(registry: Path, url: str) -> None:
    path = registry / "releases/1/config.json"
    path.chmod(0o644)
    path.write_text('{"vector_size": 4}', encoding="utf-8")
    with pytest.raises(ReleaseError, match="SHA-256"):
        push(registry, url)
    assert open_storage(url).sizes_below("releases") == {}


def test_an_empty_registry_pushes_nothing(tmp_path: Path, url: str) -> None:
    with pytest.raises(ReleaseError, match="expected a release, got none"):
        push(tmp_path, url)


def test_progress_ends_with_all_bytes(storage: Storage, release: Release) -> None:
    told: list[str] = []
    push_release(storage, release, told.append)
    assert told[-1].startswith("pushing release 1: ")
    done, _, whole = told[-1].removeprefix("pushing release 1: ").partition(" of ")
    assert f"{done} MB" == whole
