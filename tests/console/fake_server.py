"""A server that tells what a test wants, on a real socket, and remembers what it is asked.

It answers for both addresses. A test gives answers by path; what has none is 404.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.console.fake_map import FakeMap
from tests.console.measured import measured_answers

Answer = Any
"""JSON, text for /metrics, or a function from the request to one of these."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    token: str | None


@dataclass
class FakeServer:
    """`answers`: by "METHOD /path"; a tuple is (status, JSON)."""

    answers: dict[str, Answer]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> tuple[int, Any]:
        self.asked.append(asked)
        told = self.answers.get(f"{asked.method} {asked.path}")
        if callable(told):
            told = told(asked)
        if told is None:
            detail = {"where": asked.path, "expected": "something", "got": "nothing", "hint": ""}
            return 404, {"error": detail}
        return told if isinstance(told, tuple) else (200, told)


class _Listener(ThreadingHTTPServer):
    """One that is gone for its clients, too, once it is closed: it hangs up on them."""

    daemon_threads = True

    def __init__(self, *about: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*about)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running(fake: FakeServer, port: int = 0) -> Iterator[FakeServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def tell(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("content-length") or 0)
            raw = self.rfile.read(length)
            token = (self.headers.get("authorization") or "").removeprefix("Bearer ") or None
            status, told = fake.answer(
                Asked(
                    method=self.command,
                    path=parts.path,
                    query=dict(parse_qsl(parts.query)),
                    body=json.loads(raw) if raw else None,
                    token=token,
                )
            )
            body = told.encode() if isinstance(told, str) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    for method in ("GET", "POST", "PUT"):
        setattr(Handler, f"do_{method}", Handler.tell)
    server = _Listener(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def release_of(version: int, **fields: Any) -> dict[str, Any]:
    """A line of GET /insight/v1/releases."""
    return {
        "version": version,
        "labels": [],
        "created_at": f"2026-11-{version % 28 + 1:02}T10:00:00Z",
        "train_until": f"2026-11-{version % 28 + 1:02}T08:00:00+00:00",
        "num_items": 4_726,
        "size_bytes": 12_345_678,
        "servers": [],
        "problem": "",
        "metrics": {},
        "has_evaluation": False,
        "training": "0123abcd",
        **fields,
    }


def ready_answers(*, now_s: float | None = None) -> dict[str, Answer]:
    """What every page asks: a server with release 2 stable and release 1 before it."""
    holder = {"server": "1-abc", "pid": 1, "state": "ready", "cause": ""}
    at_s = time.time() if now_s is None else now_s
    return (
        measured_answers()
        | FakeMap().answers()
        | {
            "GET /readyz": {
                "ready": True,
                "labels": {"stable": 2},
                "releases": [1, 2],
                "problems": {},
            },
            "GET /metrics": f'upnext_answers_total{{label="stable"}} {at_s % 1e6:.0f}\n',
            "GET /insight/v1/releases": {
                "releases": [
                    release_of(1),
                    release_of(2, labels=["stable"], servers=[holder]),
                ],
                "labels": {"stable": 2},
                "servers": [],
                "rollback": {"stable": 1},
            },
        }
    )
