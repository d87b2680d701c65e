"""A release is what was published, whole and unchanged, or it does not open."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upnext.errors import ReleaseError
from upnext.registry.release import (
    Release,
    list_releases,
    open_release,
    publish,
    refuse_unwritable,
)

NAMES = ["config.json", "items/vectors.npy", "manifest.json", "manifest.sha256", "report.txt"]

PUBLISH_IN_ANOTHER_PROCESS = """
import os, sys
from pathlib import Path
from upnext.registry.release import publish

def write(directory):
    (directory / "a.txt").write_text(sys.argv[2])
    if sys.argv[2] == "crash":
        os._exit(9)
    return {}

for _ in range(int(sys.argv[3])):
    print(publish(Path(sys.argv[1]), write).version)
"""


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "items").mkdir()
    np.save(directory / "items/vectors.npy", np.eye(3, dtype=np.float32))
    (directory / "config.json").write_text('{"vector_size": 3}', encoding="utf-8")
    (directory / "report.txt").write_text("All is well.", encoding="utf-8")
    return {"watermark_ms": 123, "metrics": {"recall_at_50": 0.5}}


def _writer(**texts: str) -> Callable[[Path], Mapping[str, Any]]:
    def write(directory: Path) -> Mapping[str, Any]:
        for name, text in texts.items():
            (directory / f"{name}.txt").write_text(text, encoding="utf-8")
        return {}

    return write


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """A published release whose files may be tampered with."""
    release = publish(tmp_path, _write)
    for path in [release.path, *release.path.rglob("*")]:
        path.chmod(0o755)
    return release


def _reseal(release: Release, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the manifest and its hash alike, as only somebody who means it does."""
    manifest = json.loads((release.path / "manifest.json").read_bytes())
    change(manifest)
    content = json.dumps(manifest).encode()
    (release.path / "manifest.json").write_bytes(content)
    seal = f"{hashlib.sha256(content).hexdigest()}  manifest.json\n"
    (release.path / "manifest.sha256").write_text(seal, encoding="utf-8")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    published = publish(tmp_path, _write)
    opened = open_release(tmp_path, 1)
    assert opened == published
    assert opened.metadata == {"watermark_ms": 123, "metrics": {"recall_at_50": 0.5}}
    assert opened.json("config.json") == {"vector_size": 3}
    assert opened.file("report.txt").read_text(encoding="utf-8") == "All is well."
    np.testing.assert_array_equal(opened.array("items/vectors.npy"), np.eye(3))


def test_versions_count_up_and_sort_as_numbers(tmp_path: Path) -> None:
    published = [publish(tmp_path, _writer(a=str(n))).version for n in range(11)]
    assert published == list(range(1, 12)) == list_releases(tmp_path)


def test_an_empty_registry_lists_nothing(tmp_path: Path) -> None:
    assert list_releases(tmp_path / "not made yet") == []


def test_a_published_release_is_read_only(tmp_path: Path) -> None:
    release = publish(tmp_path, _write)
    for path in [release.path, *release.path.rglob("*")]:
        assert path.stat().st_mode & 0o222 == 0, path


