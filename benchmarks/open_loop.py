"""Asks a server for recommendations at a rate that does not wait for its answers.

    python -m benchmarks.open_loop http://127.0.0.1:8080 --users USERS.txt --rate 100 --seconds 20

Arrivals are a Poisson process: gaps are exponential, drawn beforehand from a seed, and a request is
due when it is due, however slow the answers before it were. Its latency counts from that moment, so
that a server which stalls is charged for everybody who came meanwhile (else: coordinated omission).
Connections are kept alive; where all are busy, another one is opened.

One thread, plain sockets and epoll, so that little of the machine, which the server shares, goes
into asking: what it took is told as CPU milliseconds a request. It goes before all other processes
where it may, so that a busy machine does not make it late. USERS.txt holds an id a line.
`--records FILE.npy` keeps a line for each request: see `RECORD`. SIGTERM ends a run early: what was
asked is still waited for and told.
"""

import argparse
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from benchmarks.load_report import Records, summary_of
from numpy.typing import NDArray

RECORD = np.dtype(
    [
        ("scheduled_s", np.float64),
        ("sent_s", np.float64),
        ("done_s", np.float64),
        ("status", np.int16),
        ("release", np.int32),
        ("user", np.int32),
        ("page", np.uint32),
        ("is_right", np.bool_),
        ("is_degraded", np.bool_),
    ]
)
"""Times are those of the monotonic clock, the same for all processes of a machine. `status`: 0
where no answer came. `page`: a checksum of the item ids. `is_right`: 200, as many items as asked
for, the label asked for, and one release in header and body. `is_degraded`: the answer itself says
that it is less than it could be."""

NO_ANSWER = 0
MOST_CONNECTIONS = 4_000
RECEIVED_AT_ONCE = 1 << 18
KEPT_IDLE_S = 3.0
"""Servers close what was idle for longer, some of them after 5 s, maybe just as we ask again."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked for, how often, by whom."""

    url: str
    rate: float
    """Requests a second, on average."""
    seconds: float
    k: int = 20
    zipf: float = 0.0
    """Users are drawn with a probability proportional to rank^-zipf; 0 draws all alike."""
    at_ms: int | None = None
    """The moment that requests tell, so that pages do not change with time; None tells none."""
    label: str | None = None
    unlogged: bool = False
    """Whether pages are asked for that do not count as shown, so that one leaves the next alone."""
    path: str = "/v1/recommendations"
    give_up_after_s: float = 10.0
    """An answer that took longer counts as none."""
    seed: int = 0


class _Item(msgspec.Struct):
    item_id: str | int


class _Answer(msgspec.Struct):
    items: list[_Item]
    release: str
    label: str | None = None
    degraded: list[str] = []


@dataclass(slots=True, eq=False)
class _Connection:
    stream: socket.socket
    request: int = -1
    is_writable: bool = False
    unsent: bytes = b""
    received: bytearray = field(default_factory=bytearray)
    idle_since_s: float = 0.0


def main() -> None:
    """Prints a summary as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--users", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--warm-up-s", type=float, default=0.0)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--zipf", type=float, default=0.0)
    parser.add_argument("--at-ms", type=int)
    parser.add_argument("--label")
    parser.add_argument("--unlogged", action="store_true")
    parser.add_argument("--path", default="/v1/recommendations")
    parser.add_argument("--give-up-after-s", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", type=Path)
    given = vars(parser.parse_args())
    users, kept = given.pop("users").read_text().split("\n"), given.pop("records")
    warm_up_s = given.pop("warm_up_s")
    load = Load(**given)
    hurry()
    began_cpu_s = time.process_time()
    records = ask(load, [user for user in users if user])
    cpu_ms = 1e3 * (time.process_time() - began_cpu_s) / max(1, len(records))
    if kept is not None:
        np.save(kept, records)
    told = asdict(summary_of(records, warm_up_s=warm_up_s))
    json.dump(told | {"generator_cpu_ms": round(cpu_ms, 4)}, sys.stdout)
    print()


def hurry() -> None:
    """Lets this process go first where that is allowed: clients do not wait for a server's CPU."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def ask(load: Load, users: Sequence[str]) -> Records:
    """Asks for as long as told, waits for the last answers, and returns a `RECORD` a request."""
    rng = np.random.default_rng(load.seed)
    due_s = arrivals(load.rate, load.seconds, rng)
    drawn = draw_users(len(users), len(due_s), load.zipf, rng)
    generator = _Generator(load, users, drawn, due_s)
    signal.signal(signal.SIGTERM, lambda *_: generator.stop())
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return generator.run()
    finally:
        gc.enable()
        gc.unfreeze()


