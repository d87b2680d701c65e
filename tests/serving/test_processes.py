"""Real processes: they share a port, are started again when they die, and end together."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.patience import SOON_S

# Answers each connection with its own process id, one after another. Two end at once, so each says
# so in one write.
WORKER = """
import os, signal, socket, sys
from upnext.serving.processes import inherited_listeners
[listener] = inherited_listeners()
listener.settimeout(None)
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"ended\\n"), os._exit(0)))
while True:
    connection, _ = listener.accept()
    threads = os.environ["OMP_NUM_THREADS"]
    connection.sendall(f"{os.getpid()} {threads}".encode())
    connection.close()
"""
FIRST = """
import socket, sys
from upnext.serving.processes import run_processes
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
command = [sys.executable, "-c", sys.argv[1]]
run_processes(command, [listener], 2, graceful_s=5.0, say=lambda text: print(text, flush=True))
print("all ended", flush=True)
"""


class Served:
    def __init__(self, worker: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(FIRST), textwrap.dedent(worker)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def ask(self) -> int | None:
        """Who answered; None if he was killed between accepting and answering."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=SOON_S) as connection,
            contextlib.suppress(ConnectionResetError),
        ):
            if answer := connection.recv(100).decode():
                pid, threads = answer.split()
                assert threads == "1"
                return int(pid)
        return None

    def all_pids(self, count: int) -> set[int]:
        by_s = time.monotonic() + SOON_S
        pids: set[int] = set()
        while len(pids) < count and time.monotonic() < by_s:
            pid = self.ask()
            assert pid is not None
            pids.add(pid)
        return pids


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served(WORKER)
    yield served
    served.process.kill()
    served.process.communicate(timeout=SOON_S)


def test_two_processes_answer_on_one_port_and_end_together(served: Served) -> None:
    pids = served.all_pids(2)
    assert len(pids) == 2
    served.process.send_signal(signal.SIGTERM)
    said, complaints = served.process.communicate(timeout=SOON_S)
    assert said.splitlines() == ["ended", "ended", "all ended"]
    assert (served.process.returncode, complaints) == (0, "")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_process_that_is_killed_is_started_again(served: Served) -> None:
    before = served.all_pids(2)
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    by_s = time.monotonic() + SOON_S
    while served.ask() in {*before, victim, None}:
        assert time.monotonic() < by_s


def test_without_the_first_process_the_others_end_too(served: Served) -> None:
    pids = served.all_pids(2)
    served.process.kill()
    served.process.communicate(timeout=SOON_S)
    by_s = time.monotonic() + SOON_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < by_s
        time.sleep(0.01)


def test_processes_that_never_stay_up_are_given_up() -> None:
    served = Served("raise SystemExit(3)")
    said, complaints = served.process.communicate(timeout=SOON_S)
    assert served.process.returncode == 1
    assert "expected to stay up, got status 3" in complaints
    assert said.count("ended with status 3") == 5
