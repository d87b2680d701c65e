import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import ConfigError, DataError
from upnext.training.checkpoint import CheckpointFolder, digest, remove_checkpoints

IDENTITY: Mapping[str, Any] = {
    "config": {"learning_rate": 0.1, "network": {"hidden_sizes": (32, 16)}},
    "data": "5e1f",
}
ARRAYS = {"model/weight": np.arange(6.0).reshape(2, 3), "random/cpu": np.arange(9, dtype=np.uint8)}


def folder(directory: Path, identity: Mapping[str, Any] = IDENTITY) -> CheckpointFolder:
    return CheckpointFolder(directory=directory, identity=identity)


def said_nothing(_: str) -> None:
    raise AssertionError("there was nothing to say")


def newest_step(directory: Path) -> int:
    found = folder(directory).newest(say=said_nothing)
    assert found is not None
    return int(found.position["step"])


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    position = {"step": 3, "losses": [0.1, float("inf")], "epochs": {"a": None}}
    folder(tmp_path / "new").save(3, position, ARRAYS)
    found = folder(tmp_path / "new").newest(say=said_nothing)
    assert found is not None
    assert found.position == position
    assert found.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def test_an_empty_folder_and_none_at_all_hold_no_checkpoint(tmp_path: Path) -> None:
    assert folder(tmp_path).newest(say=said_nothing) is None
    assert folder(tmp_path / "missing").newest(say=said_nothing) is None


def test_the_newest_comes_back_and_the_two_newest_stay(tmp_path: Path) -> None:
    for step in (8, 9, 10, 100):
        folder(tmp_path).save(step, {"step": step}, ARRAYS)
        assert newest_step(tmp_path) == step
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink"])
def test_a_crash_on_the_way_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for step in (1, 2):
        folder(tmp_path).save(step, {"step": step}, ARRAYS)

    def crash(*_: object, **__: object) -> None:
        raise OSError("the power went out")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, crash)
        with pytest.raises(OSError, match="the power went out"):
            folder(tmp_path).save(3, {"step": 3}, ARRAYS)
    assert newest_step(tmp_path) == (3 if call == "unlink" else 2)
    folder(tmp_path).save(4, {"step": 4}, ARRAYS)
    assert newest_step(tmp_path) == 4
    assert len(list(tmp_path.iterdir())) == 2


def test_names_follow_bytes_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes first, then the name that they get, then the folder; only then may older files go."""
    done: list[str] = []

    def noted(name: str) -> None:
        truly = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            return truly(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for step in (1, 2):
        folder(tmp_path).save(step, {}, ARRAYS)
    for name in ("fsync", "replace", "unlink"):
        noted(name)
    folder(tmp_path).save(3, {}, ARRAYS)
    assert done == ["fsync", "replace", "fsync", "unlink"]


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_taken(
    tmp_path: Path, keep: int
) -> None:
    for step in (1, 2):
        folder(tmp_path).save(step, {"step": step}, ARRAYS)
    path = max(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:keep])
    said: list[str] = []
    found = folder(tmp_path).newest(say=said.append)
    assert found is not None
    assert found.position["step"] == 1
    assert [line.startswith(f"{path} is damaged") for line in said] == [True]


def test_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    folder(tmp_path).save(1, {}, {"a": np.zeros(1_000)})
    [path] = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    said: list[str] = []
    assert folder(tmp_path).newest(say=said.append) is None
    assert "is damaged" in said[0]


def test_another_config_is_refused_by_name(tmp_path: Path) -> None:
    folder(tmp_path).save(1, {}, ARRAYS)
    other = {**IDENTITY, "config": {**IDENTITY["config"], "learning_rate": 0.2}}
    with pytest.raises(
        ConfigError,
        match=r"npz, config\.learning_rate: expected .* 0\.2, got 0\.1\.\nHint: another",
    ):
        folder(tmp_path, other).newest(say=said_nothing)


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ({**IDENTITY, "data": "77aa"}, "data: expected that of this run, '77aa', got '5e1f'"),
        ({"config": IDENTITY["config"]}, "data: expected that of this run, None, got '5e1f'"),
        ({**IDENTITY, "torch": "3.0"}, "torch: expected that of this run, '3.0', got None"),
    ],
)
def test_other_data_is_refused(tmp_path: Path, identity: Mapping[str, Any], name: str) -> None:
    folder(tmp_path).save(1, {}, ARRAYS)
    with pytest.raises(DataError, match=name):
        folder(tmp_path, identity).newest(say=said_nothing)


def test_checkpoints_go_and_curves_stay(tmp_path: Path) -> None:
    folder(tmp_path / "retrieval").save(1, {}, ARRAYS)
    folder(tmp_path / "refit" / "ranking").save(1, {}, ARRAYS)
    (tmp_path / "refit" / "ranking" / "checkpoint-0.partial").touch()
    curves = tmp_path / "retrieval" / "curves.jsonl"
    curves.touch()
    remove_checkpoints(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [curves]
    shutil.rmtree(tmp_path)
    remove_checkpoints(tmp_path)


@dataclass(frozen=True)
class Data:
    rows: np.ndarray[Any, Any]
    note: str | None = None


SAME = Data(np.arange(6))
OTHERS = [
    Data(np.arange(6)[::-1]),
    Data(np.arange(6).astype(np.int32)),
    Data(np.arange(6).reshape(2, 3)),
    Data(np.arange(7)),
    Data(np.arange(6), note=""),
    Data(np.array([f"{i}".encode() for i in range(6)])),
    {"rows": np.arange(6), "note": None},
    (np.arange(6), None),
    [[np.arange(6)], None],
    np.zeros(0),
    0,
    False,
]


def test_a_digest_tells_all_of_these_apart() -> None:
    assert len({digest(value) for value in [SAME, *OTHERS]}) == 1 + len(OTHERS)
    assert digest(SAME, 1) != digest(SAME) != digest(SAME, SAME)


def test_a_digest_sees_values_and_not_memory() -> None:
    strided = np.arange(12)[::2] // 2
    assert digest(Data(strided)) == digest(SAME) == digest(Data(np.arange(6)))


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_a_digest_keeps_neighbours_apart(first: list[int], second: list[int]) -> None:
    assert (digest(first, second) == digest(second, first)) == (first == second)


def test_what_has_no_digest_is_an_error() -> None:
    with pytest.raises(TypeError, match="set has no digest"):
        digest({"ids": {1, 2}})
