"""A pull: what is in a registry afterwards is what was published, or nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.registry.storage.conftest import NUM_FILES, contents, write, writer

from upnext.errors import ReleaseError
from upnext.registry.release import Release, list_releases, open_release, publish, seal_of
from upnext.registry.storage.labels import move_stored_label
from upnext.registry.storage.objects import BLOCK_BYTES, Storage, open_storage
from upnext.registry.storage.pull import pull, pull_release
from upnext.registry.storage.push import push, push_release

PULL_AND_DIE = """
import os, sys
from pathlib import Path
from upnext.registry.storage.objects import Storage, open_storage
from upnext.registry.storage.pull import pull_release

num_left, blocks = int(sys.argv[3]), Storage.blocks

def dying(*arguments):
    global num_left
    for block in blocks(*arguments):
        num_left -= 1
        if num_left < 0:
            os._exit(9)
        yield block

Storage.blocks = dying
pull_release(open_storage(sys.argv[1]), Path(sys.argv[2]), 1)
"""


@pytest.fixture
def release(registry: Path, storage: Storage) -> Release:
    """One that lies on storage."""
    release = open_release(registry, 1)
    push_release(storage, release)
    return release


@dataclass(frozen=True)
class Cut(Storage):
    """Breaks off after so many blocks."""

    num_blocks: int

    def blocks(self, name: str, size_bytes: int, start: int = 0) -> Iterator[bytes]:
        for number, block in enumerate(super().blocks(name, size_bytes, start)):
            if number == self.num_blocks:
                raise ConnectionError("the line is dead")
            yield block


def _replace(storage: Storage, name: str, content: bytes) -> None:
    storage.fs.pipe_file(f"{storage.root}/{name}", content)


def _hidden(registry: Path) -> list[Path]:
    return [path for path in (registry / "releases").iterdir() if path.name.startswith(".")]


def test_a_pulled_release_is_read_only_and_nothing_else_is_left(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    copied = pull_release(storage, tmp_path / "here", 1)
    assert (copied.num_files, copied.copied_bytes) == (NUM_FILES, release.size_bytes)
    pulled = open_release(tmp_path / "here", 1)
    assert contents(pulled) == contents(release)
    for path in [pulled.path, *pulled.path.rglob("*")]:
        assert path.stat().st_mode & 0o222 == 0, path
    assert _hidden(tmp_path / "here") == []


def test_a_second_pull_fetches_nothing(storage: Storage, release: Release, tmp_path: Path) -> None:
    pull_release(storage, tmp_path, 1)
    assert pull_release(storage, tmp_path, 1).num_copied == 0


@pytest.mark.parametrize("name", ["items/2.npy", "config.json"])
def test_a_tampered_object_is_refused_and_named(
    storage: Storage, release: Release, tmp_path: Path, name: str
) -> None:
    content = bytearray(release.file(name).read_bytes())
    content[-1] ^= 1
    _replace(storage, f"releases/1/{name}", bytes(content))
    for _ in range(2):  # what was fetched of it is not believed later either
        with pytest.raises(ReleaseError) as caught:
            pull_release(storage, tmp_path / "here", 1)
        assert caught.value.where == storage.where(f"releases/1/{name}")
        assert release.files[name].sha256 in caught.value.expected
        assert list_releases(tmp_path / "here") == []
    _replace(storage, f"releases/1/{name}", release.file(name).read_bytes())
    pull_release(storage, tmp_path / "here", 1)
    assert contents(open_release(tmp_path / "here", 1)) == contents(release)


@pytest.mark.parametrize("content", [b"", b"{"])
def test_an_object_that_was_cut_is_refused_before_anything_is_fetched(
    storage: Storage, release: Release, tmp_path: Path, content: bytes
) -> None:
    _replace(storage, "releases/1/config.json", content)
    with pytest.raises(ReleaseError, match=f"config.json: expected 18 bytes, got {len(content)}"):
        pull_release(storage, tmp_path, 1)
    storage.fs.rm_file(f"{storage.root}/releases/1/config.json")
    with pytest.raises(ReleaseError, match="no such object"):
        pull_release(storage, tmp_path, 1)


def test_a_tampered_manifest_is_refused(storage: Storage, release: Release, tmp_path: Path) -> None:
    _replace(storage, "releases/1/manifest.json", b"{}")
    with pytest.raises(ReleaseError, match=r"the hash in manifest\.sha256"):
        pull_release(storage, tmp_path, 1)


@pytest.mark.parametrize("name", ["../../outside.txt", "/etc/outside.txt", "manifest.json"])
def test_a_manifest_cannot_name_a_file_outside(
    storage: Storage, release: Release, tmp_path: Path, name: str
) -> None:
    manifest = json.loads((release.path / "manifest.json").read_bytes())
    manifest["files"][name] = {"size_bytes": 0, "sha256": ""}
    content = json.dumps(manifest).encode()
    _replace(storage, "releases/1/manifest.json", content)
    _replace(storage, "releases/1/manifest.sha256", seal_of(content))
    with pytest.raises(ReleaseError, match="names inside the release"):
        pull_release(storage, tmp_path / "here", 1)
    assert list(tmp_path.rglob("outside.txt")) == []


def test_what_could_hold_code_is_not_published_here_either(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    manifest = json.loads((release.path / "manifest.json").read_bytes())
    manifest["files"] = {"model.pkl": manifest["files"]["config.json"]}
    content = json.dumps(manifest).encode()
    _replace(storage, "releases/1/model.pkl", release.file("config.json").read_bytes())
    _replace(storage, "releases/1/manifest.json", content)
    _replace(storage, "releases/1/manifest.sha256", seal_of(content))
    with pytest.raises(ReleaseError, match="plain formats only"):
        pull_release(storage, tmp_path / "here", 1)
    assert list_releases(tmp_path / "here") == []


def test_a_pull_that_breaks_off_goes_on_in_the_middle_of_a_file(
    url: str, storage: Storage, tmp_path: Path
) -> None:
    def write_large(directory: Path) -> dict[str, object]:
        np.save(directory / "large.npy", np.arange(BLOCK_BYTES // 4 * 2, dtype=np.uint32))
        return {}

    release = publish(tmp_path / "there", write_large)
    push_release(storage, release)
    cut = Cut(url=storage.url, fs=storage.fs, root=storage.root, num_blocks=2)
    with pytest.raises(ConnectionError):
        pull_release(cut, tmp_path / "here", 1)
    assert list_releases(tmp_path / "here") == []
    copied = pull_release(storage, tmp_path / "here", 1)
    assert copied.copied_bytes == release.size_bytes - 2 * BLOCK_BYTES
    assert contents(open_release(tmp_path / "here", 1)) == contents(release)


def test_what_a_crash_has_left_in_a_file_is_not_believed(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    cut = Cut(url=storage.url, fs=storage.fs, root=storage.root, num_blocks=0)
    with pytest.raises(ConnectionError):
        pull_release(cut, tmp_path, 1)
    (partial,) = _hidden(tmp_path)
    for name, left in {"config.json": b"\0" * 5, "items/1.npy": b"\0" * 9_999}.items():
        (partial / name).parent.mkdir(exist_ok=True)
        (partial / name).write_bytes(left)
    pull_release(storage, tmp_path, 1)
    assert contents(open_release(tmp_path, 1)) == contents(release)


@pytest.mark.parametrize("num_blocks", [0, 2])
def test_a_puller_that_is_killed_publishes_nothing_and_the_next_goes_on(
    url: str, storage: Storage, release: Release, tmp_path: Path, num_blocks: int
) -> None:
    if url.startswith("memory"):
        pytest.skip("memory dies with its process")
    arguments = [url, str(tmp_path / "here"), str(num_blocks)]
    killed = subprocess.run([sys.executable, "-c", PULL_AND_DIE, *arguments], check=False)
    assert killed.returncode == 9
    assert list_releases(tmp_path / "here") == []
    pull_release(storage, tmp_path / "here", 1)
    assert contents(open_release(tmp_path / "here", 1)) == contents(release)
    assert _hidden(tmp_path / "here") == []


def test_pullers_at_once_end_with_one_release(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(4) as threads:
        copied = list(threads.map(lambda _: pull_release(storage, tmp_path, 1), range(4)))
    assert sorted(one.num_copied > 0 for one in copied) == [False, False, False, True]
    assert contents(open_release(tmp_path, 1)) == contents(release)


def test_another_release_of_that_version_here_is_left_alone(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    ours = publish(tmp_path, writer("ours"))
    with pytest.raises(ReleaseError, match="got another one") as caught:
        pull_release(storage, tmp_path, 1)
    assert caught.value.where == str(ours.path)
    assert open_release(tmp_path, 1) == ours


def test_a_registry_that_pulls_may_publish_too(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    pull_release(storage, tmp_path, 1)
    assert publish(tmp_path, write).version == 2


def test_a_release_that_is_not_there_is_told_with_what_there_is(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match="published: 1"):
        pull_release(storage, tmp_path, 2)


def test_labels_say_what_is_pulled_unless_some_are_named(
    registry: Path, url: str, tmp_path: Path
) -> None:
    publish(registry, write)
    publish(registry, write)
    push(registry, url)
    here = tmp_path / "here"
    with pytest.raises(ReleaseError, match="expected a label, got none"):
        pull(url, here)
    move_stored_label(open_storage(url), "stable", 2)
    assert [one.version for one in pull(url, here)] == [2]
    assert [one.version for one in pull(url, here, ["3", "stable"])] == [2, 3]
    assert list_releases(here) == [2, 3]
    with pytest.raises(ReleaseError, match=r"there is stable \(2\)"):
        pull(url, here, ["canary"])
    with pytest.raises(ReleaseError, match="there is 1, 2, 3"):
        pull(url, here, ["4"])


def test_permissions_of_the_registry_are_as_of_any_other(
    storage: Storage, release: Release, tmp_path: Path
) -> None:
    pull_release(storage, tmp_path / "here", 1)
    modes = {
        name: os.stat(root / "releases/1" / name).st_mode
        for root in (tmp_path / "here", release.path.parents[1])
        for name in ("manifest.json", "items", "items/0.npy")
    }
    assert modes == {
        name: os.stat(release.path / name).st_mode
        for name in ("manifest.json", "items", "items/0.npy")
    }
