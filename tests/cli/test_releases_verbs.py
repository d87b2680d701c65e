"""Labels from the command line while servers run: what was done is told, step by step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.serving.killing import servers

from upnext.registry.labels import read_labels, read_moves
from upnext.registry.release import publish

if TYPE_CHECKING:
    from tests.conftest import Upnext


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").touch()
    return {}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for _ in range(3):
        publish(tmp_path / "registry", _write)
    return tmp_path / "registry"


def test_a_move_over_two_servers_is_told_step_by_step(
    upnext: Upnext, registry: Path, tmp_path: Path
) -> None:
    with servers(registry, 2, tmp_path) as running:
        moved = upnext("label", registry, "stable", 2, "--reason", "better")
        assert moved.status == 0, moved.stderr
        said = [re.sub(r"^ +[0-9.]+ s  ", "", line) for line in moved.stderr.splitlines()]
        pids = sorted(server.process.pid for server in running)
        assert said[0] == "release 2: every file is as it was published"
        assert sorted(said[1:3]) == [
            line for pid in pids for line in said if line.startswith(f"server {pid}: release 2")
        ]
        assert re.fullmatch(r"label stable: nothing → 2 at \S+Z", said[3])
        assert re.fullmatch(r"followed by 2 server\(s\) in 0\.\d+ s", said[4])
        assert said[5] == "stable: nothing → 2"

        assert upnext("load", registry, 3).status == 0
        listed = upnext("releases", registry, "--json").json
        assert [sorted(one["pid"] for one in row["servers"]) for row in listed] == [[], pids, pids]
        assert f"{pids[0]} ready" in upnext("releases", registry).stdout
        assert upnext("unload", registry, 2).status == 1
        assert upnext("unload", registry, 3).status == 0
        assert upnext("label", registry, "stable", 1).status == 0
        back = upnext("rollback", registry, "stable", "--expected-previous", 1)
        assert back.stderr.splitlines()[-1] == "stable: 1 → 2"
    assert all(move.actor for move in read_moves(registry))


def test_without_servers_a_load_is_kept_for_those_that_start(
    upnext: Upnext, registry: Path, tmp_path: Path
) -> None:
    assert upnext("load", registry, 3).status == 0
    assert upnext("label", registry, "stable", 1).status == 0
    with servers(registry, 1, tmp_path):
        # Ready by now or soon; a load of what is loaded waits for it.
        assert upnext("load", registry, 3).status == 0
        listed = upnext("releases", registry, "--json").json
        assert [[one["state"] for one in row["servers"]] for row in listed] == [
            ["ready"],
            [],
            ["ready"],
        ]


@pytest.mark.parametrize(
    ("expected", "status"), [("1", 0), ("none", 1), ("2", 1), ("first", 2), ("-1", 2)]
)
def test_a_move_happens_only_from_where_it_was_expected(
    upnext: Upnext, registry: Path, expected: str, status: int
) -> None:
    assert upnext("label", registry, "stable", 1, "--expected-previous", "none").status == 0
    moved = upnext("label", registry, "stable", 2, "--expected-previous", expected)
    assert moved.status == status, moved.stderr
    assert read_labels(registry) == {"stable": 2 if status == 0 else 1}


def test_a_damaged_release_is_listed_with_what_is_wrong(upnext: Upnext, registry: Path) -> None:
    path = registry / "releases/2/a.txt"
    path.chmod(0o644)
    path.write_text("x", encoding="utf-8")
    listed = upnext("releases", registry)
    assert listed.status == 0
    assert "releases/2/a.txt: expected 0 bytes, got 1." in listed.stderr
    assert "None" not in listed.stdout
    assert [one["problem"] == "" for one in upnext("releases", registry, "--json").json] == [
        True,
        False,
        True,
    ]
