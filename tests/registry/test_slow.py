"""Slow requests of all living servers are told as one list; a dead server's are gone."""

import subprocess
import sys
from pathlib import Path

import pytest

from upnext.errors import ReleaseError
from upnext.registry.servers import Presence, read_servers, servers_path
from upnext.registry.slow import (
    NUM_SLOWEST,
    PART_MS,
    WINDOW_S,
    SlowOfProcess,
    SlowRequest,
    read_slow,
    write_slow,
)

NOW_MS = 1_800_000_000_000
WINDOW_MS = round(WINDOW_S * 1e3)

TELL_AND_WAIT = """
import sys
from pathlib import Path
from upnext.registry.servers import Presence
from upnext.registry.slow import SlowOfProcess, write_slow

registry = Path(sys.argv[1])
presence = Presence.join(registry)
write_slow(registry, presence.status.server, SlowOfProcess(num_seen={{{at_ms}: 7}}, slow=[]))
print("told", flush=True)
sys.stdin.read()
"""


def _slow(took_ms: float, *, at_ms: int = NOW_MS, process: int = 1) -> SlowRequest:
    return SlowRequest(
        request_id=f"r{took_ms:g}",
        at_ms=at_ms,
        release="1",
        label="stable",
        took_ms=took_ms,
        timings_ms={"total": took_ms},
        degraded=(),
        k=10,
        num_candidates=300,
        process=process,
    )


def _tell(registry: Path, presence: Presence, *slow: SlowRequest, num_seen: int) -> None:
    told = SlowOfProcess(num_seen={NOW_MS - PART_MS: num_seen}, slow=slow)
    write_slow(registry, presence.status.server, told)


def test_what_two_servers_tell_is_merged_the_slowest_first(tmp_path: Path) -> None:
    assert read_slow(tmp_path, at_ms=NOW_MS).slow == []
    one, other, silent = (Presence.join(tmp_path) for _ in range(3))
    _tell(tmp_path, one, *(_slow(took_ms, process=1) for took_ms in range(0, 80, 2)), num_seen=400)
    _tell(tmp_path, other, *(_slow(took_ms, process=2) for took_ms in range(1, 80, 2)), num_seen=50)
    told = read_slow(tmp_path, at_ms=NOW_MS)
    assert [request.took_ms for request in told.slow] == list(range(79, 79 - NUM_SLOWEST, -1))
    assert [request.process for request in told.slow[:3]] == [2, 1, 2]
    assert (told.window_s, told.num_seen) == (WINDOW_S, 450)
    other.leave()
    told = read_slow(tmp_path, at_ms=NOW_MS)
    assert {request.process for request in told.slow} == {1}
    assert told.num_seen == 400
    for presence in (one, silent):
        presence.leave()
    assert [path.name for path in servers_path(tmp_path).iterdir()] == ["lock"]


def test_what_is_outside_the_window_is_not_told(tmp_path: Path) -> None:
    presence = Presence.join(tmp_path)
    times_ms = [NOW_MS - WINDOW_MS - 1, NOW_MS - WINDOW_MS, NOW_MS]
    starts_ms = [NOW_MS - WINDOW_MS - PART_MS, NOW_MS - WINDOW_MS - PART_MS + 1, NOW_MS]
    told = SlowOfProcess(
        num_seen=dict(zip(starts_ms, (1, 10, 100), strict=True)),
        slow=[_slow(place, at_ms=at_ms) for place, at_ms in enumerate(times_ms)],
    )
    write_slow(tmp_path, presence.status.server, told)
    seen = read_slow(tmp_path, at_ms=NOW_MS)
    assert [request.at_ms for request in seen.slow] == [NOW_MS, NOW_MS - WINDOW_MS]
    assert seen.num_seen == 110
    assert read_slow(tmp_path, at_ms=NOW_MS + 3 * WINDOW_MS).slow == []
    presence.leave()


def test_what_a_killed_server_told_goes_with_it(tmp_path: Path) -> None:
    own = Presence.join(tmp_path)
    _tell(tmp_path, own, _slow(5.0), num_seen=3)
    command = [sys.executable, "-c", TELL_AND_WAIT.format(at_ms=NOW_MS), str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        assert read_slow(tmp_path, at_ms=NOW_MS).num_seen == 10
        process.kill()
        process.wait()
        assert read_slow(tmp_path, at_ms=NOW_MS).num_seen == 3
    assert len(list(servers_path(tmp_path).glob("*.slow.json"))) == 1
    assert [one.server for one in read_servers(tmp_path)] == [own.status.server]
    own.leave()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"num_seen": {}}', b"\xff"])
def test_what_is_no_list_of_slow_requests_is_refused_by_its_name(
    tmp_path: Path, content: bytes
) -> None:
    presence = Presence.join(tmp_path)
    path = servers_path(tmp_path) / f"{presence.status.server}.slow.json"
    path.write_bytes(content)
    with pytest.raises(ReleaseError, match=r"\.slow\.json: expected slow requests"):
        read_slow(tmp_path, at_ms=NOW_MS)
    presence.leave()
