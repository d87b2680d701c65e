"""Server processes and movers that are killed in the middle of what they do, again and again.

A benchmark calls `kill_again_and_again` with more rounds than a test has time for.
"""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.patience import SOON_S

from upnext.registry.labels import read_labels, read_moves
from upnext.registry.servers import read_servers

SERVE = """
import sys, threading, time
from pathlib import Path
from upnext.registry.release import open_release
from upnext.schema import Recommendations
from upnext.serving.following import Following
from upnext.serving.releases import LiveReleases, NotServedError

class Fake:
    def __init__(self, version):
        open_release(registry, version)
        self.release = str(version)
        self.num_tried = 0

    def recommend(self, request):
        return Recommendations(items=[], release=self.release, num_candidates=0, timings_ms={})

    def let_go(self):
        pass

def answer():
    while True:
        try:
            with live.acquire("stable") as route:
                began_ns = time.monotonic_ns()
                answers.write(f"{began_ns} {route.version}\\n")
        except NotServedError:
            pass
        time.sleep(0.001)

registry = Path(sys.argv[1])
live = LiveReleases(Fake)
with Following(live, registry) as following, open(sys.argv[2], "w", buffering=1) as answers:
    following.wait()
    threading.Thread(target=answer, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
"""
"""A server that answers all the time, and writes down when each answer began and from where."""

MOVE = """
import json, sys
from pathlib import Path
from upnext.errors import ReleaseError
from upnext.registry.moves import move_label

registry, label = Path(sys.argv[1]), sys.argv[2]
print("moving", flush=True)
try:
    expected = int(sys.argv[4]) if sys.argv[4:] else "any"
    moved = move_label(registry, label, int(sys.argv[3]), expected_previous=expected)
except ReleaseError as error:
    sys.exit(str(error))
print(json.dumps(moved.move.to_version), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one kill came to: who was killed, where the label stood before and afterwards."""

    killed: str
    before: int
    asked: int
    after: int
    was_acknowledged: bool


@dataclass
class Server:
    """A server process, and the file of its answers."""

    process: subprocess.Popen[str]
    answers: Path

    def began(self) -> list[tuple[int, int]]:
        """When each answer began, on the clock of `time.monotonic_ns`, and on which version."""
        lines = self.answers.read_text(encoding="utf-8").split("\n")[:-1]
        return [(int(at), int(version)) for at, version in map(str.split, lines)]

    def kill(self) -> None:
        """As the system does when memory runs out: without a word."""
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def servers(registry: Path, num_servers: int, directory: Path) -> Iterator[list[Server]]:
    """Some server processes that have followed their labels; killed in the end."""
    running = [start_server(registry, directory) for _ in range(num_servers)]
    try:
        yield running
    finally:
        for server in running:
            server.kill()


def start_server(registry: Path, directory: Path) -> Server:
    """One server process, once it is ready."""
    answers = directory / f"answers-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(registry), str(answers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return Server(process, answers)


@contextlib.contextmanager
def mover(
    registry: Path, label: str, where: int, *, expected_previous: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process that moves a label, from the moment on when it begins to."""
    expected = [] if expected_previous is None else [str(expected_previous)]
    with subprocess.Popen(
        [sys.executable, "-c", MOVE, str(registry), label, str(where), *expected],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "moving\n"
        try:
            yield process
        finally:
            process.kill()


def kill_again_and_again(
    registry: Path,
    versions: Sequence[int],
    directory: Path,
    *,
    num_rounds: int,
    seed: int,
    num_servers: int = 2,
    on_round: Callable[[Round], None] = lambda _: None,
) -> list[Round]:
    """In each round a label moves, and a server or the mover is killed at some moment of it.

    Raises AssertionError: the label stands neither where it stood nor where it was to go, an
    acknowledged move is lost, a living server does not come to answer from where the label stands,
    an answer began on the old release after the acknowledgement, or a server does not start anew.
    """
    chance = random.Random(seed)
    rounds = []
    with servers(registry, num_servers, directory) as running:
        for _ in range(num_rounds):
            before = read_labels(registry)["stable"]
            asked = chance.choice([version for version in versions if version != before])
            killed = chance.choice(["a server", "the mover", "the mover"])
            num_moves = len(read_moves(registry))
            with mover(registry, "stable", asked) as moving:
                time.sleep(chance.uniform(0, 0.2))
                if killed == "a server":
                    place = chance.randrange(len(running))
                    running[place].kill()
                    said, told = moving.communicate(timeout=SOON_S)
                    assert moving.returncode == 0, told
                    assert json.loads(said) == asked
                    acknowledged_ns = time.monotonic_ns()
                    running[place] = start_server(registry, directory)
                else:
                    moving.send_signal(signal.SIGKILL)
                    said, _ = moving.communicate(timeout=SOON_S)
                    acknowledged_ns = time.monotonic_ns()
            after = read_labels(registry)["stable"]
            assert after in (before, asked)
            assert len(read_moves(registry)) - num_moves == (after != before)
            was_acknowledged = said.strip() != ""
            if was_acknowledged:
                assert after == asked
                _require_none_began_elsewhere(running, asked, acknowledged_ns)
            _wait_until_all_answer_from(registry, running, after)
            done = Round(
                killed=killed,
                before=before,
                asked=asked,
                after=after,
                was_acknowledged=was_acknowledged,
            )
            rounds.append(done)
            on_round(done)
    return rounds


def _require_none_began_elsewhere(running: Sequence[Server], version: int, since_ns: int) -> None:
    late = [
        (at_ns - since_ns, there)
        for server in running
        for at_ns, there in server.began()
        if at_ns > since_ns and there != version
    ]
    assert late == [], "answers began on another release after the acknowledgement"


def _wait_until_all_answer_from(registry: Path, running: Sequence[Server], version: int) -> None:
    give_up_s = time.monotonic() + SOON_S
    pids = {server.process.pid for server in running}
    while True:
        there = {one.pid: one.labels.get("stable") for one in read_servers(registry)}
        if there == dict.fromkeys(pids, version):
            return
        assert time.monotonic() < give_up_s, (there, version)
        time.sleep(0.01)
