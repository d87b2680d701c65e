"""A living server is told from a dead one's leftovers, and asks are kept apart."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upnext.errors import ReleaseError
from upnext.registry.servers import (
    Ask,
    HeldRelease,
    Presence,
    ask_for,
    moving,
    read_servers,
    read_wanted,
    servers_path,
    take_back,
    take_back_lasting,
)

JOIN_AND_DIE = """
import os, sys
from pathlib import Path
from upnext.registry.servers import Presence

presence = Presence.join(Path(sys.argv[1]))
if sys.argv[2] == "die":
    os._exit(9)
print("joined", flush=True)
sys.stdin.read()
"""


def _names(registry: Path) -> list[str]:
    return sorted(path.name for path in servers_path(registry).iterdir())


def test_a_server_is_seen_while_it_is_there(tmp_path: Path) -> None:
    assert read_servers(tmp_path) == []
    presence = Presence.join(tmp_path)
    assert read_servers(tmp_path) == [presence.status]
    held = HeldRelease(version=3, state="failed", cause="it is damaged: naïve")
    told = replace(presence.status, releases=(held,), labels={"stable": 2}, followed={"stable": 7})
    presence.tell(told)
    assert read_servers(tmp_path) == [told]
    assert told.release(3) == held
    assert told.release(4) is None
    presence.leave()
    assert read_servers(tmp_path) == []
    assert _names(tmp_path) == ["lock"]


def test_servers_are_listed_oldest_first(tmp_path: Path) -> None:
    joined = [Presence.join(tmp_path) for _ in range(3)]
    assert {one.server for one in read_servers(tmp_path)} == {one.status.server for one in joined}
    times_ms = [one.started_at_ms for one in read_servers(tmp_path)]
    assert times_ms == sorted(times_ms)
    for one in joined:
        one.leave()


def test_what_a_dead_server_left_behind_is_cleared_away(tmp_path: Path) -> None:
    command = [sys.executable, "-c", JOIN_AND_DIE, str(tmp_path)]
    assert subprocess.run([*command, "die"], check=False).returncode == 9
    assert len(_names(tmp_path)) == 3
    assert read_servers(tmp_path) == []
    assert _names(tmp_path) == ["lock"]


def test_another_process_is_living_until_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", JOIN_AND_DIE, str(tmp_path), "live"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
        assert [one.pid for one in read_servers(tmp_path)] == [process.pid]
        process.kill()
        process.wait()
        assert read_servers(tmp_path) == []


def test_many_who_look_at_once_take_nobody_living_for_dead(tmp_path: Path) -> None:
    presence = Presence.join(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda _: len(read_servers(tmp_path)), range(200)))
        joined = list(threads.map(lambda _: Presence.join(tmp_path), range(16)))
    assert set(seen) == {1}
    assert len(read_servers(tmp_path)) == 17
    for one in [presence, *joined]:
        one.leave()


def test_a_registry_that_is_not_there_is_no_place_to_meet(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="a registry that can be written to"):
        Presence.join(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    assert read_servers(tmp_path / "nowhere") == []


def test_asks_end_each_by_itself(tmp_path: Path) -> None:
    lasting, moved = ask_for(tmp_path, 8), ask_for(tmp_path, 8, until_ms=2**60)
    other = ask_for(tmp_path, 9, until_ms=2**60)
    assert [one.number for one in (lasting, moved, other)] == [1, 2, 3]
    take_back(tmp_path, moved)
    assert read_wanted(tmp_path).versions(0) == {8, 9}
    with moving(tmp_path):
        assert take_back_lasting(tmp_path, 8)
        assert not take_back_lasting(tmp_path, 9)
    assert read_wanted(tmp_path).versions(0) == {9}
    assert ask_for(tmp_path, 8).number == 4


def test_an_ask_lapses_with_whoever_asked(tmp_path: Path) -> None:
    far_ms = 2**60
    ask_for(tmp_path, 8, until_ms=far_ms)
    assert read_wanted(tmp_path).versions(far_ms - 1) == {8}
    assert read_wanted(tmp_path).versions(far_ms) == set()
    ask_for(tmp_path, 8, until_ms=1_000)
    ask_for(tmp_path, 9)
    assert [one.version for one in read_wanted(tmp_path).asks] == [8, 9]


def test_damaged_asks_are_told_with_a_way_out(tmp_path: Path) -> None:
    ask_for(tmp_path, 8)
    path = servers_path(tmp_path) / "wanted.json"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ReleaseError, match="delete it"):
        read_wanted(tmp_path)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.tuples(st.sampled_from(["ask", "back"]), st.integers(1, 3)), max_size=12))
def test_asks_behave_like_a_list(tmp_path: Path, steps: list[tuple[str, int]]) -> None:
    (servers_path(tmp_path) / "wanted.json").unlink(missing_ok=True)
    standing: list[Ask] = []
    for step, number in steps:
        if step == "ask":
            standing.append(ask_for(tmp_path, number))
        elif standing:
            take_back(tmp_path, standing.pop(number % len(standing)))
        assert read_wanted(tmp_path).asks == tuple(standing)


def test_who_may_only_read_sees_servers_and_clears_nothing(tmp_path: Path) -> None:
    presence = Presence.join(tmp_path)
    servers_path(tmp_path).chmod(0o555)
    try:
        assert [one.pid for one in read_servers(tmp_path)] == [os.getpid()]
    finally:
        servers_path(tmp_path).chmod(0o755)
        presence.leave()
