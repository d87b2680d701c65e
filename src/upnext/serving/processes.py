"""Several server processes behind one port: started, watched and ended together.

The first process listens, and hands its sockets to the others, which accept from them in turn; it
answers nothing itself. A process that ends unasked is started again. Told to end, it tells the
others, and each finishes what it has accepted.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from prometheus_client import multiprocess

from upnext.errors import ConfigError

LISTENERS = "UPNEXT_LISTENERS"
"""Environment of a process that was started here: the descriptors of its sockets."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Each process has a core to itself; helpers of its libraries would only take others'."""
LOOK_EVERY_S = 0.05
TOO_SOON_S = 5.0
MAX_SOON_ENDED = 5
"""A process that ends so often, each time so soon, will not get better by itself."""

Say = Callable[[str], None]


def inherited_listeners() -> list[socket.socket]:
    """The sockets that this process was started with; none if it is the first.

    A process that was started here ends when the first one does, however that came about.
    """
    told = os.environ.get(LISTENERS, "")
    if told:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    return [socket.socket(fileno=int(number)) for number in told.split(",") if number]


def run_processes(
    command: Sequence[str],
    listeners: Sequence[socket.socket],
    num_processes: int,
    *,
    graceful_s: float,
    say: Say,
) -> None:
    """Runs a command so many times with these sockets, until told to end by a signal.

    Args:
        graceful_s: how long each may take to finish; then it is killed.

    Raises: ConfigError: the command ends by itself again and again.
    """
    told_to_end = threading.Event()
    with tempfile.TemporaryDirectory(prefix="upnext-metrics-") as metrics, _told(told_to_end):
        start = _starter(command, listeners, metrics)
        processes = [start() for _ in range(num_processes)]
        try:
            _watch(processes, start, told_to_end, say)
        finally:
            _end(processes, graceful_s)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _watch(
    processes: list[subprocess.Popen[bytes]],
    start: Callable[[], subprocess.Popen[bytes]],
    told_to_end: threading.Event,
    say: Say,
) -> None:
    started_s = [time.monotonic()] * len(processes)
    num_soon = 0
    while not told_to_end.wait(LOOK_EVERY_S):
        for place, process in enumerate(processes):
            status = process.poll()
            if status is None:
                continue
            multiprocess.mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
            ended_soon = time.monotonic() - started_s[place] < TOO_SOON_S
            num_soon = num_soon + 1 if ended_soon else 0
            if num_soon > MAX_SOON_ENDED:
                got = f"status {status}, {num_soon} times in a row"
                raise ConfigError("server process", expected="to stay up", got=got)
            say(f"server process {process.pid} ended with status {status}: starting another")
            processes[place], started_s[place] = start(), time.monotonic()


def _starter(
    command: Sequence[str], listeners: Sequence[socket.socket], metrics: str
) -> Callable[[], subprocess.Popen[bytes]]:
    descriptors = [listener.fileno() for listener in listeners]
    environment = {
        **os.environ,
        **ONE_THREAD,
        LISTENERS: ",".join(map(str, descriptors)),
        "PROMETHEUS_MULTIPROC_DIR": metrics,
    }
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics  # where the ends of processes are marked
    return lambda: subprocess.Popen(command, env=environment, pass_fds=descriptors)


def _end(processes: Sequence[subprocess.Popen[bytes]], graceful_s: float) -> None:
    for process in processes:
        process.terminate()
    by_s = time.monotonic() + graceful_s
    for process in processes:
        try:
            process.wait(max(0.0, by_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _told(told_to_end: threading.Event) -> Iterator[None]:
    """Sets the event when this process is asked to end, by a signal or from the keyboard."""

    def tell(_number: int, _frame: FrameType | None) -> None:
        told_to_end.set()

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
