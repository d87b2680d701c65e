"""Pages that a process lets go of leave its memory, and nobody who still reads notices."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upnext.registry.files import map_array
from upnext.registry.mapped import PIECE_BYTES, let_go
from upnext.registry.release import publish

NUM_BYTES = 2 * PIECE_BYTES + 12_345


def resident_kib(path: Path) -> int:
    """How much of a file this process has in its memory."""
    found = 0
    is_of_file = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            is_of_file = line.endswith(str(path))
        elif is_of_file and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.arange(NUM_BYTES, dtype=np.uint32).astype(np.uint8))
    return tmp_path / "a.npy"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is resident")
def test_what_was_read_leaves_memory_and_is_read_again(path: Path) -> None:
    array = map_array(path)
    slice_of_it, total = array[1000:2000], int(array.sum())
    assert resident_kib(path) >= NUM_BYTES // 1024
    let_go(array, rest=0.0)
    assert resident_kib(path) == 0
    assert slice_of_it.tolist() == [place % 256 for place in range(1000, 2000)]
    assert int(array.sum()) == total


@pytest.mark.parametrize("array", [np.arange(3), np.arange(9)[2:4], np.zeros(0)])
def test_what_lies_in_memory_stays_there(array: NDArray[Any]) -> None:
    before = array.copy()
    let_go(array, rest=0.0)
    assert array.tolist() == before.tolist()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is resident")
def test_a_release_maps_a_file_once_and_lets_go_of_all(tmp_path: Path) -> None:
    def write(directory: Path) -> dict[str, Any]:
        for name in "ab":
            np.save(directory / f"{name}.npy", np.ones(PIECE_BYTES, np.uint8))
        return {}

    release = publish(tmp_path, write)
    assert release.array("a.npy") is release.array("a.npy")
    arrays = [release.array("a.npy"), release.array("b.npy")]
    totals = [int(one.sum()) for one in arrays]
    release.let_go(rest=0.0)
    assert [resident_kib(release.path / f"{name}.npy") for name in "ab"] == [0, 0]
    assert [int(one.sum()) for one in arrays] == totals


def test_a_file_may_be_asked_for_while_others_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that nobody waits for any more may still be at work on the release."""

    def write(folder: Path) -> dict[str, Any]:
        for name in "abc":
            np.save(folder / f"{name}.npy", np.arange(5))
        return {}

    release, let_go_of = publish(tmp_path, write), []

    def asked_meanwhile(array: NDArray[Any], *, rest: float) -> None:
        release.array("c.npy")
        let_go_of.append(array)

    monkeypatch.setattr("upnext.registry.release.let_go", asked_meanwhile)
    both = [release.array("a.npy"), release.array("b.npy")]
    release.let_go(rest=0.0)
    assert [any(array is one for one in let_go_of) for array in both] == [True, True]