def test_the_seal_is_what_sha256sum_reads(tmp_path: Path) -> None:
    release = publish(tmp_path, _write)
    command = ["sha256sum", "--check", "--strict", "manifest.sha256"]
    done = subprocess.run(command, cwd=release.path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "manifest.json: OK\n")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_found_and_its_file_named(
    release: Release, name: str, bit: int, share: float
) -> None:
    content = bytearray((release.path / name).read_bytes())
    content[round(share * (len(content) - 1))] ^= 1 << bit
    (release.path / name).write_bytes(content)
    named = "manifest.json" if name == "manifest.sha256" else name
    with pytest.raises(ReleaseError, match=named) as caught:
        open_release(release.path.parents[1], release.version)
    assert "publish anew" in caught.value.hint


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_flipped_bit_of_the_manifest_is_found_even_unverified(
    release: Release, data: st.DataObject
) -> None:
    path = release.path / "manifest.json"
    whole = path.read_bytes()
    position = data.draw(st.integers(0, 8 * len(whole) - 1))
    content = bytearray(whole)
    content[position // 8] ^= 1 << position % 8
    path.write_bytes(content)
    try:
        with pytest.raises(ReleaseError):
            open_release(release.path.parents[1], release.version, verify=False)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_file_is_found(release: Release, name: str, verify: bool) -> None:
    (release.path / name).unlink()
    with pytest.raises(ReleaseError, match=name):
        open_release(release.path.parents[1], release.version, verify=verify)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verify", [True, False])
def test_a_truncated_file_is_found(release: Release, name: str, verify: bool) -> None:
    with (release.path / name).open("r+b") as file:
        file.truncate((release.path / name).stat().st_size - 1)
    with pytest.raises(ReleaseError, match=r"manifest\.json" if "manifest" in name else name):
        open_release(release.path.parents[1], release.version, verify=verify)


@pytest.mark.parametrize("name", ["extra.txt", "items/extra.npy", ".hidden"])
def test_an_extra_file_is_found(release: Release, name: str) -> None:
    (release.path / name).touch()
    with pytest.raises(ReleaseError, match=f"also {name}"):
        open_release(release.path.parents[1], release.version, verify=False)


def test_a_symlink_to_the_same_bytes_is_found(release: Release, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.txt"
    (release.path / "report.txt").rename(moved)
    (release.path / "report.txt").symlink_to(moved)
    with pytest.raises(ReleaseError, match="symlink"):
        open_release(tmp_path, release.version)


@pytest.mark.parametrize("name", ["../../outside.txt", "/etc/hostname", "items/../report.txt"])
def test_a_manifest_cannot_name_a_file_outside(release: Release, name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").touch()
    _reseal(release, lambda m: m["files"].update({name: {"size_bytes": 0, "sha256": ""}}))
    with pytest.raises(ReleaseError, match="names inside the release"):
        open_release(tmp_path, release.version)


def test_a_resealed_pickle_still_does_not_open(release: Release, tmp_path: Path) -> None:
    path = release.path / "items/vectors.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    size_bytes, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    entry = {"size_bytes": size_bytes, "sha256": digest}
    _reseal(release, lambda m: m["files"].update({"items/vectors.npy": entry}))
    with pytest.raises(ReleaseError, match="pickle can run code"):
        open_release(tmp_path, release.version)


def test_a_copied_release_is_not_another_version(release: Release, tmp_path: Path) -> None:
    release.path.rename(tmp_path / "releases/7")
    with pytest.raises(ReleaseError, match="expected version 7, got 1"):
        open_release(tmp_path, 7)


def test_a_later_format_is_told_from_damage(release: Release, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["format_version"] = 2
        del manifest["files"]

    _reseal(release, change)
    with pytest.raises(ReleaseError, match="newer upnext"):
        open_release(tmp_path, release.version)


def test_a_sealed_manifest_that_is_none_is_refused(release: Release, tmp_path: Path) -> None:
    _reseal(release, lambda m: m.update(files=[]))
    with pytest.raises(ReleaseError, match="expected a manifest"):
        open_release(tmp_path, release.version)


def test_an_unknown_version_is_told_with_what_there_is(tmp_path: Path) -> None:
    publish(tmp_path, _write)
    with pytest.raises(ReleaseError, match="published: 1"):
        open_release(tmp_path, 2)


def test_a_file_that_is_not_there_is_told_with_what_there_is(tmp_path: Path) -> None:
    release = publish(tmp_path, _write)
    with pytest.raises(ReleaseError, match=r"items/vectors\.npy") as caught:
        release.array("items/vector.npy")
    assert caught.value.where == "release 1, items/vector.npy"


def test_a_file_that_is_not_json_is_told(tmp_path: Path) -> None:
    release = publish(tmp_path, _write)
    with pytest.raises(ReleaseError, match="expected JSON"):
        release.json("report.txt")


@pytest.mark.parametrize("metadata", [{"a": float("nan")}, {"a": np.float32(1)}, {"a": {1, 2}}])
def test_metadata_that_json_cannot_hold_are_refused(
    tmp_path: Path, metadata: dict[str, object]
) -> None:
    def write(directory: Path) -> Mapping[str, Any]:
        (directory / "a.txt").touch()
        return metadata

    with pytest.raises(ReleaseError, match="plain values"):
        publish(tmp_path, write)
    assert list((tmp_path / "releases").iterdir()) == []


@pytest.mark.parametrize("name", ["model.pkl", "manifest.json", "manifest.sha256"])
def test_a_refused_file_leaves_no_trace(tmp_path: Path, name: str) -> None:
    def write(directory: Path) -> Mapping[str, Any]:
        (directory / name).touch()
        return {}

    with pytest.raises(ReleaseError, match=name):
        publish(tmp_path, write)
    assert list((tmp_path / "releases").iterdir()) == []


def test_a_release_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="at least one file"):
        publish(tmp_path, _writer())


def test_a_writer_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    def write(directory: Path) -> Mapping[str, Any]:
        (directory / "a.txt").touch()
        raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        publish(tmp_path, write)
    assert list((tmp_path / "releases").iterdir()) == []


def test_a_version_taken_in_the_meantime_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, _writer(a="first"))
    seen = iter([[], [1]])
    monkeypatch.setattr("upnext.registry.release.list_releases", lambda _: next(seen))
    second = publish(tmp_path, _writer(a="second"))
    assert second.version == 2
    assert open_release(tmp_path, 1).file("a.txt").read_text("utf-8") == "first"
    assert open_release(tmp_path, 2).file("a.txt").read_text("utf-8") == "second"


def _in_another_process(registry: Path, text: str, times: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PUBLISH_IN_ANOTHER_PROCESS, str(registry), text, str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_publisher_that_is_killed_leaves_no_release(tmp_path: Path) -> None:
    with _in_another_process(tmp_path, "crash", 1) as process:
        assert process.wait() == 9
    assert list_releases(tmp_path) == []
    (left_over,) = (tmp_path / "releases").iterdir()

    assert publish(tmp_path, _write).version == 1
    assert left_over.exists(), "it might belong to a publisher at work"

    two_days_ago_s = time.time() - 2 * 24 * 3600
    os.utime(left_over, (two_days_ago_s, two_days_ago_s))
    assert publish(tmp_path, _write).version == 2
    assert not left_over.exists()


def test_publishers_in_two_processes_get_versions_of_their_own(tmp_path: Path) -> None:
    processes = [_in_another_process(tmp_path, name, 10) for name in ("left", "right")]
    versions: dict[int, str] = {}
    for process, name in zip(processes, ("left", "right"), strict=True):
        output, _ = process.communicate()
        assert process.returncode == 0
        versions |= dict.fromkeys(map(int, output.split()), name)
    assert sorted(versions) == list(range(1, 21)) == list_releases(tmp_path)
    for version, name in versions.items():
        path = open_release(tmp_path, version).file("a.txt")
        assert path.read_text(encoding="utf-8") == name


def test_publishers_in_threads_get_versions_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        texts = [str(number) for number in range(24)]
        releases = list(threads.map(lambda text: publish(tmp_path, _writer(a=text)), texts))
    assert sorted(release.version for release in releases) == list(range(1, 25))
    for release, text in zip(releases, texts, strict=True):
        assert open_release(tmp_path, release.version).file("a.txt").read_text("utf-8") == text


def test_where_nothing_can_be_published_is_told_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for no_place in (tmp_path / "file", tmp_path / "file" / "registry"):
        with pytest.raises(ReleaseError, match=f"^{no_place}: expected .* got a file"):
            refuse_unwritable(no_place)
    refuse_unwritable(tmp_path / "not" / "made" / "yet")
    assert not (tmp_path / "not").exists()
