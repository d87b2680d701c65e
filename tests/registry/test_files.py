"""Only plain files of known kinds lie in a release."""

import contextlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upnext.errors import ReleaseError
from upnext.registry.files import (
    check_kind,
    describe_file,
    is_safe_name,
    list_files,
    make_read_only,
    map_array,
)


class _Bomb:
    """Unpickling it would raise; reading it as an array must not get that far."""

    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was run",))


def test_files_are_listed_by_relative_name_in_order(tmp_path: Path) -> None:
    (tmp_path / "b/deep").mkdir(parents=True)
    for name in ("b/deep/z.txt", "c.txt", "b/a.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    files = list_files(tmp_path)
    assert list(files) == ["b/a.txt", "b/deep/z.txt", "c.txt"]
    assert files["b/a.txt"].read_text(encoding="utf-8") == "b/a.txt"


@pytest.mark.parametrize("target", ["there.txt", "folder", "nowhere.txt"])
def test_no_symlink_is_listed_wherever_it_points(tmp_path: Path, target: str) -> None:
    (tmp_path / "there.txt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.txt").symlink_to(target)
    with pytest.raises(ReleaseError, match="symlink"):
        list_files(tmp_path)


def test_no_special_file_is_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ReleaseError, match="special file"):
        list_files(tmp_path)


def test_the_hash_is_the_one_that_the_world_agrees_on(tmp_path: Path) -> None:
    path = tmp_path / "abc.txt"
    path.write_bytes(b"abc")
    entry = describe_file(path)
    # FIPS 180-4, the one-block example.
    assert entry.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert entry.size_bytes == 3


@pytest.mark.parametrize("name", ["model.pkl", "model.pt", "run.py", "weights.npz", "README"])
def test_kinds_that_could_hold_code_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ReleaseError, match="plain formats only"):
        check_kind(tmp_path / name)


def test_an_array_comes_back_mapped_and_read_only(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", values)
    array = map_array(tmp_path / "a.npy")
    assert isinstance(array.base, np.memmap)
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, values)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 127), value=st.integers(0, 255))
def test_a_damaged_header_is_an_array_or_refused(tmp_path: Path, place: int, value: int) -> None:
    np.save(tmp_path / "a.npy", np.arange(6))
    content = bytearray((tmp_path / "a.npy").read_bytes())
    content[place] = value
    (tmp_path / "a.npy").write_bytes(content)
    # Whatever the header says now: an array, or a refusal that names the file, and nothing else.
    with contextlib.suppress(ReleaseError):
        assert map_array(tmp_path / "a.npy").dtype != object


def test_an_array_without_elements_is_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.empty((0, 64), dtype=np.float32))
    assert map_array(tmp_path / "a.npy").shape == (0, 64)


@pytest.mark.parametrize("planted", ["objects", "objects in a field", "pickle", "zip", "empty"])
def test_nothing_else_passes_for_an_array(tmp_path: Path, planted: str) -> None:
    path = tmp_path / "a.npy"
    match planted:
        case "objects":
            np.save(path, np.array([_Bomb()], dtype=object), allow_pickle=True)
        case "objects in a field":
            np.save(path, np.array([(1, _Bomb())], dtype=[("n", "i4"), ("o", "O")]))
        case "pickle":
            path.write_bytes(pickle.dumps(_Bomb()))
        case "zip":
            with path.open("wb") as file:
                np.savez(file, a=np.zeros(2))
        case "empty":
            path.touch()
    with pytest.raises(ReleaseError, match="array of plain numbers"):
        check_kind(path)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/../b", "/a", "a/", "./a", "a//b", "a\\b", "a\0b"]
)
def test_a_name_that_could_lead_outside_is_unsafe(name: str) -> None:
    assert not is_safe_name(name)


@pytest.mark.parametrize("name", ["a", "a.npy", "ranking/model.onnx", "..a", "a/..b/c"])
def test_a_plain_relative_name_is_safe(name: str) -> None:
    assert is_safe_name(name)


def test_read_only_reaches_every_file_and_folder(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "folder").mkdir(parents=True)
    (top / "folder/a.txt").touch()
    make_read_only(top)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [top, *top.rglob("*")]}
    assert modes == {"top": 0o555, "folder": 0o555, "a.txt": 0o444}