def arrivals(rate: float, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Moments of a Poisson process, from 0 on, ascending."""
    expected = rate * seconds
    gaps_s = rng.exponential(1 / rate, int(expected + 6 * expected**0.5 + 10))
    due_s = np.cumsum(gaps_s)
    return due_s[due_s < seconds]


def draw_users(
    num_users: int, count: int, zipf: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Who asks: positions in the list of users, whose order says nothing of how often one asks."""
    shares = np.arange(1, num_users + 1) ** -zipf
    ranked: NDArray[np.int64] = rng.choice(num_users, count, p=shares / shares.sum())
    return rng.permutation(num_users)[ranked]


def request_bytes(load: Load, user: str) -> bytes:
    """One whole HTTP request."""
    asked: dict[str, Any] = {"user_id": user, "k": load.k}
    asked |= {} if load.at_ms is None else {"at_ms": load.at_ms}
    asked |= {} if load.label is None else {"label": load.label}
    asked |= {"is_logged": False} if load.unlogged else {}
    body = json.dumps(asked).encode()
    head = (
        f"POST {load.path} HTTP/1.1\r\nHost: {urlsplit(load.url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Generator:
    """One run; every method but `run` handles one event."""

    def __init__(
        self,
        load: Load,
        users: Sequence[str],
        drawn: NDArray[np.int64],
        due_s: NDArray[np.float64],
    ) -> None:
        self._load = load
        where = urlsplit(load.url)
        self._address = (where.hostname or "127.0.0.1", where.port or 80)
        self._asked = {user: request_bytes(load, users[user]) for user in set(drawn.tolist())}
        self._users = drawn.tolist()
        self._due_s = due_s
        self._records: Records = np.zeros(len(due_s), RECORD)
        self._records["user"] = drawn
        self._connections: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._waiting: deque[int] = deque()
        self._under_way: dict[int, _Connection] = {}
        self._epoll = select.epoll()
        self._is_stopped = False

    def stop(self) -> None:
        """Nothing more is asked."""
        self._is_stopped = True

    def run(self) -> Records:
        """Asks until all is answered, or given up."""
        began_s = time.perf_counter() + 0.05
        due = (began_s + self._due_s).tolist()
        self._records["scheduled_s"] = due
        next_up = 0
        while next_up < len(due) or self._under_way or self._waiting:
            now = time.perf_counter()
            if self._is_stopped:
                del due[next_up:]
            while next_up < len(due) and due[next_up] <= now:
                self._start(next_up)
                next_up += 1
            self._give_up(now)
            until_due_s = 0.1
            if next_up < len(due):
                until_due_s = min(until_due_s, due[next_up] - time.perf_counter())
            # epoll counts in milliseconds, select in microseconds.
            if select.select([self._epoll], [], [], max(0.0, until_due_s))[0]:
                for number, event in self._epoll.poll(0):
                    self._on_event(self._connections[number], event)
        for connection in list(self._connections.values()):
            self._close(connection)
        self._epoll.close()
        return self._records[: len(due)]

    def _start(self, request: int) -> None:
        while self._idle and time.perf_counter() - self._idle[-1].idle_since_s > KEPT_IDLE_S:
            self._close(self._idle[-1])
        if self._idle:
            connection = self._idle.pop()
        elif len(self._connections) < MOST_CONNECTIONS:
            connection = self._connect()
        else:
            self._waiting.append(request)
            return
        connection.request = request
        connection.unsent = self._asked[self._users[request]]
        self._under_way[request] = connection
        self._records["sent_s"][request] = time.perf_counter()
        if connection.is_writable:
            self._send(connection)

    def _connect(self) -> _Connection:
        stream = socket.socket(socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET)
        stream.setblocking(False)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.connect_ex(self._address)
        connection = self._connections[stream.fileno()] = _Connection(stream)
        self._epoll.register(stream.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return connection

    def _send(self, connection: _Connection) -> None:
        try:
            num_sent = connection.stream.send(connection.unsent)
        except BlockingIOError:
            num_sent = 0
        except OSError:
            self._fail(connection)
            return
        connection.unsent = connection.unsent[num_sent:]
        if connection.unsent and connection.is_writable:
            connection.is_writable = False
            self._epoll.modify(connection.stream.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _on_event(self, connection: _Connection, event: int) -> None:
        if event & select.EPOLLOUT:
            connection.is_writable = True
            self._epoll.modify(connection.stream.fileno(), select.EPOLLIN)
            if connection.unsent:
                self._send(connection)
        is_open = connection.stream.fileno() >= 0
        if is_open and event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            part = connection.stream.recv(RECEIVED_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._fail(connection)
            return
        received = connection.received
        received += part
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(received[:end]).lower()
        size = header_in(head, b"content-length")
        if len(received) - end - 4 < int(size or 0):
            return
        self._done(connection, head, bytes(received[end + 4 :]))

    def _done(self, connection: _Connection, head: bytes, body: bytes) -> None:
        record = self._records[connection.request]
        record["done_s"] = time.perf_counter()
        record["status"] = status = int(head[9:12])
        self._under_way.pop(connection.request, None)
        if b"connection: close" in head:
            self._close(connection)
        else:
            connection.request, connection.idle_since_s = -1, time.perf_counter()
            connection.received.clear()
            self._idle.append(connection)
        if status == 200:
            self._check(record, head, body)
        if self._waiting:
            self._start(self._waiting.popleft())

    def _check(self, record: Any, head: bytes, body: bytes) -> None:
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except msgspec.DecodeError:
            return
        told = header_in(head, b"x-upnext-release")
        record["release"] = int(answer.release)
        record["page"] = page_checksum([item.item_id for item in answer.items])
        record["is_degraded"] = bool(answer.degraded)
        record["is_right"] = (
            len(answer.items) == self._load.k
            and (told is None or told.decode() == answer.release)
            and answer.label in (None, self._load.label or "stable")
        )

    def _give_up(self, now: float) -> None:
        while self._under_way:
            request, connection = next(iter(self._under_way.items()))  # the oldest
            if now - self._records["sent_s"][request] <= self._load.give_up_after_s:
                return
            self._fail(connection)

    def _fail(self, connection: _Connection) -> None:
        request = connection.request
        self._close(connection)
        if request >= 0:
            self._records["done_s"][request] = time.perf_counter()
            self._records["status"][request] = NO_ANSWER
            self._under_way.pop(request, None)

    def _close(self, connection: _Connection) -> None:
        self._epoll.unregister(connection.stream.fileno())
        del self._connections[connection.stream.fileno()]
        connection.stream.close()
        if connection in self._idle:
            self._idle.remove(connection)


def page_checksum(item_ids: Sequence[str | int]) -> int:
    """A number that tells pages apart: of the item ids in their order."""
    return zlib.crc32("\n".join(map(str, item_ids)).encode())


def header_in(head: bytes, name: bytes) -> bytes | None:
    """A header's value; the head is all in small letters."""
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return None
    begin = at + len(name) + 3
    end = head.find(b"\r\n", begin)
    return head[begin : end if end >= 0 else None].strip()


if __name__ == "__main__":
    main()
