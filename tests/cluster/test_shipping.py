"""What is packed is had again, its large arrays mapped from files and not copied."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("ray", reason="training on Ray needs the extra `ray`")
from upnext.cluster.shipping import LEAST_BYTES, packed, unpacked

LARGE = np.arange(LEAST_BYTES // 4, dtype=np.float32)


@dataclass
class Held:
    array: NDArray[Any]
    other: object = None


def file_of(array: NDArray[Any]) -> Path:
    owner: Any = array
    while not isinstance(owner, np.memmap):
        owner = owner.base
    assert isinstance(owner.filename, str | Path)
    return Path(owner.filename)


def test_large_arrays_go_into_files_and_small_ones_along(tmp_path: Path) -> None:
    small = np.arange(10)
    content = packed(partial(print, Held(LARGE.reshape(2, -1)), key=Held(small)), tmp_path)
    assert len(content) < LEAST_BYTES / 10
    again = unpacked(content)
    np.testing.assert_array_equal(again.args[0].array, LARGE.reshape(2, -1))
    np.testing.assert_array_equal(again.keywords["key"].array, small)
    assert file_of(again.args[0].array).parent == tmp_path
    assert not again.args[0].array.flags.writeable


def test_what_is_packed_twice_lies_there_once(tmp_path: Path) -> None:
    first = packed([LARGE, LARGE[::-1], LARGE.copy()], tmp_path)
    again = packed([LARGE, LARGE[::-1], LARGE.astype(np.float64)[: LARGE.size]], tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    for content in (first, again):
        forward, backward, _ = unpacked(content)
        np.testing.assert_array_equal(forward, LARGE)
        np.testing.assert_array_equal(backward, LARGE[::-1])


@pytest.mark.parametrize("part", [slice(None), slice(7, None), slice(None, -5)])
def test_mapped_files_stay_where_they_are(tmp_path: Path, part: slice) -> None:
    np.save(tmp_path / "rows.npy", np.concatenate([LARGE, LARGE]))
    array = np.asarray(np.load(tmp_path / "rows.npy", mmap_mode="r"))[part]
    shipped = tmp_path / "shipped"
    again = unpacked(packed(Held(array), shipped)).array
    np.testing.assert_array_equal(again, array)
    assert file_of(again) == tmp_path / "rows.npy"
    assert list(shipped.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="files are removed while they are mapped")
def test_a_mapped_file_that_is_gone_is_packed_as_any_array(tmp_path: Path) -> None:
    path = tmp_path / "gone.npy"
    np.save(path, np.concatenate([LARGE, LARGE]))
    array = np.asarray(np.load(path, mmap_mode="r"))
    path.unlink()
    again = unpacked(packed(array, tmp_path / "shipped"))
    np.testing.assert_array_equal(again, array)
