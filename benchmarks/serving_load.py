"""How many requests a second does upnext's server answer with p99 ≤ 30 ms, and how many a rival?

    python -m benchmarks.serving_load REGISTRY [--rival-python ENV/bin/python --rival-index FILE]

REGISTRY is one of `million_release`. The rival, `rivals/fastapi_torch_faiss.py`, wants an
environment that has fastapi and what upnext needs for training. Both run side by side, and only one
of them is asked at a time, in turns, so that what else the machine does meets both. In each round:
one connection that asks again as soon as it is answered; the highest rate of an open loop at which
p99 is within the limit, by bisection; and half that rate. The loop shares the machine's cores.
"""

import argparse
import contextlib
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from benchmarks.load_report import LIMIT_MS, highest_rate
from benchmarks.open_loop import (
    RECEIVED_AT_ONCE,
    Load,
    draw_users,
    header_in,
    request_bytes,
)
from benchmarks.serving_processes import (
    Served,
    free_port,
    linked_registry,
    measured,
    rival_command,
    running,
    upnext_command,
    write_users,
)

NUM_ALONE, NUM_ALONE_WARM_UP = 400, 100
FIRST_RATE, WARM_UP_S = 40.0, 3.0
NUM_FOR_P99, LONGEST_S = 400, 60.0
"""A run lasts until a 99th percentile means something, or so many seconds."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One server in one round; `rate` is the highest with p99 within the limit."""

    alone_p50_ms: float
    alone_p99_ms: float
    rate: float
    half_p50_ms: float
    half_p99_ms: float


def main() -> None:
    """Prints a Markdown table of each round and of ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--rival-python", type=Path)
    parser.add_argument("--rival-index", type=Path)
    parser.add_argument("--serve-options", default="", help="more for `upnext serve`, in one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--precision", type=float, default=0.05)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(dir=arguments.registry.parent)
        folder = Path(stack.enter_context(temporary))
        registry = linked_registry(arguments.registry, folder, [1])
        users, ports = write_users(registry, 1, folder / "users.txt"), [free_port(), free_port()]
        options = shlex.split(arguments.serve_options)
        commands = {"upnext": upnext_command(registry, ports[0], options)}
        if arguments.rival_python is not None:
            commands["rival"] = rival_command(
                arguments.rival_python, registry, arguments.rival_index, ports[1]
            )
        servers = {
            name: stack.enter_context(running(command, port))
            for (name, command), port in zip(commands.items(), ports, strict=False)
        }
        for name, server in servers.items():
            _say(f"{name}: ready after {server.started_in_s:.1f} s, {server.memory_mib():.0f} MiB")
        rounds: dict[str, list[Measured]] = {name: [] for name in servers}
        for number in range(arguments.rounds):
            order = list(servers) if number % 2 == 0 else list(servers)[::-1]
            for name in order:
                start = rounds[name][-1].rate if rounds[name] else FIRST_RATE
                one = measure(
                    servers[name],
                    users,
                    start=start or FIRST_RATE,
                    seconds=arguments.seconds,
                    precision=arguments.precision,
                )
                _say(f"round {number + 1}, {name}: {one}")
                rounds[name].append(one)
    print_table(rounds)


def measure(
    server: Served, users: Path, *, start: float, seconds: float, precision: float
) -> Measured:
    """One server's turn."""
    alone_ms = closed_loop_ms(server.url, users)

    def is_borne(rate: float) -> bool:
        lasting_s = min(max(seconds, NUM_FOR_P99 / rate), LONGEST_S)
        load = Load(url=server.url, rate=rate, seconds=lasting_s + WARM_UP_S)
        told = measured(load, users, warm_up_s=WARM_UP_S)
        _say(f"  {told.to_text()}")
        return told.is_borne

    rate = highest_rate(is_borne, start=start, precision=precision)
    load = Load(url=server.url, rate=max(rate, 2.0) / 2, seconds=seconds + WARM_UP_S, seed=1)
    half = measured(load, users, warm_up_s=WARM_UP_S)
    return Measured(
        alone_p50_ms=float(np.median(alone_ms)),
        alone_p99_ms=float(np.quantile(alone_ms, 0.99)),
        rate=rate,
        half_p50_ms=half.p50_ms,
        half_p99_ms=half.p99_ms,
    )


def closed_loop_ms(url: str, users: Path) -> Sequence[float]:
    """Milliseconds of requests on one connection, one after another.

    Read as the open loop reads: a client that takes its time would stand in the server's.
    """
    known = users.read_text().split("\n")
    count = NUM_ALONE_WARM_UP + NUM_ALONE
    drawn = draw_users(len(known), count, 0.0, np.random.default_rng(0))
    load = Load(url=url, rate=1.0, seconds=1.0)
    where = urlsplit(url)
    taken_ms = []
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for user in drawn.tolist():
            asked = request_bytes(load, known[user])
            began_s = time.perf_counter()
            connection.sendall(asked)
            head, _ = received(connection)
            taken_ms.append(1e3 * (time.perf_counter() - began_s))
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(head.decode())
    return taken_ms[NUM_ALONE_WARM_UP:]


def received(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head of an answer, all in small letters, and its body."""
    answer = b""
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += _some_of(connection)
    head = answer[:end].lower()
    size = int(header_in(head, b"content-length") or 0)
    while len(answer) < end + 4 + size:
        answer += _some_of(connection)
    return head, answer[end + 4 :]


def _some_of(connection: socket.socket) -> bytes:
    part = connection.recv(RECEIVED_AT_ONCE)
    if not part:
        raise RuntimeError("the server closed the connection")
    return part


def print_table(rounds: Mapping[str, Sequence[Measured]]) -> None:
    """Every round, then the medians' ratio."""
    print(f"| | one connection p50 | p99 ms | rate with p99 ≤ {LIMIT_MS:.0f} ms | ", end="")
    print("at half of it p50 | p99 ms |\n|---|---|---|---|---|---|")
    medians = {}
    for name, all_measured in rounds.items():
        lines = np.array([list(vars(one).values()) for one in all_measured])
        medians[name] = np.median(lines, axis=0)
        for number, line in enumerate(lines, start=1):
            print(f"| {name}, round {number} | {' | '.join(f'{value:.1f}' for value in line)} |")
        print(f"| **{name}, median** | {' | '.join(f'{value:.1f}' for value in medians[name])} |")
    if len(medians) == 2:
        upnext, rival = medians.values()
        ratios = upnext / np.maximum(rival, 1e-9)
        print(f"| upnext : rival | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
