"""Pushing and pulling from the command line: versions on stdout, what happens on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from upnext.registry.labels import append_move, read_labels, read_moves
from upnext.registry.release import list_releases, publish

if TYPE_CHECKING:
    from tests.conftest import Upnext


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").write_text("whole", encoding="utf-8")
    return {"num_items": 7}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for _ in range(3):
        publish(tmp_path / "registry", _write)
    return tmp_path / "registry"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/shared"


@pytest.mark.parametrize("verb", [["serve"], ["train", "logs"], ["evaluate", "logs"]])
def test_a_url_is_no_directory_of_this_machine(
    upnext: Upnext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = upnext(*verb, "s3://shelf/news")
    assert refused.status != 0
    assert "got a URL" in refused.stderr
    assert "upnext pull URL REGISTRY --labels" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_releases_and_labels_go_there_and_back(
    upnext: Upnext, registry: Path, url: str, tmp_path: Path
) -> None:
    append_move(registry, "stable", 2)
    pushed = upnext("push", registry, url, "--labels")
    assert (pushed.status, pushed.stdout) == (0, "1\n2\n3\n")
    assert pushed.stderr.splitlines()[-1] == "stable: nothing → 2"
    listed = upnext("releases", url, "--json").json
    assert [(row["version"], row["labels"]) for row in listed] == [
        (1, []),
        (2, ["stable"]),
        (3, []),
    ]
    assert {row["num_items"] for row in listed} == {7}
    assert "stable" in upnext("releases", url).stdout

    here = tmp_path / "here"
    assert upnext("pull", url, here).stdout == "2\n"
    assert read_labels(here) == {}
    assert upnext("pull", url, here, "3", "stable").stdout == "2\n3\n"
    moved = upnext("pull", url, here, "--labels")
    assert (moved.status, moved.stdout) == (0, "")
    assert moved.stderr.splitlines()[-1] == "stable: nothing → 2"
    assert (read_labels(here), list_releases(here)) == ({"stable": 2}, [2, 3])


def test_labels_move_on_storage_with_the_verbs_of_a_registry(
    upnext: Upnext, registry: Path, url: str, tmp_path: Path
) -> None:
    upnext("push", registry, url)
    assert upnext("label", url, "stable", 1, "--reason", "first").stderr == "stable: nothing → 1\n"
    assert upnext("label", url, "stable", 2, "--expected-previous", "none").status == 1
    assert upnext("label", url, "stable", 2, "--expected-previous", 1).status == 0
    assert upnext("label", url, "stable", 4).status == 1
    assert upnext("rollback", url, "stable").stderr == "stable: 2 → 1\n"
    upnext("pull", url, tmp_path / "here", "--labels")
    assert [move.reason for move in read_moves(tmp_path / "here")] == ["first", "", ""]


def test_what_is_wrong_is_told_without_a_trace(
    upnext: Upnext, registry: Path, url: str, tmp_path: Path
) -> None:
    told = upnext("pull", url, tmp_path / "here", "1")
    assert told.status == 1
    assert "published: nothing yet" in upnext("label", url, "stable", 1).stderr
    for wrong in ("s3://key:a-secret@bucket", "elsewhere"):
        told = upnext("push", registry, wrong)
        assert told.status == 2
        assert "secret" not in told.stderr
