"""Real processes: labels move over several servers, whoever is killed on the way."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.patience import SOON_S
from tests.serving.killing import Server, kill_again_and_again, mover, servers

from upnext.errors import ReleaseError
from upnext.registry import moves
from upnext.registry.labels import append_move, read_labels, read_moves
from upnext.registry.moves import NotFollowedError, move_label, rollback
from upnext.registry.release import publish
from upnext.registry.servers import read_servers, servers_path

NUM_RELEASES = 4


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").write_text("whole", encoding="utf-8")
    return {}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    registry = tmp_path / "registry"
    for _ in range(NUM_RELEASES):
        publish(registry, _write)
    move_label(registry, "stable", 1)
    return registry


@pytest.fixture
def two(registry: Path, tmp_path: Path) -> Iterator[list[Server]]:
    with servers(registry, 2, tmp_path) as running:
        yield running


def test_no_answer_begins_on_the_old_release_after_a_move_returned(
    registry: Path, two: list[Server]
) -> None:
    stays: list[tuple[int, int, int]] = []
    for version in (2, 3, 4, 3):
        began_ns = time.monotonic_ns()
        goes_back = version == 3 and len(stays) == 3
        moved = (
            rollback(registry, "stable") if goes_back else move_label(registry, "stable", version)
        )
        assert "followed by 2 server(s)" in moved.steps[-1].what
        stays.append((began_ns, time.monotonic_ns(), moved.move.to_version))
    for server in two:
        _wait_for_answers(server, since_ns=stays[-1][1])
        began = server.began()
        for (_, since_ns, version), (until_ns, _, _) in zip(
            stays, [*stays[1:], (2**63, 0, 0)], strict=True
        ):
            assert {there for at, there in began if since_ns < at < until_ns} <= {version}


def _wait_for_answers(server: Server, *, since_ns: int) -> None:
    give_up_s = time.monotonic() + SOON_S
    while not any(at > since_ns for at, _ in server.began()):
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_a_damaged_release_is_refused_and_the_old_one_serves_on(
    registry: Path, two: list[Server]
) -> None:
    path = registry / "releases/2/a.txt"
    path.chmod(0o644)
    path.write_text("whale", encoding="utf-8")
    with pytest.raises(ReleaseError, match=r"a\.txt"):
        move_label(registry, "stable", 2)
    for server in two:
        now_ns = time.monotonic_ns()
        _wait_for_answers(server, since_ns=now_ns)
        assert {version for _, version in server.began()} == {1}


def test_a_dead_server_is_not_waited_for_and_its_leftovers_go(
    registry: Path, two: list[Server]
) -> None:
    two[0].kill()
    moved = move_label(registry, "stable", 2)
    assert "followed by 1 server(s)" in moved.steps[-1].what
    assert [one.pid for one in read_servers(registry)] == [two[1].process.pid]
    names = {path.name for path in servers_path(registry).iterdir()}
    assert [name for name in names if name.startswith(f"{two[0].process.pid}-")] == []


def test_a_server_that_stands_still_keeps_labels_where_they_are(
    registry: Path, two: list[Server]
) -> None:
    os.kill(two[0].process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ReleaseError, match=f"server {two[0].process.pid} has not heard"):
            move_label(registry, "stable", 2, load_timeout_s=3.0)
        assert read_labels(registry) == {"stable": 1}
    finally:
        os.kill(two[0].process.pid, signal.SIGCONT)


def test_a_server_that_stops_between_ready_and_followed_is_named(
    registry: Path, two: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, other = two[0].process.pid, two[1].process.pid

    def append_and_stop(*arguments: Any, **more: Any) -> Any:
        os.kill(stopped, signal.SIGSTOP)
        return append_move(*arguments, **more)

    monkeypatch.setattr(moves, "append_move", append_and_stop)
    monkeypatch.setattr(moves, "FOLLOW_TIMEOUT_S", 4.0)
    try:
        with pytest.raises(NotFollowedError, match=f"server {stopped} answers from 1") as told:
            move_label(registry, "stable", 2)
        assert f"server {other}" not in str(told.value)
        assert read_labels(registry) == {"stable": 2}
    finally:
        os.kill(stopped, signal.SIGCONT)


def test_of_two_movers_who_expect_the_same_one_wins(registry: Path, two: list[Server]) -> None:
    del two
    num_moves = len(read_moves(registry))
    with (
        mover(registry, "stable", 2, expected_previous=1) as first,
        mover(registry, "stable", 3, expected_previous=1) as second,
    ):
        told = [one.communicate(timeout=60)[1] for one in (first, second)]
    assert sorted(one.returncode for one in (first, second)) == [0, 1]
    assert ["expected version 1" in text for text in sorted(told)] == [False, True]
    assert len(read_moves(registry)) == num_moves + 1
    assert read_labels(registry) == {"stable": 2 if first.returncode == 0 else 3}


@pytest.mark.parametrize("seed", [1])
def test_whoever_is_killed_a_label_is_old_or_new_and_servers_start_again(
    registry: Path, tmp_path: Path, seed: int
) -> None:
    rounds = kill_again_and_again(registry, range(1, 5), tmp_path, num_rounds=12, seed=seed)
    assert {one.killed for one in rounds} == {"a server", "the mover"}
    assert {one.after == one.asked for one in rounds} == {True, False}
