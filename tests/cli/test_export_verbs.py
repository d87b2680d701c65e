"""`upnext export` writes what its functions write, without any training library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from upnext.export.probabilities import most_probable
from upnext.export.projector import export_projector
from upnext.export.vectors import export_vectors

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease, Upnext

WITHOUT_TRAINING_LIBRARIES = """
import sys
sys.modules |= dict.fromkeys(("torch", "onnx", "onnxscript"))
from upnext.cli import main
main()
"""


def assert_same_files(one: Path, other: Path) -> None:
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    for path in one.iterdir():
        if path.suffix == ".parquet":
            assert pl.read_parquet(path).equals(pl.read_parquet(other / path.name))
        else:
            assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_vectors_are_those_of_the_function(
    upnext: Upnext, tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    ended = upnext("export", "vectors", tiny_release.registry, tmp_path / "out")
    assert (ended.status, ended.stdout) == (0, "")
    assert f"vectors of release 1 are in {tmp_path / 'out'}" in ended.stderr
    export_vectors(tiny_release.recommender, tmp_path / "same")
    assert_same_files(tmp_path / "out", tmp_path / "same")


@pytest.mark.parametrize("at", ["2026-01-09T12:00", "1767960000000"])
def test_vectors_as_of_a_time(
    upnext: Upnext, tiny_release: TrainedRelease, tmp_path: Path, at: str
) -> None:
    ended = upnext("export", "vectors", tiny_release.registry, tmp_path / "out", "--at", at)
    assert ended.status == 0
    export_vectors(tiny_release.recommender, tmp_path / "same", at_ms=1_767_960_000_000)
    assert_same_files(tmp_path / "out", tmp_path / "same")


def test_the_projector_gets_as_many_items_as_told(
    upnext: Upnext, tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    told = (tiny_release.registry, tmp_path / "out", "--max-items", 9, "--release", 1)
    ended = upnext("export", "projector", *told)
    assert (ended.status, ended.stdout) == (0, "")
    assert "tensorboard --logdir" in ended.stderr
    export_projector(tiny_release.recommender, tmp_path / "same", max_items=9)
    assert_same_files(tmp_path / "out", tmp_path / "same")


def test_probabilities_as_table_json_and_parquet(
    upnext: Upnext, tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    asked = ("export", "probabilities", tiny_release.registry, "--user", "u00003")
    table = upnext(*asked, "--top", 3)
    assert (table.status, table.stderr) == (0, "")
    header, *lines = table.stdout.splitlines()
    assert header.split() == ["#", "item", "title", "watches", "probability"]
    best = most_probable(tiny_release.recommender, "u00003", k=3)
    assert [line.split()[1] for line in lines] == best["item_id"].to_list()
    assert all(line.rstrip().endswith("%") for line in lines)

    assert upnext(*asked, "--top", 3, "--json").json == best.to_dicts()

    written = upnext(*asked, "--top", 0, "--out", tmp_path / "new" / "all.parquet")
    assert (written.status, written.stdout) == (0, "")
    whole = pl.read_parquet(tmp_path / "new" / "all.parquet")
    assert whole.equals(most_probable(tiny_release.recommender, "u00003"))
    assert whole["probability"].sum() == pytest.approx(1)


def test_a_user_whom_nobody_knows_is_told(upnext: Upnext, tiny_release: TrainedRelease) -> None:
    ended = upnext(
        "export", "probabilities", tiny_release.registry, "--user", "[red]", "--top", 1, "--json"
    )
    assert (ended.status, len(ended.json)) == (0, 1)
    assert "does not know '[red]'" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["vectors", "{registry}", "full"], 1, "full: expected a new or empty directory"),
        (["projector", "{registry}", "full"], 1, "full: expected a new or empty directory"),
        (["vectors", "{registry}", "out", "--at", "noon"], 2, "--at: expected an ISO time"),
        (["vectors", "{registry}", "out", "--release", "7"], 1, "expected a published version"),
        (["vectors", "nowhere", "out"], 1, "nowhere: expected a release, got none."),
        (["projector", "{registry}", "out", "--max-items", "-1"], 2, "'--max-items'"),
        (["probabilities", "{registry}"], 2, "--user"),
        (["probabilities", "{registry}", "--user", "a", "--top", "-1"], 2, "'--top'"),
        (["cake"], 2, "No such command 'cake'"),
    ],
)
def test_wrong_usage_is_told_and_nothing_written(
    upnext: Upnext,
    tiny_release: TrainedRelease,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    registry = str(tiny_release.registry)
    ended = upnext("export", *(registry if part == "{registry}" else part for part in arguments))
    assert (ended.status, ended.stdout) == (status, "")
    assert said in ended.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"]


def test_no_training_library_is_needed(tiny_release: TrainedRelease, tmp_path: Path) -> None:
    arguments = ["export", "vectors", str(tiny_release.registry), str(tmp_path / "out")]
    command = [sys.executable, "-c", WITHOUT_TRAINING_LIBRARIES, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    vectors = np.load(tmp_path / "out" / "item_vectors.npy", allow_pickle=False)
    np.testing.assert_array_equal(vectors, tiny_release.recommender.retriever.item_vectors[2:])
