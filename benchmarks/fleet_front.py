"""What the front of a fleet adds to a request: asked by it and at the server, in turns.

    python benchmarks/fleet_front.py REGISTRY --num-requests 3000

One server, one client, one request at a time: blocks of requests to the server itself and by the
front take turns, so that whatever else the machine does falls on both.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httptools
import numpy as np

from upnext.cluster.fleet.endpoint import FleetEndpoint
from upnext.cluster.fleet.fleet import Place
from upnext.serving.config import FleetConfig, HttpConfig, ServingConfig
from upnext.serving.listening import listen
from upnext.serving.server import securities_of

BLOCK = 50


class Standing:
    """A replica that is where it is."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def where(self) -> Place:
        """At once."""
        return Place(
            host="127.0.0.1", port=self._port, managing_port=self._port, node="here", pid=0
        )

    async def end(self) -> None:
        """Others do."""

    def kill(self) -> None:
        """Others do."""


class Client:
    """One connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._is_whole = False

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._is_whole = True

    def ask_ms(self, request: bytes) -> float:
        """How long an answer took, in milliseconds. Raises RuntimeError: it was none."""
        parser, self._is_whole = httptools.HttpResponseParser(self), False
        began_s = time.perf_counter()
        self._socket.sendall(request)
        while not self._is_whole:
            parser.feed_data(self._socket.recv(1 << 16))
        took_ms = (time.perf_counter() - began_s) * 1e3
        if parser.get_status_code() != 200:
            raise RuntimeError(f"status {parser.get_status_code()}")
        return took_ms


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("registry", type=Path)
    arguments.add_argument("--num-requests", type=int, default=3_000)
    arguments.add_argument("--front", type=int, nargs=2, help=argparse.SUPPRESS)
    told = arguments.parse_args()
    if told.front is not None:
        run_front(*told.front)
        return
    ports = [free_port(), free_port()]
    commands = [
        ["-m", "upnext", "serve", str(told.registry), "--port", str(ports[0])],
        [__file__, str(told.registry), "--front", str(ports[1]), str(ports[0])],
    ]
    processes = [subprocess.Popen([sys.executable, *command]) for command in commands]
    try:
        times = measured(ports, told.num_requests)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    print(json.dumps({name: spread(one) for name, one in times.items()}, indent=2))


def run_front(own: int, port: int) -> None:
    """The front alone, on a port of its own, before a server on another."""
    config = ServingConfig(http=HttpConfig(port=own), fleet=FleetConfig(num_replicas=1))
    endpoint = FleetEndpoint(
        config, securities_of(config), lambda: Standing(port), managing_port=None, say=print
    )
    endpoint.run([listen("127.0.0.1", own)])


def measured(ports: Sequence[int], num_requests: int) -> dict[str, list[float]]:
    """Times in milliseconds: of a page and of a question that costs nothing, each both ways."""
    clients = {"server": ready(ports[0]), "front": ready(ports[1])}
    page = json.dumps({"user_id": "u00017", "k": 10, "is_logged": False}).encode()
    head = b"POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    requests = {
        "page": head % len(page) + page,
        "readyz": b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    }
    times: dict[str, list[float]] = {}
    for what, request in requests.items():
        for _ in range(num_requests // BLOCK):
            for who, client in clients.items():
                of_block = [client.ask_ms(request) for _ in range(BLOCK)]
                times.setdefault(f"{what} by {who}", []).extend(of_block)
    return times


def ready(port: int) -> Client:
    """A connection to a server that is ready."""
    by_s = time.monotonic() + 60
    while True:
        try:
            client = Client(port)
            client.ask_ms(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            return client
        except (OSError, RuntimeError):
            if time.monotonic() > by_s:
                raise
            time.sleep(0.1)


def spread(times_ms: Sequence[float]) -> dict[str, float]:
    """Median and tail."""
    return {f"p{q}": round(float(np.percentile(times_ms, q)), 3) for q in (50, 90, 99)}


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
