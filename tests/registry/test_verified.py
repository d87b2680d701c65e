"""A release is hashed once a machine; whatever changed since is noticed all the same."""

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import upnext.registry.verified as verified
from upnext.errors import ReleaseError
from upnext.registry.release import Release, compare_files, publish
from upnext.registry.verified import BELIEVED_FOR_S, Note, verify_once


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    def write(directory: Path) -> Mapping[str, Any]:
        (directory / "a.txt").write_bytes(b"one")
        (directory / "b.txt").write_bytes(b"two")
        return {}

    monkeypatch.setattr(verified, "UNSURE_S", -1.0)  # though it was published just now
    return publish(tmp_path, write)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows by one with each hashing."""
    paths: list[Path] = []

    def counted(path: Path, *arguments: Any, **named: Any) -> None:
        paths.append(path)
        compare_files(path, *arguments, **named)

    monkeypatch.setattr(verified, "compare_files", counted)
    return paths


def _registry(release: Release) -> Path:
    return release.path.parent.parent


def _note_path(release: Release) -> Path:
    return _registry(release) / "servers" / f"{release.version}.verified.json"


def _written(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_processes_that_load_together_hash_once(release: Release, hashed: list[Path]) -> None:
    threads = [
        threading.Thread(target=verify_once, args=(_registry(release), release)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hashed == [release.path]


def test_bytes_that_change_are_noticed_though_size_and_time_are_the_same(
    release: Release, hashed: list[Path]
) -> None:
    verify_once(_registry(release), release)
    path = release.path / "b.txt"
    before = path.stat()
    _written(path, b"owt")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ReleaseError, match=r"b\.txt"):
        verify_once(_registry(release), release)
    with pytest.raises(ReleaseError, match=r"b\.txt"):
        verify_once(_registry(release), release)
    assert len(hashed) == 3


def test_what_changed_just_now_is_hashed_each_time(
    release: Release, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "UNSURE_S", 60.0)
    verify_once(_registry(release), release)
    verify_once(_registry(release), release)
    assert len(hashed) == 2
    assert not _note_path(release).exists()


@pytest.mark.parametrize("kind", ["old", "of the future", "of another start", "torn", "another's"])
def test_a_note_that_is_not_of_this_release_and_hour_is_not_believed(
    release: Release, hashed: list[Path], kind: str
) -> None:
    verify_once(_registry(release), release)
    path = _note_path(release)
    note = msgspec.json.decode(path.read_bytes(), type=Note)
    changed = {
        "old": replace(note, hashed_at_s=note.hashed_at_s - BELIEVED_FOR_S),
        "of the future": replace(note, hashed_at_s=note.hashed_at_s + BELIEVED_FOR_S),
        "of another start": replace(note, since_start="another"),
        "another's": replace(note, files={"a.txt": note.files["a.txt"]}),
    }
    content = msgspec.json.encode(changed[kind]) if kind in changed else path.read_bytes()[:-9]
    path.write_bytes(content)
    verify_once(_registry(release), release)
    assert len(hashed) == 2


def test_without_a_place_for_notes_each_hashes_by_itself(
    release: Release, hashed: list[Path]
) -> None:
    (_registry(release) / "servers").write_bytes(b"no directory")
    verify_once(_registry(release), release)
    verify_once(_registry(release), release)
    assert len(hashed) == 2
