"""A release that does not fit is refused with both figures; mapped files count little."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import ReleaseError
from upnext.registry.files import FileEntry
from upnext.registry.memory import (
    FIXED_BYTES,
    INDEX_COPIES,
    MAPPED_SHARE,
    NETWORK_COPIES,
    REQUEST_BYTES,
    available_bytes,
    needed_bytes,
    require_memory,
)
from upnext.registry.release import Release

GB, MB = 10**9, 10**6

sizes = st.integers(0, 2**40)


def _release(**sizes_bytes: int) -> Release:
    """A release with one file of each ending."""
    files = {
        f"a.{ending}": FileEntry(size_bytes=size_bytes, sha256="")
        for ending, size_bytes in sizes_bytes.items()
    }
    return Release(path=Path("3"), version=3, created_at="", metadata={}, files=files)


@given(npy=sizes, faiss=sizes, onnx=sizes, png=sizes, max_batch=st.integers(1, 64))
def test_networks_and_indexes_count_fully_and_mapped_files_a_little(
    npy: int, faiss: int, onnx: int, png: int, max_batch: int
) -> None:
    needed = needed_bytes(_release(npy=npy, faiss=faiss, onnx=onnx, png=png), max_batch)
    expected = (
        FIXED_BYTES
        + max_batch * REQUEST_BYTES
        + MAPPED_SHARE * npy
        + INDEX_COPIES * faiss
        + NETWORK_COPIES * onnx
    )
    assert needed == pytest.approx(expected, abs=2)


def test_what_does_not_fit_is_told_with_both_figures() -> None:
    release = _release(onnx=GB)
    require_memory(release, available=needed_bytes(release, 1))
    with pytest.raises(ReleaseError) as refused:
        require_memory(release, available=500 * MB)
    assert "release 3: expected 3,084 MB of free memory to load it, got 500 MB." in str(
        refused.value
    )


def _machine(directory: Path, groups: str, available_kb: int) -> tuple[Path, Path]:
    proc, cgroups = directory / "proc", directory / "cgroup"
    (proc / "self").mkdir(parents=True)
    cgroups.mkdir()
    meminfo = f"MemTotal: 99999 kB\nMemAvailable:  {available_kb} kB\n"
    (proc / "meminfo").write_text(meminfo, encoding="utf-8")
    (proc / "self" / "cgroup").write_text(groups, encoding="utf-8")
    return proc, cgroups


def _write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text, encoding="utf-8")


def test_a_machine_without_groups_has_what_it_says(tmp_path: Path) -> None:
    assert available_bytes(*_machine(tmp_path, "0::/\n", 2_000)) == 2_000 * 1024


def test_the_tightest_group_counts_and_pages_of_files_are_free(tmp_path: Path) -> None:
    proc, cgroups = _machine(tmp_path, "0::/shop/web\n", 10**9)
    _write(cgroups / "shop", memory__max="4000\n", memory__current="3000\n", memory__stat="")
    _write(
        cgroups / "shop/web",
        memory__max="2000\n",
        memory__current="1900\n",
        memory__stat="anon 100\ninactive_file 300\nactive_file 150\n",
    )
    assert available_bytes(proc, cgroups) == 550
    _write(cgroups / "shop/web", memory__max="max\n")
    assert available_bytes(proc, cgroups) == 1000


def test_groups_of_the_first_version_count_as_well(tmp_path: Path) -> None:
    proc, cgroups = _machine(tmp_path, "4:memory:/box\n2:cpu,cpuacct:/\n", 10**9)
    _write(
        cgroups / "memory/box",
        memory__limit_in_bytes="1000\n",
        memory__usage_in_bytes="1200\n",
        memory__stat="total_inactive_file 0\n",
    )
    assert available_bytes(proc, cgroups) == 0


def test_a_machine_that_tells_nothing_has_no_limit(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path) > 2**60


def test_this_machine_tells_something() -> None:
    assert 0 < available_bytes() < 2**60
